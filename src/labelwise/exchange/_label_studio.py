"""What one person answered to one task of Label Studio (machinery of `label_studio`)."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import Any

from labelwise import units
from labelwise.exchange._geometry import MIN_SIDE_PX, BoxTuple, crop, fits, is_number, near, same, turned
from labelwise.exchange._questions import REGION, asks_class, asks_one, asks_part, buttons, has_rectangle, n_boxes
from labelwise.exchange._reader import AnswerReader, shown, text_of
from labelwise.types import Answer, Query, Suggestion

_BESIDE = ("choices", "datetime", "number", "pairwise", "ranker", "rating", "taxonomy", "textarea")
"""Results of controls that draw nothing."""
_CONTEXT = re.compile("c-([0-9]{1,6})")
_MOST_SUGGESTED = 1000


def around(region: BoxTuple, size: tuple[int, int]) -> list[BoxTuple | None]:
    """What lies above, below, left and right of a region; None where there is nothing.

    >>> around((2.0, 0.0, 6.0, 5.0), (10, 8))
    [None, (0.0, 5.0, 10.0, 8.0), (0.0, 0.0, 2.0, 5.0), (6.0, 0.0, 10.0, 5.0)]
    """
    (x1, y1, x2, y2), (width, height) = region, map(float, size)
    rest = [(0.0, 0.0, width, y1), (0.0, y2, width, height), (0.0, y1, x1, y2), (x2, y1, width, y2)]
    return [box if min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE_PX else None for box in rest]


class Annotation:
    """One person's annotation of a task, taken apart.

    A box that was sent is known again by its id, or, where the tool gave it another, by its place and class.
    """

    def __init__(
        self, reader: AnswerReader, query: Query, data: dict[str, Any], raw: dict[str, Any], where: str
    ) -> None:
        self.reader, self.query, self.data, self.raw, self.where = reader, query, data, raw, where
        self.choices: dict[str, list[Any]] = {"verdict": [], "class": [], "note": []}
        self.candidate: list[dict[str, Any]] = []
        self.new: list[tuple[dict[str, Any], str]] = []
        seconds = raw.get("lead_time")
        by = raw.get("completed_by")
        email = by.get("email") if isinstance(by, dict) else None
        number = by.get("id") if isinstance(by, dict) else by
        self.rest: dict[str, Any] = {
            "who": text_of(email) if email else f"label studio user {shown(number) if number is not None else '?'}",
            "seconds": float(seconds) if is_number(seconds) and seconds > 0 else 0.0,  # type: ignore[operator,arg-type]
        }

    def skip(self) -> Answer | None:
        """The answer of Label Studio's own skip button."""
        return self.reader.answer(self.query, units.SKIPPED, self.where, note="skipped in Label Studio", **self.rest)

    def answer(self, one_class: bool) -> Answer | None:
        """The answer; None where it is not finished or not sound (a problem says why)."""
        before = len(self.reader.problems)
        results = self.raw.get("result")
        if not isinstance(results, list):
            self.reader.problem("no annotations", self.where, f"result is {shown(results)}; expected a list")
            return None
        for k, result in enumerate(results, start=1):
            self._sort_in(result, f"{self.where}, result {k}")
        if any(problem.handling != "left out" for problem in self.reader.problems[before:]):
            return None
        note = " ".join(map(text_of, self.choices["note"]))
        if asks_class(self.query, one_class):
            return self._class(note)
        words, chosen = buttons(self.query), list(map(shown, self.choices["verdict"]))
        accepts = {word for word, verdict in words.items() if n_boxes(self.query, verdict) == "one"}
        if set(chosen) <= accepts and self._is_deleted():
            return self._no_object(", ".join(chosen), note)
        if len(chosen) != 1 or chosen[0] not in words:
            what = f"{', '.join(chosen) or 'nothing'} was chosen; expected one of {', '.join(words)}"
            self.reader.unfinished(self.where, what)
            return None
        verdict = words[chosen[0]]
        if n_boxes(self.query, verdict) == "any":
            drawn = [(self._object(raw, place), place) for raw, place in self.new]
            objects = [(*made, place) for made, place in drawn if made is not None]
            if len(objects) < len(drawn):
                return None
            answer = self.reader.all_objects(self.query, verdict, objects, self.where, note=note, **self.rest)
            return None if answer is None else self._with_suggested(answer, objects)
        if n_boxes(self.query, verdict) == "one":
            return self._one(verdict, note)
        self._left_out(self.new)
        return self.reader.answer(self.query, verdict, self.where, note=note, **self.rest)

    def _with_suggested(self, answer: Answer, objects: list[tuple[BoxTuple, int, str]]) -> Answer:
        """The answer with what was suggested: which box each became, by its id, else by its place and class."""
        area = self.reader.asked_box(self.query)
        inside = [not has_rectangle(self.query) or crop(box, area) is not None for box, _, _ in objects]
        ids = [raw.get("id") for (raw, _), kept in zip(self.new, inside, strict=True) if kept]
        boxes, labels, free = list(answer.boxes), list(answer.labels), set(range(len(answer.boxes)))
        offered = []
        for k, (sent, label) in enumerate(self._sent_suggestions):
            as_sent = [n for n in sorted(free) if near(boxes[n], sent) and labels[n] == label]
            own = [n for n in sorted(free) if ids[n] == f"s-{self.query.id}-{k}"]
            number = next(iter([*own, *as_sent]), None)
            if number is not None:
                free.discard(number)
                boxes[number] = sent if number in as_sent else boxes[number]
            offered.append(Suggestion(sent, label, "model", self.query.image, number))
        return replace(answer, boxes=tuple(boxes), suggested=tuple(offered))

    @cached_property
    def _sent_suggestions(self) -> list[tuple[BoxTuple, int]]:
        """The boxes that were suggested with the task; what is none is left out."""
        listed, classes = self.data.get("suggested"), self.reader.classes
        rows = [row for row in (listed if isinstance(listed, list) else ()) if isinstance(row, list) and len(row) == 6]
        sound = [row for row in rows[:_MOST_SUGGESTED] if all(map(is_number, row[:4])) and row[4] in classes]
        size = self.reader.sizes[self.query.image]
        return [
            ((x1, y1, x2, y2), classes.index(name)) for x1, y1, x2, y2, name, _ in sound if fits((x1, y1, x2, y2), size)
        ]

    def _is_deleted(self) -> bool:
        """Whether the candidate is gone and nothing was drawn for it. Where no box of before is left either, nobody
        may have seen what was sent: then it is not.
        """
        nothing = not self.candidate and not self.new and asks_one(self.query)
        began = bool(self.raw.get("result")) or bool(self.raw.get("parent_prediction")) or not self._known
        return nothing and began and self.reader.no_object(self.query) is not None

    def _no_object(self, chosen: str, note: str) -> Answer | None:
        self.reader.deleted(self.query, self.where, f" ({chosen} was chosen)" if chosen else "")
        verdict = self.reader.no_object(self.query)
        assert verdict is not None
        return self.reader.answer(self.query, verdict, self.where, note=note, **self.rest)

    def _one(self, verdict: str, note: str) -> Answer | None:
        taken, extra = (self.candidate[0], self.new) if self.candidate else (None, self.new[1:])
        if taken is None and len(self.new) == 1:
            taken = self.new[0][0]
        if taken is None:
            what = f"accepted, but the candidate is gone and {len(self.new)} boxes are drawn; expected one"
            self.reader.unfinished(self.where, what)
            return None
        made = self._object(taken, self.where)
        self._left_out(extra)
        if made is None:
            return None
        return self.reader.one_object(self.query, verdict, *made, self.where, note=note, **self.rest)

    def _class(self, note: str) -> Answer | None:
        chosen = self.choices["class"]
        words = buttons(self.query)
        if not chosen and [words.get(shown(word)) for word in self.choices["verdict"]] == [units.SKIPPED]:
            return self.reader.answer(self.query, units.SKIPPED, self.where, note=note, **self.rest)
        if len(chosen) != 1 or self.choices["verdict"]:
            self.reader.unfinished(self.where, f"{len(chosen)} classes are chosen; expected one, or skip")
            return None
        label, whole = self.reader.label(chosen[0], self.where), self.reader.asked_box(self.query)
        verdict = next(one for one in words.values() if n_boxes(self.query, one) == "any")
        if label is None:
            return None
        objects = [(whole, label, self.where)]
        return self.reader.all_objects(self.query, verdict, objects, self.where, note=note, **self.rest)

    def _sort_in(self, result: Any, where: str) -> None:
        """Puts one result where it belongs."""
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            self.reader.problem("edited by hand", where, f"{shown(result)}; expected a result with its value")
            return
        name, kind = shown(result.get("from_name")), shown(result.get("type"))
        if kind in ("choices", "textarea") and name in self.choices:
            given = value.get("choices" if kind == "choices" else "text", [])
            self.choices[name] += given if isinstance(given, list) else [given]
        elif (name, kind) == ("object", "rectanglelabels"):
            self._sort_in_box(result, value, where)
        elif kind in _BESIDE:
            what = f"{kind} of {name!r}: not in the configuration that was sent"
            self.reader.problem("other control", where, what, "left out")
        else:
            what = f"a {kind} of {name!r}: not in the configuration that was sent"
            self.reader.problem("edited by hand", where, what)

    def _sort_in_box(self, result: dict[str, Any], value: dict[str, Any], where: str) -> None:
        own = result.get("id") if isinstance(result.get("id"), str) else ""
        context = _CONTEXT.fullmatch(str(own))
        if value.get("rectanglelabels") == [REGION] or str(own).startswith(f"r-{self.query.id}-"):
            self._check_region(result, where)
        elif own == f"q-{self.query.id}" and asks_one(self.query):
            self.candidate.append(result)
        elif context is not None:
            self._check_context(result, int(context[1]), where)
        elif self._is_known(result):
            return
        elif asks_one(self.query) and not self.candidate and self._is_candidate(result):
            self.candidate.append(result)
        else:
            self.new.append((result, where))

    @cached_property
    def _known(self) -> list[tuple[BoxTuple, Any]]:
        """The boxes annotated before that were sent with the task; what is none is left out."""
        listed = self.data.get("known")
        rows = [row for row in (listed if isinstance(listed, list) else ()) if isinstance(row, list) and len(row) == 5]
        return [(tuple(row[:4]), row[4]) for row in rows if all(map(is_number, row[:4]))]

    def _is_known(self, result: dict[str, Any]) -> bool:
        box, labels = self._pixels(result), result["value"].get("rectanglelabels")
        upright = box is not None and not self._turn(result)
        return upright and any(labels == [name] and same(box, sent) for sent, name in self._known)  # type: ignore[arg-type]

    def _is_candidate(self, result: dict[str, Any]) -> bool:
        box = self._pixels(result)
        return box is not None and not self._turn(result) and self.reader.unchanged(self.query, box)

    def _check_region(self, result: dict[str, Any], where: str) -> None:
        """A dark part is as it was sent; any other box of that label is a slip."""
        box = self._pixels(result)
        dark = around(self.reader.asked_box(self.query), self.reader.sizes[self.query.image])
        labelled = result["value"].get("rectanglelabels") == [REGION] and asks_part(self.query) and box is not None
        if not labelled or not any(sent is not None and near(sent, box) for sent in dark):  # type: ignore[arg-type]
            what = f"a box of {REGION} that is not as it was sent with query {self.query.id}"
            self.reader.problem("edited by hand", where, what)

    def _check_context(self, result: dict[str, Any], number: int, where: str) -> None:
        box = self._pixels(result)
        sent, name = self._known[number] if number < len(self._known) else (None, None)
        unchanged = sent is not None and box is not None and near(box, sent)
        if not unchanged or result["value"].get("rectanglelabels") != [name]:
            self.reader.problem("edited by hand", where, "a read-only box of an earlier answer was changed")

    def _left_out(self, extra: list[tuple[dict[str, Any], str]]) -> None:
        for _, where in extra:
            self.reader.problem("not asked", where, f"a box beside the answer to query {self.query.id}", "left out")

    def _object(self, result: dict[str, Any], where: str) -> tuple[BoxTuple, int] | None:
        names = result["value"].get("rectanglelabels")
        size = [result.get("original_width"), result.get("original_height")]
        wanted = self.reader.sizes[self.query.image]
        if size != list(wanted):
            what = f"it was shown as {shown(size)} pixels; {self.query.image} has {wanted}"
            self.reader.problem("another image", where, what)
            return None
        if not isinstance(names, list) or len(names) != 1:
            self.reader.unfinished(where, f"a box with the classes {shown(names)}; expected one")
            return None
        label, pixels, degrees = self.reader.label(names[0], where), self._pixels(result), self._turn(result)
        if pixels is not None and degrees:
            self.reader.problem("rotated box", where, f"rotation {degrees:g}", "its hull box is used")
            pixels = turned(pixels, degrees, about=pixels[:2])
        box = self.reader.box(pixels, self.query.image, where)
        return None if label is None or box is None else (box, label)

    def _turn(self, result: dict[str, Any]) -> float:
        degrees = result["value"].get("rotation", 0)
        return float(degrees) if is_number(degrees) else 0.0

    def _pixels(self, result: dict[str, Any]) -> BoxTuple | None:
        """The rectangle in pixels, not turned; None where it is none."""
        value = [result["value"].get(key) for key in ("x", "y", "width", "height")]
        if not all(is_number(v) for v in value):
            return None
        (x, y, w, h), (width, height) = map(float, value), self.reader.sizes[self.query.image]
        return x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100
