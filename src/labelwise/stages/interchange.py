"""Queries out, answers in, and the training set that came of it: between the project and files of other tools."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from labelwise import catalog, files
from labelwise.ask import cost as costs
from labelwise.exchange._reader import REFUSED as REFUSED
from labelwise.ledger import image_files, import_export
from labelwise.ledger.import_export import ImportResult
from labelwise.project.context import Context
from labelwise.report import card, training_set
from labelwise.types import Answer, Boxes, Labels, LabelwiseError, Pool, Problem, Query
from labelwise.types.disk import new_folder, readable_errors, remove_leftovers, replacing, to_json


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
    menu |= {"known": ledger.labels(pool).annotations, "one_class": context.run.classifies}
    settings = {}
    if "image_url" in method.settings:
        url = method.settings["image_url"].default if image_url is None else image_url
        settings["image_url"] = url.replace("{name}", "{name}.png") if _has_no_files(pool) else url
    contents: dict[str, bytes] = method.call(menu, settings)
    return contents


def _has_no_files(pool: Pool) -> bool:
    return pool.pixels is not None or pool.frames is not None


def draw(context: Context, queries: Sequence[Query], folder: Path) -> list[Path]:
    """Writes the asked images as PNG, where they are frames of videos or of an archive and no files of their own."""
    pool, made = context.pool, []
    if not _has_no_files(pool):
        return []
    number = {name: k for k, name in enumerate(pool.names)}
    for name in dict.fromkeys(query.image for query in queries):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise LabelwiseError(f"{name}: cannot be written below {folder}; rename the image")
        shown = context.frame(number[name])
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
    drawn = [] if by_frame else draw(context, queries, folder / "images")
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
) -> ImportResult:
    """Records the answers of a file, all or none; a file that was taken in before writes nothing."""
    ledger, pool, one_class = context.project.ledger, context.pool, context.run.classifies
    queries, n_classes = ledger.queries(), len(pool.classes)
    menu = {"content": content, "queries": queries, "pool": pool, "project": import_export.project_id(ledger)}
    menu |= {"one_class": one_class, "unfinished": unfinished} | ({} if who is None else {"who": who})
    found, problems = _read(tool, menu)
    problems += _duplicates(found, second_opinions)
    if any(problem.handling == REFUSED for problem in problems):
        return ImportResult(0, 0, tuple(problems))
    by_id = {query.id: query for query in queries}
    records = [(by_id[answer.query], replace(answer, classes=n_classes)) for answer in found]
    priced = [
        (query, answer, costs.cost(query, answer, context.run.cost, one_class=one_class)) for query, answer in records
    ]
    places = [f"query {query.id} on {query.image}" for query, _ in records]
    taken = import_export.take_in(ledger, priced, places, f"import {tool}", second_opinions=second_opinions)
    return replace(taken, problems=(*problems, *taken.problems))


def _duplicates(found: Sequence[Answer], second_opinions: bool) -> list[Problem]:
    """Queries that several people answered in one file."""
    if second_opinions:
        return []
    several = [query for query, n in Counter(answer.query for answer in found).items() if n > 1]
    return [
        Problem(
            "answered twice",
            f"query {query}",
            f"by {', '.join(a.who for a in found if a.query == query)}; --second-opinions keeps all, the first counts",
            REFUSED,
        )
        for query in several
    ]


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


# ---- the training set ---------------------------------------------------------------------------------------------


LOOKED_AT = "coco"
"""The one data format that tells what of an image was looked at; any other holds wholly looked-over images alone."""


def set_formats() -> list[str]:
    """The data formats that can be written, too."""
    return catalog.defining("data", "write")


def write_set(context: Context, to: str, folder: Path, *, copy_images: bool = True) -> list[str]:
    """Writes the training set and its data card; tells, line by line, what the format could not carry. The
    folder appears in one step: killed, the same command does it again.
    """
    if to not in set_formats():
        raise LabelwiseError(catalog.unknown("format", to, set_formats()))
    if folder.exists() and any(folder.iterdir()):
        raise LabelwiseError(f"{folder}: exists already. Choose another folder, or remove it first")
    pool, ledger = context.pool, context.project.ledger
    labels, rows = ledger.labels(pool), import_export.current_annotations(ledger)
    whole, part = training_set.split_by_coverage(pool, labels)
    notes, project = _missing_images(context, to, [*whole.tolist(), *part.tolist()]), import_export.project_id(ledger)
    if to != LOOKED_AT:  # the images are written, too
        whole = whole[pool.available[whole]]
    remove_leftovers(folder.parent, below=False, name=folder.name)  # of an export that was killed
    with readable_errors(folder), new_folder(folder) as made:
        if to == LOOKED_AT:
            about = _write_coco(pool, labels, rows, made, project, whole, part)
            notes.append(f"images: not copied; file names are relative to the data set, {pool.root}")
        else:
            about = _write_plain(context, to, made, labels.annotations, whole, copy_images)
            boxes = int(np.diff(labels.annotations.offsets)[part].sum())
            if len(part):
                notes.append(
                    f"{len(part)} images with {boxes} boxes, of which only boxes or regions were asked: {to} would "
                    "make everything else in them background (coco carries them, in a file of its own)"
                )
            notes.append(
                f"who answered, round and query of each box, and rejected candidates: {to} has no place for it"
            )
        files.write_text(made / "DATA_CARD.md", card.text(_card(context, project, whole, part, about)))
    unseen = len(pool) - len(whole) - len(part)
    if unseen:
        notes.append(f"{unseen} images that nobody looked at: left out, so that they are not taken for empty ones")
    return notes


def _missing_images(context: Context, to: str, labelled: Sequence[int]) -> list[str]:
    """Notes on images that are gone, unreadable, or not those that were labelled."""
    states = image_files.unavailable(context.project.ledger)
    held = sorted(name for name, state in states.items() if state.why == image_files.CHANGED)
    gone = [context.pool.names[i] for i in labelled if i in context.pool.unavailable]
    notes = []
    if gone:
        what = "their labels are written" if to == LOOKED_AT else "left out"
        notes.append(f"{len(gone)} labelled images cannot be read now, {gone[0]} among them: {what}")
    if held:
        notes.append(
            f"{len(held)} images changed since they were labelled, {held[0]} among them: their labels are held back "
            "(`labelwise images`)"
        )
    return notes


def _write_coco(
    pool: Pool,
    labels: Labels,
    rows: list[dict[str, Any]],
    folder: Path,
    project: str,
    whole: np.ndarray,
    part: np.ndarray,
) -> dict[str, str]:
    """COCO: what was looked at as a whole, and in a file of its own what was not."""
    written = {"annotations/instances_train.json": (whole, False), "partly_labelled.json": (part, True)}
    for name, (images, partly) in written.items():
        content = training_set.coco(pool, labels, rows, images, project=project, part=partly)
        files.write_text(folder / name, to_json(content) + "\n")
    return {
        "annotations/instances_train.json": f"{len(whole)} images that were looked at as a whole",
        "partly_labelled.json": f"{len(part)} images of which only boxes or regions were asked; honour `coverage`",
    }


def _write_plain(
    context: Context, to: str, folder: Path, boxes: Boxes, whole: np.ndarray, copy_images: bool
) -> dict[str, str]:
    """Only what was looked at as a whole."""
    pool = context.pool
    if context.run.classifies:
        raise LabelwiseError(f"{to} cannot carry classes of whole images; export to coco")
    if not len(whole):
        raise LabelwiseError(
            f"no image was looked at as a whole, and {to} takes everything without a box for background. "
            "Export to coco, which tells what was looked at"
        )
    rows = np.isin(boxes.image, whole)
    number = np.full(len(pool), -1, np.int64)
    number[whole] = np.arange(len(whole))
    truth = Boxes.from_rows(number[boxes.image[rows]], boxes.xyxy[rows], boxes.labels[rows], len(whole))
    size = pool.width_px[whole], pool.height_px[whole]
    names = tuple(pool.names[k] for k in whole)
    drawn = (lambda k: context.frame(int(whole[k]))) if _has_no_files(pool) else None  # they become PNG
    some = Pool(pool.root, pool.classes, names, *size, truth=truth, frames=drawn)
    module = importlib.import_module(catalog.find("data", to).module)
    module.write(some, folder, "train", copy_images=copy_images)
    return {getattr(module, "SPLIT", "{}").format("train"): f"{len(whole)} images, looked at as a whole"}


def _card(context: Context, project: str, whole: np.ndarray, part: np.ndarray, about: dict[str, str]) -> card.Card:
    run, pool, ledger = context.run, context.pool, context.project.ledger
    boxes = ledger.labels(pool).annotations
    counts = [
        np.bincount(boxes.labels[np.isin(boxes.image, images)], minlength=len(pool.classes)) for images in (whole, part)
    ]
    rule = {
        "query.unit": run.query.unit,
        "query.score": run.query.score.name,
        "query.select": ", ".join(step.name for step in run.query.select) or "none",
        "labels.policy": run.labels.policy.name,
        "model": run.model.name,
        "budget": f"{', '.join(f'{n:g}' for n in run.budget.per_round)} {run.budget.unit} per round",
        "seed": str(run.seed),
        "data": Path(run.data.root).name or "generated",
    }
    return card.Card(
        name=run.name,
        project=project,
        rule=rule,
        standing=import_export.current_answers(ledger),
        cost_by_round=ledger.cost_by_round(),
        classes={name: (int(counts[0][k]), int(counts[1][k])) for k, name in enumerate(pool.classes)},
        images=(len(whole), len(part), len(pool) - len(whole) - len(part)),
        files=about,
    )
