"""The projects of `old_projects.py`: how each kind is made, stopped and finished, by whatever code is on the path."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STAGES = ("predict", "score", "select", "ask", "label", "train", "evaluate")
SHORT = ["train.threads=1", "train.checkpoint_every_s=0", "train.batch_size=4", "ask.poll_s=0.1"]
DETECTOR = [
    *("data.image_size_px=128", "model.head_convs=1", "model.fpn_channels=16", "model.score_threshold=0.01"),
    *(
        "train.epochs=2",
        "train.min_steps=12",
        "train.max_steps=12",
        "predict.shard_images=16",
        "predict.min_score=0.01",
    ),
    *("query.threshold=0.01", "labels.threshold=0.01"),
]
SCENES = [
    *("data.scenes={train=24, test=6, seed=3, size_px=128}", "predict.views=['flip', 'cutout']"),
    *("budget.start_images=8", "budget.per_round=[20, 20]"),
]
CLASSIFIER = [
    *("data.image_size_px=24", "model.backbone=small", "model.width=8", "model.weights=none", "data.format=classes"),
    *("data.pool_split=train", "data.test_split=test", "train.epochs=3", "train.min_steps=12", "predict.batch_size=16"),
    *("budget.start_images=12", "budget.unit=images", "budget.per_round=[6, 6]"),
]
ROADS = [
    "data.roads={preset='tiny', seed=0, train=3, test=1, seconds=[0.8, 1.2], size_px=[128, 80], fps=10.0}",
    *("model.weights=none", "budget.start_images=4", "budget.per_round=[3, 3]"),
]
PEOPLE = ["ask.who=people", "ask.overlap=2", "budget.unit=queries", "budget.per_round=[12, 12]"]


@dataclass(frozen=True)
class Kind:
    """A kind of project: the recipe and the settings that make it, where it is stopped, who goes on with it."""

    recipe: str
    settings: list[str]
    stops: tuple[str, ...]
    begin: Callable[[Path, str, Kind, int], None]
    finish: Callable[[Path, str], None]


def labelwise(*words: object) -> str:
    """A command of labelwise in this process; what it said."""
    from typer.testing import CliRunner

    from labelwise.cli import app

    result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "200"}, catch_exceptions=False)
    if result.exit_code:
        raise RuntimeError(f"labelwise {' '.join(map(str, words))}: {result.output}")
    return result.output


def project_of(folder: Path, recipe: str | None, settings: list[str]) -> Any:
    """Makes or opens a project, as the code at hand calls it."""
    try:
        from labelwise.project import opening
    except ImportError:
        from labelwise import opening  # type: ignore[attr-defined, no-redef]
    return opening.start(folder, recipe, settings).project


def drawn(folder: Path) -> Path:
    """The folder of classes beside all projects."""
    return folder.parents[3] / "data" / "classes"


# ---- projects that the oracle answers -------------------------------------------------------------------------------


def stages_until(folder: Path, stop: str, after: tuple[int, str] | None = None) -> None:
    """The stages up to and with `stop`, such as "1 label"; those up to `after` are done."""
    order = [(r, name) for r in range(9) for name in STAGES]
    last = order.index((int(stop.split()[0]), stop.split()[1]))
    for _, name in order[0 if after is None else order.index(after) + 1 : last + 1]:
        labelwise(name, "-p", folder)


def die_after(answers: int) -> None:
    """Kills this process (no clean-up) as soon as so many more answers are in a ledger."""
    import sqlalchemy as sa

    seen = [0]

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, given: Any, _x: Any, _many: Any) -> None:
        if statement.lower().startswith("insert into answers"):
            seen[0] += len(given) if isinstance(given, list) else 1

    @sa.event.listens_for(sa.Engine, "begin")
    def look(_connection: Any) -> None:
        if seen[0] >= answers:
            os.kill(os.getpid(), signal.SIGKILL)


def begin(folder: Path, stop: str, kind: Kind, seed: int) -> None:
    """Stops at "1 label": all through that stage; "1 asking": killed after two answers of round 1."""
    where = [f"data.root={drawn(folder)}"] if kind.settings is CLASSIFIER else []
    project_of(folder, kind.recipe, [*SHORT, *kind.settings, *where, f"seed={seed}"]).close()
    if stop.endswith("asking"):
        stages_until(folder, f"{stop[0]} select")
        die_after(2)
        labelwise("ask", "-p", folder)
        raise RuntimeError(f"{folder}: the round was over before two answers")
    if stop != "whole":
        stages_until(folder, stop)


def finish(folder: Path, _stop: str) -> None:
    """Runs to the end."""
    labelwise("run", "-p", folder)


def begin_changed(folder: Path, stop: str, kind: Kind, seed: int) -> None:
    """A setting changes after round 1, and a stage of it is done again."""
    begin(folder, "1 evaluate", kind, seed)
    project_of(folder, None, ["train.lr=0.004", "budget.per_round=[50, 50, 30]"]).close()
    if stop != "1 evaluate":
        labelwise("redo", 1, "train", "-p", folder)
        stages_until(folder, stop, (1, "evaluate"))


# ---- people: their answers come as files ----------------------------------------------------------------------------


def open_queries(folder: Path) -> list[tuple[int, int]]:
    """Queries of the round that waits, with the number of their answers that stand."""
    connection = sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True, timeout=60)
    rows = connection.execute(
        "select q.id, count(a.id) - count(w.answer_id) from queries q left join answers a on a.query_id = q.id left "
        "join withdrawn w on w.answer_id = a.id where q.round = (select round from stages where stage = 'ask' and "
        "state = 'started') group by q.id order by q.id"
    ).fetchall()
    connection.close()
    return rows


def answers_of(content: dict[str, Any], who: str, taken: slice) -> dict[str, Any]:
    """What a person says, of the numbers of the queries alone: nobody looks at the images."""
    rows = []
    for query in content["queries"][taken]:
        number, shift = query["rank"] + query["round"], 0.0 if who == "ann" else 1.0
        box = query["box"] or [10.0 + shift, 12.0, 60.0 + number % 20, 70.0]
        one = {"box": box, "class": content["classes"][(number + int(shift)) % len(content["classes"])]}
        verdict = "all" if query["unit"] == "image" else "background" if number % 3 == 0 else "object"
        row = {"reference": query["reference"], "verdict": verdict, "objects": [] if verdict == "background" else [one]}
        rows.append(row | {"who": who, "seconds": 2.5 + number % 4, "note": "far away" if number % 5 == 0 else ""})
    return {"format": "labelwise-answers", "version": 1, "answers": rows}


def give(folder: Path, who: str, content: dict[str, Any], taken: slice = slice(None)) -> None:
    path = folder.with_name(f"{who}.json")
    path.write_text(json.dumps(answers_of(content, who, taken)))
    labelwise("import", path, "--from", "json", "-p", folder, "--second-opinions")


def run_with_people(folder: Path, until_round: int | None = None) -> None:
    """Starts `run` and answers whatever it asks; with `until_round`, kills it when that round has asked."""
    process = multiprocessing.get_context("fork").Process(target=labelwise, args=("run", "-p", folder))
    process.start()
    later = folder.with_name("once.json")  # queries that one person has answered before this begins
    once: list[Any] = read_json(later)["queries"] if later.exists() else []
    said: set[int] = set()
    while process.is_alive():
        time.sleep(0.2)
        waiting = {number for number, answers in open_queries(folder) if answers == 0} - said
        if not waiting:
            continue
        content = exported(folder)
        if content["queries"][0]["round"] == until_round:
            process.kill()
            break
        give(folder, "ann", content)
        give(folder, "bob", content | {"queries": [*once, *content["queries"]]})
        said |= waiting
        once = []
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"run ended with {process.exitcode}")


def exported(folder: Path, to: str = "json") -> Any:
    """The open queries as a file."""
    out = folder.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    labelwise("export", "queries", "--to", to, "-p", folder, "-o", out)
    return read_json(next(out.glob("*.json")))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def begin_people(folder: Path, stop: str, kind: Kind, seed: int) -> None:
    """A round asks two people; "answers": some have come, second opinions too, a class more, one is taken back."""
    begin(folder, "whole", kind, seed)
    if stop == "whole":
        return
    run_with_people(folder, int(stop.split()[0]))
    if stop.endswith("answers"):
        content = exported(folder)
        give(folder, "ann", content, slice(0, 2))
        give(folder, "bob", content, slice(0, 2))
        labelwise("add-class", "fox", "-p", folder)
        content = exported(folder)
        give(folder, "ann", content, slice(0, 1))
        take_back(folder)
        folder.with_name("once.json").write_text(json.dumps({"queries": content["queries"][:1]}))


def take_back(folder: Path) -> None:
    """A person answers on the page, and takes it back."""
    try:
        from labelwise.queue.leases import Leases
    except ImportError:
        from labelwise.store.leases import Leases  # type: ignore[import-not-found, no-redef]
    from labelwise.types import Answer, Cost

    project = project_of(folder, None, [])
    leases = Leases(project.ledger)
    [lease] = leases.take("eve", "tab", 0.0)
    answer = Answer(lease.query.id, "background", who="eve")
    leases.answer(answer, lease.secret, lambda _query, _answer: Cost(0, 1, 0, 3.0), 1.0)
    leases.undo("eve", "tab", 2.0)
    leases.release("eve", "tab")
    project.close()


def finish_people(folder: Path, _stop: str) -> None:
    run_with_people(folder)


# ---- a detector of one's own ----------------------------------------------------------------------------------------


def own_detector(folder: Path, first: int, last: int) -> None:
    """The steps of a user's script from `first` on; each can be given again."""
    import labelwise as lw

    project = lw.open(folder, images=drawn(folder) / "train", classes=["cat", "dog"])

    def predictions(salt: int) -> dict[str, Any]:
        rng, n = np.random.default_rng(salt), len(project.images)
        corner, sure = rng.uniform(0, 10, (2 * n, 2)), rng.uniform(0.2, 0.9, 2 * n)
        table = {"image": np.repeat(np.arange(n), 2), "boxes": np.hstack([corner, corner + 8])}
        table["probs"] = np.stack([sure, 1 - sure], axis=1)
        table["view_iou"], table["view_probs"] = rng.uniform(0.3, 1, (2, 2 * n)), np.stack([table["probs"]] * 2)
        return table

    def answer(queries: list[Any]) -> None:
        for query in queries:
            number = query.rank + query.round
            box = query.box or (1.0, 2.0, 11.0, 9.0 + number)
            if query.unit == "box" and number % 3 == 0:
                project.answer(query, "background", who="ann", seconds=2.0)
            else:
                project.answer(query, boxes=[box], labels=[number % 2], who="ann", seconds=4.0)

    def rest() -> None:
        answer(project.open_queries())

    def targets() -> None:
        if not (folder / "rounds" / f"{project.round:03d}" / "targets.safetensors").exists():
            project.targets(policy="task_soft" if project.round else "ignore")

    steps = [
        lambda: project.ask(budget=4),
        rest,
        lambda: project.finish({"ap50": 0.2}),
        lambda: project.ask(predictions(1), budget=6),
        lambda: answer(project.open_queries()[:2]),
        rest,
        targets,
        lambda: project.finish({"ap50": 0.4}),
        lambda: project.ask(predictions(2), budget=3, unit="image", score="entropy", select="top"),
        rest,
        lambda: project.finish({"ap50": 0.5, "per_class_ap50": {"cat": 0.6, "dog": 0.4}}),
        lambda: project.ask(predictions(3), budget=3, unit="region", score="rare_confidence", select="scale_aware"),
        rest,
        targets,
        project.finish,
    ]
    for step in steps[first : len(steps) if last < 0 else last]:
        step()
    project.close()


def begin_own(folder: Path, stop: str, _kind: Kind, _seed: int) -> None:
    own_detector(folder, 0, 0 if stop == "whole" else int(stop.split()[1]))


def finish_own(folder: Path, stop: str) -> None:
    own_detector(folder, 0 if stop == "whole" else int(stop.split()[1]), -1)


DEMO = [*DETECTOR, *SCENES]
SECONDS = [*DEMO, "budget.unit=seconds", "budget.per_round=[50, 50]"]
KINDS = {
    "boxes": Kind("demo+u_cb_tspl", SECONDS, ("1 score", "1 asking", "1 label", "whole"), begin, finish),
    "images": Kind("demo+cald", DEMO, ("0 evaluate", "1 asking"), begin, finish),
    "regions": Kind("demo+mural", DEMO, ("1 score", "1 asking"), begin, finish),
    "classes": Kind("starter_classes+dispersion", CLASSIFIER, ("0 evaluate", "1 asking", "whole"), begin, finish),
    "features": Kind("starter_classes+kcenter_cb", CLASSIFIER, ("1 train",), begin, finish),
    "video": Kind("roads+temporal_coherence", [*DETECTOR, *ROADS], ("0 evaluate", "1 score"), begin, finish),
    "people": Kind("demo", [*DEMO, *PEOPLE], ("1 open", "1 answers", "whole"), begin_people, finish_people),
    "changed": Kind("demo", SECONDS, ("1 evaluate", "2 label"), begin_changed, finish),
    "own detector": Kind("", [], ("step 1", "step 5", "step 7", "whole"), begin_own, finish_own),
}


def draw_classes(root: Path, seed: int) -> None:
    """A small folder of classes: squares of a colour on a ground of noise."""
    rng = np.random.default_rng(seed)
    for split, n in (("train", 40), ("test", 12)):
        for k in range(n):
            colour = ("red", "green", "blue")[k % 3]
            pixels = rng.integers(40, 160, (24, 24, 3)).astype(np.uint8)
            x, y = rng.integers(0, 12, 2)
            pixels[y : y + 10, x : x + 10, k % 3] = 230
            (root / split / colour).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / colour / f"{k:02d}.png")
