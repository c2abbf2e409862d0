"""The training set that came of a project, in the format of a data set."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelwise import catalog, files
from labelwise.data import bars, clean, image_store, staging
from labelwise.ledger import given_labels, image_files, import_export
from labelwise.project import consensus
from labelwise.project.context import Context
from labelwise.report import card, training_set
from labelwise.stages import interchange
from labelwise.types import Boxes, Labels, LabelwiseError, Pool
from labelwise.types.disk import new_folder, readable_errors, remove_leftovers, to_json

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
    merged = consensus.of_rule(context.project, pool, context.run.ask.merge, one_class=context.run.classifies)
    labels, rows = context.known(), consensus.annotation_rows(import_export.current_annotations(ledger), merged)
    whole, part = training_set.split_by_coverage(pool, labels)
    notes, project = _missing_images(context, to, [*whole.tolist(), *part.tolist()]), import_export.project_id(ledger)
    if to != LOOKED_AT:  # the images are written, too
        whole = whole[pool.available[whole]]
    remove_leftovers(folder.parent, below=False, name=folder.name)  # of an export that was killed
    with bars.shown(context.bar), readable_errors(folder), new_folder(folder) as made:
        if to == LOOKED_AT:
            about = _write_coco(context, labels, rows, made, project, whole, part)
            if not interchange.has_no_files(pool) and not staging.in_store(pool):
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
    context: Context,
    labels: Labels,
    rows: list[dict[str, Any]],
    folder: Path,
    project: str,
    whole: np.ndarray,
    part: np.ndarray,
) -> dict[str, str]:
    """COCO: what was looked at as a whole, and in a file of its own what was not."""
    pool = context.pool
    written = {"annotations/instances_train.json": (whole, False), "partly_labelled.json": (part, True)}
    seen = [int(i) for i in (*whole, *part) if pool.available[i]]
    drawn = bool(interchange.draw(context, (pool.names[i] for i in seen), folder / "images"))
    if staging.in_store(pool):
        for i, fetched in zip(seen, image_store.contents([pool.path(i) for i in seen]), strict=True):
            copy = folder / "images" / pool.names[i]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(fetched)
    beside = drawn or staging.in_store(pool)
    home = "images" if beside else clean.relative(pool.root.resolve(), folder.resolve())
    about = {
        "annotations/instances_train.json": f"{len(whole)} images that were looked at as a whole",
        "partly_labelled.json": f"{len(part)} images of which only boxes or regions were asked; honour `coverage`",
    }
    if not len(part):
        del written["partly_labelled.json"], about["partly_labelled.json"]
    for name, (images, partly) in written.items():
        content = training_set.coco(pool, labels, rows, images, project=project, part=partly, home=home, drawn=drawn)
        files.write_text(folder / name, to_json(content) + "\n")
    return about


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
    drawn = (lambda k: context.frame(int(whole[k]))) if interchange.has_no_files(pool) else None  # they become PNG
    some = Pool(pool.root, pool.classes, names, *size, truth=truth, frames=drawn)
    module = importlib.import_module(catalog.find("data", to).module)
    module.write(some, folder, "train", copy_images=copy_images)
    return {getattr(module, "SPLIT", "{}").format("train"): f"{len(whole)} images, looked at as a whole"}


def _card(context: Context, project: str, whole: np.ndarray, part: np.ndarray, about: dict[str, str]) -> card.Card:
    run, pool, ledger = context.run, context.pool, context.project.ledger
    boxes, total = context.known().annotations, given_labels.total(ledger)
    counts = [
        np.bincount(boxes.labels[np.isin(boxes.image, images)], minlength=len(pool.classes)) for images in (whole, part)
    ]
    rule = {
        "query.unit": ", ".join(run.query.asked),
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
        answers=import_export.current_answers(ledger),
        cost_by_round=ledger.cost_by_round(),
        classes={name: (int(counts[0][k]), int(counts[1][k])) for k, name in enumerate(pool.classes)},
        images=(len(whole), len(part), len(pool) - len(whole) - len(part)),
        files=about,
        given=(0, 0, 0) if total is None else (total.images, total.boxes, total.whole),
    )
