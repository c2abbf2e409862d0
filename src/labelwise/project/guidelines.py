"""What helps people to label alike: the owner's guidelines, and what is right of a question whose answer is known."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from labelwise.ledger import known_questions
from labelwise.ledger import schema as t
from labelwise.ledger.agreement import says_the_same
from labelwise.ledger.ledger import Ledger
from labelwise.project.context import Context
from labelwise.types import Answer, LabelwiseError

MOST_BYTES = 1_000_000
"""Longest guidelines that are read."""


def text(context: Context) -> str:
    """The guidelines in Markdown, as `ask.guidelines` names their file in the project folder; empty where it is not.

    Raises:
        LabelwiseError: the file lies outside the project folder, is too long, or is no text.
    """
    folder, name = context.project.folder.resolve(), context.run.ask.guidelines
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise LabelwiseError(f"ask.guidelines = {name!r}: outside the project folder {folder}. Put the file into it")
    if not path.is_file():
        return ""
    try:
        content = path.read_bytes()
        if len(content) > MOST_BYTES:
            raise LabelwiseError(f"{path}: {len(content)} bytes, more than {MOST_BYTES}. Shorten the guidelines")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelwiseError(f"{path}: cannot be read as text ({error}). Save it as UTF-8") from None


def feedback(ledger: Ledger, answer: Answer, most: int) -> dict[str, Any] | None:
    """Whether an answer that was just stored is right, and what is: of a person's first `most` known questions, None of
    any other one.
    """
    if not most:
        return None
    a, k = t.answers.c, t.known_questions.c
    many = sa.select(sa.func.count()).select_from(t.answers.join(t.known_questions, k.query_id == a.query_id))
    with ledger.read() as connection:
        known = known_questions.right_answers(connection, [answer.query]).get(answer.query)
        if known is None or connection.execute(many.where(a.who == answer.who)).scalar_one() > most:
            return None
    right, _ = known
    said = {"verdict": right.verdict, "boxes": right.boxes, "labels": right.labels}
    return {"right": says_the_same(answer, right), **said}
