"""The ledger's tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

SCHEMA_VERSION = 1

metadata = MetaData()


def _box_columns(nullable: bool = False) -> list[Column[Any]]:
    return [Column(name, Double, nullable=nullable) for name in ("x1", "y1", "x2", "y2")]


def _image_column() -> Column[Any]:
    return Column("image", Text, ForeignKey("images.name"), nullable=False, index=True)


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", sa.JSON, nullable=False))

images = Table(
    "images",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("stage", Text, primary_key=True),
    Column("state", Text, nullable=False),  # "started" or "done"
    Column("started", Text, nullable=False),
    Column("ended", Text),
    Column("wall_s", Double),
    Column("info", sa.JSON, nullable=False),
)

queries = Table(
    "queries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    _image_column(),
    Column("unit", Text, nullable=False),
    *_box_columns(nullable=True),
    Column("label", Integer),
    Column("score", Double, nullable=False),
    Column("reason", sa.JSON, nullable=False),
    UniqueConstraint("round", "rank"),
    sqlite_autoincrement=True,  # a page that still shows a replaced query can never answer another one by its id
)

answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("query_id", Integer, ForeignKey("queries.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),  # 0 counts, later ones are second opinions
    Column("verdict", Text, nullable=False),
    Column("boxes", sa.JSON, nullable=False),  # as answered: a second opinion makes no annotations
    Column("labels", sa.JSON, nullable=False),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("note", Text, nullable=False),
    Column("cost_boxes", Integer, nullable=False),
    Column("cost_queries", Integer, nullable=False),
    Column("cost_images", Integer, nullable=False),
    Column("cost_seconds", Double, nullable=False),
    UniqueConstraint("query_id", "ordinal"),
)

annotation_table = Table(
    "annotations",
    metadata,
    Column("id", Integer, primary_key=True),
    _image_column(),
    *_box_columns(),
    Column("label", Integer),  # null: a correction that withdraws the annotation, there is no object
    Column("origin", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("query_id", Integer, ForeignKey("queries.id")),
    Column("answer_id", Integer, ForeignKey("answers.id")),
    Column("supersedes", Integer, ForeignKey("annotations.id"), unique=True),
    Column("created", Text, nullable=False),
)


suggestions = Table(  # boxes that were offered with a query; a box of the answer that is not here was drawn
    "suggestions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("answer_id", Integer, ForeignKey("answers.id"), nullable=False, index=True),
    Column("number", Integer),  # which box of the answer was made of it; null: none
    Column("action", Text, nullable=False),  # "verify" (taken as it was), "mend" (another box or class) or "reject"
    Column("origin", Text, nullable=False),  # "flow", "lent" or "model"
    _image_column(),  # the frame whose label it is; the query's own where the model found it
    *_box_columns(),
    Column("label", Integer, nullable=False),
)


def _rect_table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        _image_column(),
        *_box_columns(),
        Column("round", Integer, nullable=False),
        Column("query_id", Integer, ForeignKey("queries.id")),
    )


coverage = _rect_table("coverage")
background = _rect_table("background")

withdrawn = Table(  # an answer that its author took back: it counts no longer, what it cost in time does
    "withdrawn",
    metadata,
    Column("answer_id", Integer, ForeignKey("answers.id"), primary_key=True, autoincrement=False),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
)

added_classes = Table(
    "added_classes",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
    # up to these rows nobody looked for this class; 0 where its owner says that there was none
    Column("coverage_id", Integer, nullable=False),
    Column("background_id", Integer, nullable=False),
    Column("answer_id", Integer, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("query_id", Integer, ForeignKey("queries.id", ondelete="CASCADE"), nullable=False),
    Column("who", Text, nullable=False),
    Column("tab", Text, nullable=False),  # one person may work in two windows
    Column("secret", Text, nullable=False, unique=True),  # SHA-256 of it
    Column("issued", Double, nullable=False),  # seconds since 1970, by the server's clock
    Column("expires", Double, nullable=False),
    Column("ended", Text),  # null: it is held; else why it ended
    Column("answer_id", Integer, ForeignKey("answers.id")),
)
_held = leases.c.ended.is_(None)
Index("one_holder", leases.c.query_id, unique=True, sqlite_where=_held, postgresql_where=_held)
Index("leases_of_a_person", leases.c.who, sqlite_where=_held, postgresql_where=_held)

people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),  # "owner" or "annotator"
    Column("secret", Text, unique=True),  # SHA-256 of the invitation's; null: revoked
    Column("created", Double, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token", Text, primary_key=True),  # SHA-256 of the cookie
    Column("name", Text, ForeignKey("people.name"), nullable=False),
    Column("csrf", Text, nullable=False),
    Column("expires", Double, nullable=False),
)

passwords = Table(  # of those who set one: scrypt, as hex text
    "passwords",
    metadata,
    Column("name", Text, ForeignKey("people.name"), primary_key=True),
    Column("salt", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created", Double, nullable=False),
)

image_files = Table(  # size and time of change of an image's file; its hash from when it was first asked about
    "image_files",
    metadata,
    Column("image", Text, ForeignKey("images.name"), primary_key=True),
    Column("size_bytes", sa.BigInteger, nullable=False),
    Column("mtime_ns", sa.BigInteger, nullable=False),
    Column("sha256", Text),
)

unavailable = Table(  # images that cannot be shown now; "changed": their labels are held back
    "unavailable",
    metadata,
    Column("image", Text, ForeignKey("images.name"), primary_key=True),
    Column("why", Text, nullable=False),  # "gone", "unreadable" or "changed"
    Column("what", Text, nullable=False),
    Column("since", Text, nullable=False),
)

forgotten = Table(  # coverage that no answer stands behind and that holds no longer
    "forgotten",
    metadata,
    Column("coverage_id", Integer, ForeignKey("coverage.id"), primary_key=True, autoincrement=False),
    Column("who", Text, nullable=False),
    Column("created", Text, nullable=False),
)

known_questions = Table(  # queries whose answer is known: nothing follows from what people say to them
    "known_questions",
    metadata,
    Column("query_id", Integer, ForeignKey("queries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("source_id", Integer),  # the query that was asked before; null: the label came with the image
    Column("verdict", Text, nullable=False),
    Column("boxes", sa.JSON, nullable=False),
    Column("labels", sa.JSON, nullable=False),
    Column("shown_rank", Integer, nullable=False),  # what the page says, so that nobody can tell it from the others
)

asked_again = Table(  # queries that ask for another opinion on one that is answered; their answers are its
    "asked_again",
    metadata,
    Column("query_id", Integer, ForeignKey("queries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("source_id", Integer, ForeignKey("queries.id"), nullable=False, index=True),
)

live_updates = Table(  # of a round that trains and ranks anew while it asks (`ask.live_answers`): each time
    "live_updates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, nullable=False, index=True),
    Column("first_rank", Integer),  # its queries: from this rank up to the next one's; null: it ranked nothing
    Column("spent", sa.JSON, nullable=False),  # boxes, queries, images, seconds of all rounds when it began
    Column("seen", sa.JSON, nullable=False),  # the instant of the ledger that it took in
    Column("seconds", Double, nullable=False),  # until the queue was another one
    Column("quality", Double),  # on the test images, measured after that; null: not measured
    Column("created", Text, nullable=False),
)

APPEND_ONLY = (annotation_table, answers, suggestions, coverage, background, withdrawn, added_classes, forgotten)
LATER = (
    withdrawn,
    added_classes,
    leases,
    people,
    sessions,
    passwords,
    image_files,
    unavailable,
    forgotten,
    known_questions,
    suggestions,
    asked_again,
    live_updates,
)
"""Tables that a ledger made by an earlier labelwise lacks; they are added when it is opened."""
