"""The command that looks for doubtful labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from labelwise.cli.console import app, bar, out, plain, tell
from labelwise.cli.data import FormatOption
from labelwise.errors import LabelwiseError

if TYPE_CHECKING:
    from labelwise.study.label_review import Doubtful

SHOWN = 20
IMAGES = "sparsely_labelled"
"""The kind of doubt that is about a whole image of a detection set: told, not asked about."""


@app.command()
def review(
    data: Annotated[str, typer.Option("--data", help="A data set with labels, in any layout (a folder, s3://...).")],
    split: Annotated[str | None, typer.Option(help="The split to review; the largest, if not given.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A CSV file with all that is doubtful.")] = None,
    project: Annotated[
        Path | None, typer.Option("--project", "-p", help="Makes this project, in which people are asked (boxes).")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="So many are asked about.")] = 100,
    group: Annotated[str, typer.Option(help="Images whose names agree in what this matches are near-copies.")] = "",
    format_name: FormatOption = None,
) -> None:
    """Ranks the labels of a data set by doubt: objects without a label, boxes beside their object, wrong classes.

    A frozen detector (for classes: frozen features) learns the labels in folds and predicts what was held back; where
    it contradicts, a person should look. `labelwise weights` fetches its files. Nothing is changed.

    Example: `labelwise review --data data/aquarium --project check-aquarium`
    """
    from labelwise.data import bars, image_store, recognise
    from labelwise.project import data_root
    from labelwise.study import label_review

    with data_root.readable(data, bar) as root:
        whole, parts = (bars.silent, bar) if image_store.is_url(data) else (bar, bars.silent)
        with bars.shown(parts), whole(f"read {data}", 0) as advance:
            found = recognise.look(root, format_name, advance)
        if split is not None and split not in found.pools:
            raise LabelwiseError(f"{data} has no split {split!r}; it has {', '.join(found.pools)}")
        name = split if split is not None else max(found.pools, key=lambda one: len(found.pools[one]))
        pool = found.pools[name]
        doubtful = label_review.of_pool(pool, group=group, bar=bar)
    images = [one for one in doubtful if one.kind == IMAGES]
    _show([one for one in doubtful if one.kind != IMAGES], pool.classes, f"{data} {name}".strip())
    if images:
        shown = ", ".join(f"{plain(one.image)} ({one.doubt:.2f})" for one in images[:SHOWN])
        many = "1 image seems" if len(images) == 1 else f"{len(images)} images seem"
        tell(f"{many} to have hardly a label (share of the objects without one): {shown}")
    if output is not None:
        _write(doubtful, pool.classes, output)
        tell(f"Wrote {output}")
    if project is not None:
        from labelwise.api import review_project

        asked = [one for one in doubtful if one.kind != IMAGES]
        number = review_project.ask(project, data, found.format, name, pool.classes, asked[:most])
        tell(f"{number} questions are open: `labelwise serve --project {project}`, then `labelwise export labels`")


def _show(doubtful: list[Doubtful], classes: tuple[str, ...], title: str) -> None:
    tell(f"{title}: {len(doubtful)} doubtful labels, the first {min(SHOWN, len(doubtful))} of them:")
    table = Table("kind", "doubt", "image", "box", "label", "rather")
    for one in doubtful[:SHOWN]:
        box = "" if one.box is None else ", ".join(f"{corner:.0f}" for corner in one.box)
        label = "none" if one.label is None else classes[one.label]
        table.add_row(one.kind, f"{one.doubt:.2f}", plain(one.image), box, plain(label), plain(classes[one.likely]))
    out.print(table)


def _write(doubtful: list[Doubtful], classes: tuple[str, ...], path: Path) -> None:
    from labelwise.types.disk import readable_errors, replacing

    with readable_errors(path), replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "kind", "doubt", "image", "x1", "y1", "x2", "y2", "label", "rather"])
        for rank, one in enumerate(doubtful, start=1):
            box = ("",) * 4 if one.box is None else tuple(f"{corner:.1f}" for corner in one.box)
            label = "" if one.label is None else classes[one.label]
            writer.writerow([rank, one.kind, f"{one.doubt:.4f}", one.image, *box, label, classes[one.likely]])
