"""A project in which people are asked about doubtful labels: what `labelwise review --project` makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelwise import units
from labelwise.api import arguments, entry, rounds
from labelwise.ledger.reviews import DOUBT, REVIEWS
from labelwise.project import opening
from labelwise.project.project_folder import CONFIG
from labelwise.study.label_review import Doubtful
from labelwise.types import LabelwiseError, Query


def ask(
    folder: Path, data: str | Path, format_name: str, split: str, classes: Sequence[str], some: Sequence[Doubtful]
) -> int:
    """Makes a project of a data set with its labels, and opens a question for each that is doubtful, in this order.

    People answer on the page (`labelwise serve`); an answer supersedes the label that it is about, and
    `labelwise export labels` writes the mended set. Returns how many questions there are.

    Raises:
        LabelwiseError: there is a project already, a class of whole images (which has no such question yet), or
            nothing is doubtful.
    """
    if (folder / CONFIG).exists():
        raise LabelwiseError(f"{folder} is a labelwise project already; name a new folder")
    if not some:
        raise LabelwiseError(f"{data}: no label is doubtful, so there is nothing to ask")
    if any(one.box is None for one in some):
        raise LabelwiseError(f"{data}: classes of whole images are listed (--output), not asked about yet")
    entry.open(folder, data, classes, format=format_name, split=split or None, given="complete").close()
    context = opening.start(folder, None)
    rows = context.project.ledger.annotation_rows()
    where = zip(rows["image"].tolist(), rows["xyxy"].tolist(), rows["label"].tolist(), rows["id"].tolist(), strict=True)
    annotation = {(image, *box, label): row for image, box, label, row in where}
    unit = units.about_an_object()
    queries = list[Query]()
    with context.project.lock():
        number = rounds.first_with_a_model(context)
        run = arguments.run_with_query(
            context.run, number, budget=len(some), unit=unit, score="random", select="top", threshold=0.1,
            aggregate="mean", scales=(1.0,),
        )  # fmt: skip
        for rank, one in enumerate(some):
            label = one.likely if one.label is None else one.label
            reason: dict[str, float | str] = {"kind": one.kind, DOUBT: one.doubt}
            if one.label is not None:
                reason[REVIEWS] = float(annotation[one.image, *(one.box or ()), one.label])
            queries.append(Query(number, rank, one.image, unit, one.box, label, one.doubt, reason))
        rounds.keep(context, run)
        context.project.ledger.add_queries(number, queries)
        for stage in ("predict", "score", "select"):
            context.project.ledger.mark_done(number, stage, {}, 0.0)
        context.project.ledger.mark_started(number, "ask")  # from here on `labelwise serve` hands them out
    context.project.close()
    return len(queries)
