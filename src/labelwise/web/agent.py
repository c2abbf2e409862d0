"""An MCP server: an assistant sees how a project stands, is asked its questions with the image, and answers them.

It answers as any person does: it holds leases, so that nobody is asked the same meanwhile, and its answers are checked,
priced and stored by the same path as those of the page, under its own name (`origin` "person NAME"). What is measured
of people (how often they are right, `ask.known_share`) is measured of it. Seconds are not measured: what an answer
costs is by the table of the settings.

Fails when: nobody reads what it says; set `ask.overlap` or `ask.known_share` before it answers by the hundred.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec, TypeVar

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from PIL import Image as Picture
from PIL import ImageDraw

from labelwise import units
from labelwise.project import guidelines
from labelwise.project.context import Context
from labelwise.project.prices import Prices
from labelwise.queue.accounts import check_name
from labelwise.queue.lease_queue import MOST_HELD, Lease
from labelwise.queue.leases import Leases
from labelwise.types import Answer, LabelwiseError, Query
from labelwise.web.overview import overview
from labelwise.web.shown import Shown

LEASE_S = 900.0
"""How long a question is kept for an assistant that says nothing."""
SHOWN_PX = 1280
"""The longest side of the image that it is shown."""
INSTRUCTIONS = (
    "labelwise decides which images are worth labelling. Call status, then ask for questions, look at the image of "
    "each, and answer it truthfully; skip what you cannot tell. Coordinates are pixels of the original image, whose "
    "size each question names: x1, y1, x2, y2. Never guess: answers become training labels."
)
Given = ParamSpec("Given")
Result = TypeVar("Result")


class Agent:
    """The tools of one project, for one assistant called `who`.

    Raises:
        LabelwiseError: `who` cannot be a person's name.
    """

    def __init__(self, context: Context, who: str) -> None:
        check_name(who)
        ask = context.run.ask
        self._context, self._who, self._window = context, who, secrets.token_hex(8)
        known, again = ask.known_share > 0, ask.again
        self._leases = Leases(context.project.ledger, LEASE_S, ask.overlap, known, again)
        self._shown, self._prices = Shown(context), Prices(context)
        self._held: dict[int, Lease] = {}
        self._one_at_a_time = threading.Lock()

    def status(self) -> str:
        """How the project stands: round, budget, open questions, classes, guidelines, and the learning curve so far
        (quality 0 to 1 against boxes, questions, images and seconds of people).
        """
        self._context.see_classes()
        found = overview(self._context)
        kept = {name: found[name] for name in ("standing", "metric", "curve", "left")}
        run = self._context.run
        rules = {"classes": list(self._context.pool.classes), "guidelines": guidelines.text(self._context)}
        return _text({"project": run.name, "you": self._who} | kept | {"forecast": found["forecast"]["lines"]} | rules)

    def ask(self, most: int = 1) -> list[Any]:
        """The open questions that are most worth an answer, at most `most` (1 to 12) in your hands at a time: each as a
        text, followed by its image with the asked box or region drawn in. They stay yours for 15 minutes.
        """
        if not 1 <= most <= MOST_HELD:
            raise LabelwiseError(f"most = {most}: expected 1 to {MOST_HELD}")
        if self._context.run.ask.who != "people":
            raise LabelwiseError(
                "the simulated oracle answers this project; `labelwise run --oracle people` makes it wait for answers"
            )
        with self._one_at_a_time:
            self._context.see_classes()
            self._shown.look_again(time.monotonic())
            at = time.time()
            still = self._leases.renew(self._who, self._window, at)
            self._held = {number: lease for number, lease in self._held.items() if number in still}
            fresh = self._leases.take(self._who, self._window, at, most=most, holding=list(self._held))
            self._held |= {lease.query.id or 0: lease for lease in fresh}
            held = list(self._held.values())
        if not held:
            return ["Nothing is open for you now: status tells whether the round waits, is busy or is done."]
        return [part for lease in held[:most] for part in self._question(lease)]

    def answer(
        self,
        query: int,
        verdict: str,
        boxes: Sequence[tuple[float, float, float, float]] = (),
        labels: Sequence[str] = (),
        note: str = "",
    ) -> str:
        """Answers a question that `ask` gave. `verdict`: one of those that the question names. `boxes` (pixels of the
        original image) and `labels` (names of classes), one each, as the verdict wants them; of an accepted box none
        are needed where it is right as asked. Of a whole image that has one class, `labels` alone. `note`: why, if
        skipped.
        """
        lease = self._held.get(query)
        if lease is None:
            raise LabelwiseError(f"query {query} is not in your hands; ask, and answer one of {sorted(self._held)}")
        told: list[str] = []

        def fit(asked: Query, given: Answer) -> Answer:
            told.clear()
            return self._shown.fit(asked, given, told)

        said = self._said(lease.query, verdict, boxes, labels, note)
        done = self._leases.answer(said, lease.secret, self._prices.of, time.time(), fit=fit)
        self._held.pop(query, None)
        found = {"stored": done.answer_id, "counts": done.counts, "told": told, "still yours": sorted(self._held)}
        right = guidelines.feedback(self._context.project.ledger, said, self._context.run.ask.feedback)
        return _text(found | ({} if right is None else {"feedback": right}))

    def report(self) -> str:
        """Writes the report of the project, report.html in its folder, and says what it finds."""
        from labelwise.report import outlook, page
        from labelwise.study import history

        result, path = history.run_result(self._context), self._context.project.folder / "report.html"
        page.write(path, [result], title=result.name, baseline=None)
        rows = [
            f"round {one.round}: {result.metric} {'-' if one.quality is None else f'{100 * one.quality:.1f}'}, "
            f"{one.cost_boxes} boxes, {one.cost_queries} questions, {one.cost_seconds / 60:.0f} min"
            for one in result.rounds
        ]
        forecast = outlook.lines(result.rounds, result.metric, result.budget_unit)
        return "\n".join([f"Report: {path}", *rows, *forecast])

    def close(self) -> None:
        """Gives back what is in its hands."""
        self._leases.release(self._who, self._window)

    def _said(
        self,
        query: Query,
        verdict: str,
        boxes: Sequence[tuple[float, float, float, float]],
        labels: Sequence[str],
        note: str,
    ) -> Answer:
        classes, means = self._context.pool.classes, units.find(query.unit).VERDICTS
        if verdict not in means:
            raise LabelwiseError(f"verdict {verdict!r}: expected one of {', '.join(means)}")
        unknown = [name for name in labels if name not in classes]
        if unknown:
            raise LabelwiseError(f"class {unknown[0]!r}: expected one of {', '.join(classes)}")
        numbers, corners = [classes.index(name) for name in labels], list(boxes)
        wanted = means[verdict].boxes
        if wanted == "one" and not corners and query.box is not None:
            corners = [query.box]
        if wanted == "one" and not numbers:
            offered = self._shown.class_of(query)
            if offered is None:
                raise LabelwiseError(
                    f"query {query.id}: who proposed the box knows no class; say its class: labels = [NAME], one of "
                    f"{', '.join(classes)}"
                )
            numbers = [offered]
        if wanted == "any" and self._context.run.classifies and not corners:
            pool, number = self._context.pool, self._context.pool.number_of[query.image]
            corners = [(0.0, 0.0, float(pool.width_px[number]), float(pool.height_px[number]))] * len(numbers)
        return Answer(query.id or 0, verdict, corners, numbers, self._who, 0.0, note, len(classes))

    def _question(self, lease: Lease) -> list[Any]:
        query, classes = lease.query, self._context.pool.classes
        found = self._shown.query(lease)
        kept = {name: found[name] for name in ("query", "round", "box", "because", "reviews")}
        means = units.find(query.unit).VERDICTS
        kept |= {
            "unit": query.unit,
            "image": query.image,
            "size": found["image"]["size"],
            "class": None if found["label"] is None else classes[found["label"]],
            "verdicts": {name: f"{one.button}; boxes: {one.boxes}" for name, one in means.items()},
            "known": [[*map(float, one["box"]), classes[one["label"]]] for one in found["boxes"]],
        }
        number = found["image"]["number"]
        try:
            picture, scale = _drawn(self._shown.jpeg(number, SHOWN_PX), found["image"]["size"], query)
        except LabelwiseError as error:
            return [_text(kept | {"image cannot be shown": str(error), "answer": "skip it"})]
        return [_text(kept | {"shown at": scale}), Image(data=picture, format="jpeg")]


def _drawn(content: bytes, size: Sequence[int], query: Query) -> tuple[bytes, float]:
    """The image with the asked rectangle in it, and how much smaller it is than the original."""
    if query.box is None:
        with Picture.open(BytesIO(content)) as image:
            return content, round(image.width / size[0], 4)
    with Picture.open(BytesIO(content)) as image:
        drawn = image.convert("RGB")
    scale = drawn.width / size[0]
    corners = [scale * corner for corner in query.box]
    ImageDraw.Draw(drawn).rectangle(corners, outline=(255, 0, 255), width=max(2, drawn.width // 300))
    out = BytesIO()
    drawn.save(out, "JPEG", quality=90)
    return out.getvalue(), round(scale, 4)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=float)


def _told(tool: Callable[Given, Result]) -> Callable[Given, Result]:
    """An error that says what to do is told to the assistant."""

    @wraps(tool)
    def safe(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return tool(*args, **kwargs)
        except LabelwiseError as error:
            raise ToolError(str(error)) from None

    return safe


def server(agent: Agent, version: str) -> MCPServer:
    """The server with the four tools; `run()` serves it by standard input and output."""
    made = MCPServer("labelwise", version=version, instructions=INSTRUCTIONS, log_level="WARNING")
    for tool in (agent.status, agent.ask, agent.answer, agent.report):
        made.add_tool(_told(tool), structured_output=False)
    return made
