"""What one person answered to one task of Label Studio (machinery of `label_studio`)."""

from __future__ import annotations

from typing import Any

from labelwise.exchange._geometry import MIN_SIDE_PX, BoxTuple, is_number, near
from labelwise.exchange._questions import REGION, asks_class, asks_part, buttons, n_boxes
from labelwise.exchange._reader import AnswerReader
from labelwise.types import Answer, Query
from labelwise.units import SKIPPED


def around(region: BoxTuple, size: tuple[int, int]) -> list[BoxTuple | None]:
    """What lies above, below, left and right of a region; None where there is nothing.

    >>> around((2.0, 0.0, 6.0, 5.0), (10, 8))
    [None, (0.0, 5.0, 10.0, 8.0), (0.0, 0.0, 2.0, 5.0), (6.0, 0.0, 10.0, 5.0)]
    """
    (x1, y1, x2, y2), (width, height) = region, map(float, size)
    rest = [(0.0, 0.0, width, y1), (0.0, y2, width, height), (0.0, y1, x1, y2), (x2, y1, width, y2)]
    return [box if min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE_PX else None for box in rest]


class Annotation:
    """One person's annotation of a task, taken apart."""

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
            "who": str(email) if email else f"label studio user {number if number is not None else '?'}",
            "seconds": float(seconds) if is_number(seconds) and seconds > 0 else 0.0,  # type: ignore[operator,arg-type]
        }

    def answer(self, one_class: bool) -> Answer | None:
        """The answer; None where it is not finished or not sound (a problem says why)."""
        before = len(self.reader.problems)
        if self.raw.get("was_cancelled"):
            return self.reader.answer(self.query, SKIPPED, self.where, note="skipped in Label Studio", **self.rest)
        results = self.raw.get("result")
        if not isinstance(results, list):
            self.reader.problem("no annotations", self.where, f"result is {str(results)[:80]}; expected a list")
            return None
        for k, result in enumerate(results, start=1):
            self._sort_in(result, f"{self.where}, result {k}")
        if len(self.reader.problems) > before:
            return None
        note = " ".join(str(part) for part in self.choices["note"])
        if asks_class(self.query, one_class):
            return self._class(note)
        words, chosen = buttons(self.query), [str(word) for word in self.choices["verdict"]]
        if len(chosen) != 1 or chosen[0] not in words:
            what = f"{', '.join(chosen) or 'nothing'} was chosen; expected one of {', '.join(words)}"
            self.reader.unfinished(self.where, what)
            return None
        verdict = words[chosen[0]]
        if n_boxes(self.query, verdict) == "any":
            drawn = [(self._object(raw, place), place) for raw, place in self.new]
            objects = [(*made, place) for made, place in drawn if made is not None]
            whole = len(objects) == len(drawn)
            return (
                self.reader.all_objects(self.query, verdict, objects, self.where, note=note, **self.rest)
                if whole
                else None
            )
        if n_boxes(self.query, verdict) == "one":
            return self._one(verdict, note)
        self._left_out(self.new)
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
        return (
            None
            if made is None
            else self.reader.one_object(self.query, verdict, *made, self.where, note=note, **self.rest)
        )

    def _class(self, note: str) -> Answer | None:
        chosen = self.choices["class"]
        words = buttons(self.query)
        if not chosen and [words.get(str(word)) for word in self.choices["verdict"]] == [SKIPPED]:
            return self.reader.answer(self.query, SKIPPED, self.where, note=note, **self.rest)
        if len(chosen) != 1 or self.choices["verdict"]:
            self.reader.unfinished(self.where, f"{len(chosen)} classes are chosen; expected one, or skip")
            return None
        label, whole = self.reader.label(chosen[0], self.where), self.reader.asked_box(self.query)
        verdict = next(one for one in words.values() if n_boxes(self.query, one) == "any")
        if label is None:
            return None
        return self.reader.all_objects(
            self.query, verdict, [(whole, label, self.where)], self.where, note=note, **self.rest
        )

    def _sort_in(self, result: Any, where: str) -> None:
        """Puts one result where it belongs."""
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            self.reader.problem("edited by hand", where, f"{str(result)[:80]}; expected a result with its value")
            return
        name, kind = str(result.get("from_name")), str(result.get("type"))
        if kind in ("choices", "textarea") and name in self.choices:
            given = value.get("choices" if kind == "choices" else "text", [])
            self.choices[name] += given if isinstance(given, list) else [given]
        elif (name, kind) == ("object", "rectanglelabels"):
            if value.get("rectanglelabels") == [REGION] or str(result.get("id")).startswith("r-"):
                self._check_region(result, where)
            elif result.get("id") == f"q-{self.query.id}":
                self.candidate.append(result)
            elif result.get("readonly") and str(result.get("id")).startswith("c-"):
                self._check_context(result, where)
            else:
                self.new.append((result, where))
        else:
            self.reader.problem(
                "edited by hand", where, f"a {kind} of {name!r}: not in the configuration that was sent"
            )

    def _check_region(self, result: dict[str, Any], where: str) -> None:
        """A dark part is as it was sent; any other box of that label is a slip."""
        place, box = str(result.get("id")).removeprefix(f"r-{self.query.id}-"), self._pixels(result)
        dark = around(self.reader.asked_box(self.query), self.reader.sizes[self.query.image])
        sent = dark[int(place)] if asks_part(self.query) and place in ("0", "1", "2", "3") else None
        labelled = result["value"].get("rectanglelabels") == [REGION]
        if sent is None or box is None or not near(sent, box) or not labelled:
            what = f"a box of {REGION} that is not as it was sent with query {self.query.id}"
            self.reader.problem("edited by hand", where, what)

    def _check_context(self, result: dict[str, Any], where: str) -> None:
        number, known = str(result["id"])[2:], self.data.get("known")
        listed = known if isinstance(known, list) else []
        sent = listed[int(number)] if number.isascii() and number.isdigit() and int(number) < len(listed) else None
        box = self._pixels(result)
        numbers = sent[:4] if isinstance(sent, list) and len(sent) == 5 and all(map(is_number, sent[:4])) else None
        same = numbers is not None and box is not None and near(box, numbers)
        if not same or result["value"].get("rectanglelabels") != [sent[4]]:  # type: ignore[index]
            self.reader.problem("edited by hand", where, "a read-only box of an earlier answer was changed")

    def _left_out(self, extra: list[tuple[dict[str, Any], str]]) -> None:
        for _, where in extra:
            self.reader.problem("not asked", where, f"a box beside the answer to query {self.query.id}", "left out")

    def _object(self, result: dict[str, Any], where: str) -> tuple[BoxTuple, int] | None:
        names = result["value"].get("rectanglelabels")
        if result["value"].get("rotation", 0) not in (0, None):
            self.reader.problem(
                "rotated box", where, f"rotation {result['value']['rotation']}; expected 0: draw it upright"
            )
            return None
        size = [result.get("original_width"), result.get("original_height")]
        wanted = self.reader.sizes[self.query.image]
        if size != list(wanted):
            self.reader.problem(
                "another image", where, f"it was shown as {size} pixels; {self.query.image} has {wanted}"
            )
            return None
        if not isinstance(names, list) or len(names) != 1:
            self.reader.unfinished(where, f"a box with the classes {str(names)[:80]}; expected one")
            return None
        label = self.reader.label(names[0], where)
        box = self.reader.box(self._pixels(result), self.query.image, where)
        return None if label is None or box is None else (box, label)

    def _pixels(self, result: dict[str, Any]) -> BoxTuple | None:
        """The rectangle in pixels; None where it is none."""
        value = [result["value"].get(key) for key in ("x", "y", "width", "height")]
        if not all(is_number(v) for v in value):
            return None
        (x, y, w, h), (width, height) = map(float, value), self.reader.sizes[self.query.image]
        return x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100
