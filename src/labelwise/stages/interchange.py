"""Queries out, answers in: between the project and files of other tools."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from labelwise import catalog, files
from labelwise.exchange._geometry import BoxTuple, crop, same
from labelwise.exchange._questions import has_rectangle, n_boxes
from labelwise.exchange._reader import REFUSED as REFUSED
from labelwise.ledger import import_export
from labelwise.ledger.import_export import ImportResult
from labelwise.ledger.ledger import Ledger
from labelwise.project.context import Context
from labelwise.project.prices import Prices
from labelwise.stages import prefill
from labelwise.types import Answer, LabelwiseError, Pool, Problem, Query
from labelwise.types.disk import replacing
from labelwise.units import SKIPPED


def open_queries(context: Context, round_number: int | None) -> list[Query]:
    """The open queries of a round (of the last one that asked, unless named)."""
    ledger = context.project.ledger
    asked = sorted({query.round for query in ledger.queries()})
    if not asked:
        raise LabelwiseError(f"{context.project.folder}: nothing was asked yet; run it with `labelwise run` first")
    chosen = asked[-1] if round_number is None else round_number
    gone = {context.pool.names[i] for i in context.pool.unavailable}
    found = [query for query in ledger.open_queries(chosen) if query.image not in gone]
    if not found:
        raise LabelwiseError(f"{context.project.folder}: round {chosen} has no open query; rounds that asked: {asked}")
    return found


def query_files(
    context: Context, tool: str, queries: Sequence[Query], *, image_url: str | None = None
) -> dict[str, bytes]:
    """What is sent to a tool: the content of each file, by its name."""
    pool, ledger = context.pool, context.project.ledger
    _definition(tool)
    method = catalog.find("exchange", tool)
    menu = {"queries": queries, "pool": pool, "project": import_export.project_id(ledger)}
    menu |= {"known": context.known().annotations, "one_class": context.run.classifies}
    if "suggested" in method.inputs:
        menu["suggested"] = prefill.of_queries(context, queries)
    settings = {}
    if "image_url" in method.settings:
        url = method.settings["image_url"].default if image_url is None else image_url
        settings["image_url"] = url.replace("{name}", "{name}.png") if has_no_files(pool) else url
    contents: dict[str, bytes] = method.call(menu, settings)
    return contents


def has_no_files(pool: Pool) -> bool:
    """Whether its images are frames of videos, or of an archive, and no files of their own."""
    return pool.pixels is not None or pool.frames is not None


def draw(context: Context, names: Iterable[str], folder: Path) -> list[Path]:
    """Writes images as PNG, where they are frames of videos or of an archive and no files of their own."""
    pool, made = context.pool, []
    if not has_no_files(pool):
        return []
    for name in dict.fromkeys(names):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise LabelwiseError(f"{name}: cannot be written below {folder}; rename the image")
        shown = context.frame(pool.number_of[name])
        made.append(folder / f"{name}.png")
        with replacing(made[-1]) as partial:
            Image.fromarray(shown).save(partial, format="PNG")
    return made


def write_queries(
    context: Context, tool: str, folder: Path, round_number: int | None, *, image_url: str | None = None
) -> tuple[int, list[Path]]:
    """Writes the open queries for a tool; how many, and the files."""
    queries = open_queries(context, round_number)
    contents = query_files(context, tool, queries, image_url=image_url)
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    by_frame = getattr(_definition(tool), "FRAMES_OF_VIDEO", False)
    drawn = [] if by_frame else draw(context, (query.image for query in queries), folder / "images")
    return len(queries), [*(folder / name for name in contents), *([folder / "images"] if drawn else [])]


def cannot_carry(tool: str) -> tuple[str, ...]:
    """What a tool's file does not hold."""
    return tuple(_definition(tool).CANNOT_CARRY)


def tool_of(content: bytes) -> str:
    """Which tool a file comes from, by what it looks like."""
    known = catalog.names("exchange")
    found = [tool for tool in known if _definition(tool).detect(content)]
    if not found:
        raise LabelwiseError(f"this is no answer file that labelwise knows; say which with --from ({', '.join(known)})")
    if len(found) > 1:
        raise LabelwiseError(f"this may be a file of {' or '.join(found)}; say which with --from")
    return found[0]


def take_in(
    context: Context,
    content: bytes,
    tool: str,
    *,
    who: str | None = None,
    unfinished: bool = False,
    second_opinions: bool = False,
    partial: bool = False,
    rename: Mapping[str, str] | None = None,
) -> ImportResult:
    """Records the answers of a file, all or none; a file that was taken in before writes nothing.

    `unfinished`: what nobody has finished stays open, the rest is taken. `partial`: so does all that would refuse the
    file. `second_opinions`: several answers to one query are kept, of which the first counts. `rename`: the class of
    ours that a name in the file means.
    """
    ledger, pool, one_class = context.project.ledger, context.pool, context.run.classifies
    _check_rename(rename or {}, pool)
    queries, n_classes, unanswered = ledger.queries(), len(pool.classes), import_export.unanswered(ledger)
    menu = {"content": content, "queries": queries, "pool": pool, "project": import_export.project_id(ledger)}
    menu |= {"one_class": one_class, "unfinished": unfinished or partial, "rename": rename or {}}
    menu |= {"unanswered": unanswered} | ({} if who is None else {"who": who})
    by_id = {query.id: query for query in queries}
    found, problems = _read(tool, menu)
    found, twice = _one_answer(found, second_opinions)
    found, known = (found, []) if one_class else _without_known(found, by_id, ledger)
    problems += [*twice, *known]
    if partial:
        problems = [replace(one, handling="left out") if one.handling == REFUSED else one for one in problems]
    if any(problem.handling == REFUSED for problem in problems):
        return ImportResult(0, 0, tuple(problems))
    records = [(by_id[answer.query], replace(answer, classes=n_classes)) for answer in found]
    prices = Prices(context)
    priced = [(query, answer, prices.of(query, answer)) for query, answer in records]
    places = [f"query {query.id} on {query.image}" for query, _ in records]
    how = {"second_opinions": second_opinions, "partial": partial}
    taken = import_export.take_in(ledger, priced, places, f"import {tool}", **how)
    rounds = {query.round for query, _ in records}
    still = unanswered - {answer.query for answer in found}
    n_open = sum(not rounds or by_id[number].round in rounds for number in still)
    return replace(taken, problems=(*problems, *taken.problems), n_open=n_open)


def _check_rename(rename: Mapping[str, str], pool: Pool) -> None:
    for name, own in rename.items():
        if own not in pool.classes:
            raise LabelwiseError(catalog.unknown(f"class for {name!r}", own, list(pool.classes)))


def _one_answer(found: Sequence[Answer], second_opinions: bool) -> tuple[list[Answer], list[Problem]]:
    """One answer per query, but for second opinions. A skip beside an answer is none; an answer may be there twice."""
    by_query: dict[int, list[Answer]] = {}
    for answer in found:
        by_query.setdefault(answer.query, []).append(answer)
    kept, problems = [], []
    for query, several in by_query.items():
        where, said = f"query {query}", [a for a in several if a.verdict != SKIPPED] or several[:1]
        for answer in several:
            if answer.verdict == SKIPPED and not any(answer is one for one in said):
                kind = "skip beside an answer" if said[0].verdict != SKIPPED else "answered twice"
                problems.append(Problem(kind, where, f"{answer.who} skipped it", "left out"))
        distinct = list({replace(answer, seconds=0.0): answer for answer in reversed(said)}.values())[::-1]
        if len(distinct) < len(said):
            what = f"{said[0].who} said the same {len(said) - len(distinct) + 1} times"
            problems.append(Problem("answered twice", where, what, "counts once"))
        if len(distinct) > 1 and not second_opinions:
            named = ", ".join(f"{answer.who} ({answer.verdict})" for answer in distinct)
            what = f"by {named}; --second-opinions keeps all, and the first counts"
            problems.append(Problem("answered twice", where, what, REFUSED))
        else:
            kept += distinct
    return kept, problems


def _without_known(
    found: Sequence[Answer], queries: Mapping[int | None, Query], ledger: Ledger
) -> tuple[list[Answer], list[Problem]]:
    """The answers without the boxes that were annotated before: context that came back as if somebody had drawn it."""
    images = list(dict.fromkeys(queries[a.query].image for a in found if _is_area(queries[a.query], a)))
    own, known = {answer.query for answer in found}, dict[tuple[str, int], list[BoxTuple]]()
    for image, query_id, box, label in import_export.annotations_on(ledger, images):
        if query_id not in own:  # what the file itself said when it was taken in before is no context
            known.setdefault((image, label), []).append(box)
    kept, problems = [], []
    for answer in found:
        query, drawn = queries[answer.query], list(zip(answer.boxes, answer.labels, strict=True))
        if _is_area(query, answer):
            new = [(box, c) for box, c in drawn if not _is_known(box, known.get((query.image, c), ()), query)]
            if len(new) < len(drawn):
                what = f"{len(drawn) - len(new)} boxes of query {query.id} were annotated before"
                problems.append(Problem("known box", f"image {query.image}", what, "not taken twice"))
                answer = _with_objects(answer, new)
        kept.append(answer)
    return kept, problems


def _with_objects(answer: Answer, kept: Sequence[tuple[BoxTuple, int]]) -> Answer:
    """The answer with some of its objects; a suggestion that became none of them was there before."""
    boxes, labels = tuple(b for b, _ in kept), tuple(c for _, c in kept)
    made = [
        None if one.number is None else (answer.boxes[one.number], answer.labels[one.number])
        for one in answer.suggested
    ]
    offered = [
        replace(one, number=kept.index(object_))
        for one, object_ in zip(answer.suggested, made, strict=True)
        if object_ in kept
    ] + [one for one in answer.suggested if one.number is None]
    return replace(answer, boxes=boxes, labels=labels, suggested=tuple(offered))


def _is_area(query: Query, answer: Answer) -> bool:
    return bool(answer.boxes) and n_boxes(query, answer.verdict) == "any"


def _is_known(box: BoxTuple, known: Sequence[BoxTuple], query: Query) -> bool:
    """Whether a box is one of those annotated before, or the part of it that lies in the asked region."""
    parts = (crop(one, query.box) if has_rectangle(query) and query.box is not None else one for one in known)
    return any(part is not None and same(box, part) for part in parts)


def _read(tool: str, menu: dict[str, Any]) -> tuple[list[Answer], list[Problem]]:
    """What a format's `read` finds, given what it names of the menu; who answered, where the file does not say."""
    function = _definition(tool).read
    named = inspect.signature(function).parameters
    missing = [name for name, one in named.items() if one.default is one.empty and name not in menu]
    if missing:
        raise LabelwiseError(f"{tool}: its read needs {', '.join(missing)}; here there is only: {', '.join(menu)}")
    found, problems = function(**{name: menu[name] for name in named if name in menu})
    if "who" in menu and "who" not in named:  # the tool names people, and the word given here stands above it
        found = [replace(answer, who=menu["who"]) for answer in found]
    return found, problems


def _definition(tool: str) -> Any:
    """The file of a format; a dotted name is a module of the user's own."""
    if "." not in tool and tool not in catalog.names("exchange"):
        raise LabelwiseError(catalog.unknown("tool", tool, catalog.names("exchange")))
    module = importlib.import_module(catalog.find("exchange", tool).module)
    missing = [name for name in ("read", "CANNOT_CARRY") if not hasattr(module, name)]
    if missing:
        raise LabelwiseError(f"{tool} lacks {', '.join(missing)}; labelwise/exchange/__init__.py tells what it defines")
    return module
