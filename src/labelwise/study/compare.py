"""Several methods side by side: the same data, start set, first model, budget and training; several seeds each.

Every (method, seed) is an ordinary project. Worker processes (`workers`) run one project after the other, so that what
all of them need is loaded, read and decoded once. Killed, the whole continues where it was. Round 0 (random images,
first model) is run once per seed and copied to all methods that train the same model; a method with another model
(dropout, loss head, ensemble) starts from the same images with its own.

What is written is not forced to the disk (`types.disk.without_force`): a comparison can be repeated.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from labelwise import catalog, config
from labelwise.config import Run
from labelwise.data import staging
from labelwise.files.round_files import RoundFolder
from labelwise.ledger import records
from labelwise.ledger.ledger import Ledger
from labelwise.project import opening
from labelwise.project.project_folder import LEDGER, Project
from labelwise.study import ray_tasks, workers
from labelwise.types import LabelwiseError

NO_NEW_LABEL, EVERYTHING_LABELLED = "no new label", "everything labelled"
"""The rows that bound a comparison; `report.headroom` knows them by these names."""

FINISHED = "finished"
"""An empty file in the folder of a project all of whose rounds are done."""

OWN = ("data", "cache", ".lock*", "report.html", FINISHED, "ledger.copy*", "log")
"""What a copy of the shared start does not take over."""


@dataclass(frozen=True, slots=True)
class Way:
    """A method that is a recipe with settings of its own; those of the comparison come after them."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One project to run: the common start of a seed, all its data, a method, a bound."""

    kind: Literal["start", "method", "all data", "bound"]
    name: str
    seed: int


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where: projects are `folder/<method>_seed<seed>`, or (`short_names`) `folder/<method>`.

    `all_data`: a model is trained on the whole pool as well, once per seed; the report says which share of its quality
    the others reach. `bounds`: two more rows, trained like the others from the same first model: no new label in any
    round, and everything labelled from round 1 on; the report gives each method's share of what lies between. `ways`:
    what the names of methods that are no recipes stand for.
    """

    folder: Path
    data: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...] = ()
    all_data: bool = False
    bounds: bool = False
    ways: tuple[Way, ...] = ()
    short_names: bool = False

    def project(self, method: str, seed: int) -> Path:
        """The project folder of one run."""
        return self.folder / (label(method) if self.short_names else f"{label(method)}_seed{seed}")

    def projects(self) -> list[Path]:
        """All projects that have been begun, method by method."""
        found = [self.project(method, seed) for method in self.methods for seed in self.seeds]
        found += [self._whole(seed) for seed in self.seeds if self.all_data]
        found += [self._bound(name, seed) for name in self._bounds for seed in self.seeds]
        return [path for path in found if (path / "run.toml").exists()]

    def config(self, method: str | None, seed: int) -> Run:
        """The run of a method, or (None) of the common start."""
        way = next((one for one in self.ways if one.name == method), Way(method or "", method or ""))
        names = self.data if method is None else f"{self.data}+{way.recipe}"
        extra = ["budget.per_round=[]"] if method is None else []
        run = config.load(catalog.recipe_files(names), [f"seed={seed}", *way.settings, *self.settings, *extra])
        if run.query.two_words is not None:
            raise LabelwiseError(f"compare: {names}: {run.query.two_words}")
        return opening.resolve_paths(run, self.folder, self.folder / "_features")

    def check(self) -> int:
        """The number of rounds in all; raises if a recipe is faulty, before anything is run."""
        if not self.methods or not self.seeds:
            raise LabelwiseError("compare: nothing to compare; name at least one recipe and one seed")
        if len({label(method) for method in self.methods}) < len(self.methods):
            raise LabelwiseError(f"compare: a recipe is listed twice: {', '.join(self.methods)}")
        total, common = len(self.seeds) * (1 + self.all_data), self.config(None, self.seeds[0])
        for method in self.methods:
            run = self.config(method, self.seeds[0])
            if run.ledger is not None:
                raise LabelwiseError(f"compare: {method} sets ledger, but runs that are compared have one file each")
            for part, own, start in (
                ("data", run.data, common.data),
                ("budget.start_images", run.budget.start_images, common.budget.start_images),
                ("budget.start", (run.budget.start, run.start_step), (common.budget.start, common.start_step)),
                ("features", _eyes(run, run.budget.start == "coverage"), _eyes(common, run.budget.start == "coverage")),
                ("cost", run.cost, common.cost),
            ):
                if own != start:
                    raise LabelwiseError(
                        f"compare: {method} sets {part}, so that it would not start where the others do; "
                        "set it for all with --set, or in the data recipe"
                    )
            total += len(self.seeds) * (run.rounds - 1)
        return total + len(self.seeds) * len(self._bounds) * self._rounds()

    def rounds_done(self) -> int:
        """How many rounds of all runs are finished (the common start and all data count once per seed)."""
        once = [self._start(seed) for seed in self.seeds]
        once += [self._whole(seed) for seed in self.seeds if self.all_data]
        starts = sum(RoundFolder(folder / "rounds" / "000").metrics.exists() for folder in once)
        own = [self.project(method, seed) for method in self.methods for seed in self.seeds]
        own += [self._bound(name, seed) for name in self._bounds for seed in self.seeds]
        every = (folder / "rounds" for folder in own)
        later = [path for rounds in every for path in rounds.glob("*/metrics.json") if path.parent.name != "000"]
        return starts + len(later)

    def _start(self, seed: int) -> Path:
        return self.folder / f"_start_seed{seed}"

    def _whole(self, seed: int) -> Path:
        return self.folder / f"_all_seed{seed}"

    @property
    def _bounds(self) -> tuple[str, ...]:
        return (NO_NEW_LABEL, EVERYTHING_LABELLED) if self.bounds else ()

    def _bound(self, name: str, seed: int) -> Path:
        return self.folder / f"_{name.replace(' ', '_')}_seed{seed}"

    def _rounds(self) -> int:
        """The most rounds after the first that any method has."""
        return max(self.config(method, self.seeds[0]).rounds - 1 for method in self.methods)

    def bound(self, name: str, seed: int) -> Run:
        """The run of a bound: whole images at random, none in any round, or all in round 1."""
        first = "1e9" if name == EVERYTHING_LABELLED else "0"
        per_round = [first] + ["0"] * (self._rounds() - 1) if self._rounds() else []
        asked = ["query.unit=image", "query.score=random", "query.select=top", "labels.policy=background"]
        asked += ["budget.unit=images", f"budget.per_round=[{', '.join(per_round)}]"]
        run = config.load(catalog.recipe_files(self.data), [f"seed={seed}", *self.settings, *asked])
        return opening.resolve_paths(run, self.folder, self.folder / "_features").model_copy(update={"name": name})

    def run(self, jobs: int, progress: Callable[[int], None], engine: str = "here") -> None:
        """Runs everything that is not done, `jobs` projects at a time; `progress` gets the rounds done since last. With
        the `engine` "ray" there are as many at a time as the cluster has cores.

        Raises:
            LabelwiseError: a run failed (its log is named); the others go on, and a repetition continues.
        """
        self.check()
        if engine not in ("here", "ray"):
            raise LabelwiseError(f"compare: engine {engine!r}; expected here or ray")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self._run_all(jobs, progress, engine)
        except Timeout:
            raise LabelwiseError(
                f"another process compares in {self.folder}; wait until it is done, or give another --folder"
            ) from None

    def _run_all(self, jobs: int, progress: Callable[[int], None], engine: str) -> None:
        progress(self.rounds_done())
        first = [Task("start", "", seed) for seed in self.seeds]
        later = [Task("method", method, seed) for seed in self.seeds for method in self.methods]
        later += [Task("all data", "", seed) for seed in self.seeds if self.all_data]
        later += [Task("bound", name, seed) for seed in self.seeds for name in self._bounds]
        if engine == "ray":
            for method in self.methods:
                own = self.config(method, self.seeds[0])
                if "ray" in (own.predict.engine, own.train.engine):
                    raise LabelwiseError(
                        f"compare: with --engine ray every run is a task that holds its cores, and {label(method)!r} "
                        "asks Ray for more within: set predict.engine=here and train.engine=here, or do without "
                        "--engine ray"
                    )
            ray_tasks.run(self.as_json(), (first, later), self.rounds_done, progress)
            return
        workers.run(self.as_json(), (first, later), jobs, progress, os.environ.get("OMP_NUM_THREADS", "1"))

    def as_json(self) -> str:
        """The comparison as text, for a worker process."""
        return json.dumps({**asdict(self), "folder": str(self.folder.absolute())})

    @staticmethod
    def from_json(text: str) -> Comparison:
        """The comparison of `as_json`."""
        given: dict[str, Any] = json.loads(text)
        ways = tuple(Way(one["name"], one["recipe"], tuple(one["settings"])) for one in given.pop("ways"))
        folder = Path(given.pop("folder"))
        lists: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
        return Comparison(folder=folder, ways=ways, **lists)

    def prepare(self, task: Task) -> Path:
        """The project of a task, made if it is not there; the start of its seed must be done.

        Raises:
            LabelwiseError: there is one with other settings.
        """
        if task.kind == "start":
            return self.begin(task.seed)
        start, whole = self._start(task.seed), False
        if task.kind == "method":
            folder, run = self.project(task.name, task.seed), self.config(task.name, task.seed)
            run = run.model_copy(update={"name": label(task.name)})
            whole = self._same_start(run)
        elif task.kind == "bound":
            folder, run, whole = self._bound(task.name, task.seed), self.bound(task.name, task.seed), True
        else:
            folder, run = self._whole(task.seed), self.config(None, task.seed)
            everything = run.budget.model_copy(update={"start_images": 1.0, "start": "random"})
            run = run.model_copy(update={"name": "all data", "budget": everything})
        if not (folder / "run.toml").exists():
            self._make(folder, run, start, whole=whole)
        self._refuse_other(folder, run)
        return folder

    def _same_start(self, run: Run) -> bool:
        """Whether a method trains the model of the common start on what that is trained on."""
        common = self.config(None, run.seed)
        same = run.model == common.model and run.train == common.train and run.labels.images == common.labels.images
        same &= run.labels.propagate is None  # it trains on lent boxes from the first round on
        reads = run.reads_features or run.reads_objects
        same &= _eyes(run, reads) == _eyes(common, reads)
        return same and run.labels.teacher == common.labels.teacher and "history" not in run.inputs  # while it trains

    def begin(self, seed: int) -> Path:
        """The project of the common start, made if it is not there; nothing is run."""
        folder = self._start(seed)
        run = self.config(None, seed)
        if not (folder / "run.toml").exists():
            self._make(folder, run, None)
        self._refuse_other(folder, run)
        return folder

    def _refuse_other(self, folder: Path, run: Run) -> None:
        if config.load(folder / "run.toml") != run:
            raise LabelwiseError(f"{folder} holds a run with other settings; give another --folder, or delete it")

    def _make(self, folder: Path, run: Run, start: Path | None, *, whole: bool = False) -> None:
        """A new project, in one step: with the start's round 0 (`whole`), or with its generated data only."""
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        if start is not None and whole:
            shutil.copytree(start, partial, ignore=shutil.ignore_patterns(*OWN))
            ledger = Ledger.open(partial / LEDGER)
            records.forget_settings(ledger)  # what differs is the method's choice, not a change on the way
            ledger.close()
            (partial / "run.toml").write_text(config.dump(run), encoding="utf-8")
        else:
            Project.create(partial, config.dump(run)).close()
        if start is not None and (start / "data").exists():
            staging.link(partial / "data", (start / "data").resolve())
        shared = self.folder / "_cache"  # of videos: decoded frames and optical flow
        shared.mkdir(exist_ok=True)
        staging.link(partial / "cache", shared.resolve())
        partial.rename(folder)


def _eyes(run: Run, matter: bool) -> dict[str, Any] | None:
    """The frozen features of a run, wherever they are kept; None where they do not matter."""
    return run.features.model_dump(exclude={"folder"}) if matter and run.features is not None else None


def is_finished(folder: Path) -> bool:
    """Whether all rounds of a project are done; an earlier labelwise wrote its report last."""
    return (folder / FINISHED).exists() or (folder / "report.html").exists()


def label(recipe: str) -> str:
    """What a recipe is called: its names, a file without its folder and ending.

    >>> label("bccd"), label("u_cb+mine/longer.toml")
    ('bccd', 'u_cb+longer')
    """
    return "+".join(Path(name).name.removesuffix(".toml") for name in recipe.split("+"))


def in_background(arguments: Sequence[str], folder: Path) -> int:
    """Starts a command detached from this terminal, its log in `folder/compare.log`; returns the process number."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "compare.log").open("a", encoding="utf-8") as output:
        command = [sys.executable, "-m", "labelwise", *arguments]
        flags = getattr(subprocess, "DETACHED_PROCESS", 0)  # Windows: a new session is POSIX's
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, creationflags=flags).pid
