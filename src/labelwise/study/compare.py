"""Several methods side by side: the same data, start set, first model, budget and training; several seeds each.

Every (method, seed) is an ordinary project; `labelwise run -p` of each runs in a process of its own. Killed, the whole
continues where it was. Round 0 (random images, first model) is run once per seed and copied to all methods that train
the same model; a method with another model (dropout, loss head, ensemble) starts from the same images with its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from labelwise import catalog, config
from labelwise.config import Run
from labelwise.data import staging
from labelwise.files.round_files import RoundFolder
from labelwise.ledger import records
from labelwise.ledger.ledger import Ledger
from labelwise.project import opening
from labelwise.project.project_folder import LEDGER, Project
from labelwise.types import LabelwiseError

NO_NEW_LABEL, EVERYTHING_LABELLED = "no new label", "everything labelled"
"""The rows that bound a comparison; `report.headroom` knows them by these names."""

OWN = ("data", "cache", ".lock*", "report.html", "ledger.copy*")
"""What a copy of the shared start does not take over."""


@dataclass(frozen=True, slots=True)
class Way:
    """A method that is a recipe with settings of its own; those of the comparison come after them."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where: projects are `folder/<method>_seed<seed>`.

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

    def project(self, method: str, seed: int) -> Path:
        """The project folder of one run."""
        return self.folder / f"{label(method)}_seed{seed}"

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

    def run(self, jobs: int, progress: Callable[[int], None]) -> None:
        """Runs everything that is not done, `jobs` projects at a time; `progress` gets the rounds done since last.

        Raises:
            LabelwiseError: a run failed (its log is named); the others go on, and a repetition continues.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self._run_all(jobs, progress)
        except Timeout:
            raise LabelwiseError(
                f"another process compares in {self.folder}; wait until it is done, or give another --folder"
            ) from None

    def _run_all(self, jobs: int, progress: Callable[[int], None]) -> None:
        seen = 0
        pairs = [(method, seed) for seed in self.seeds for method in self.methods]
        with ThreadPoolExecutor(jobs) as pool:
            starts = {seed: pool.submit(self._run_start, seed) for seed in self.seeds}
            runs = [pool.submit(self._run_method, method, seed, starts[seed]) for method, seed in pairs]
            runs += [pool.submit(self._run_whole, seed, starts[seed]) for seed in self.seeds if self.all_data]
            runs += [pool.submit(self._run_bound, n, seed, starts[seed]) for seed in self.seeds for n in self._bounds]
            try:
                while not all(done.done() for done in runs):
                    time.sleep(1)
                    done_now = self.rounds_done()
                    progress(done_now - seen)
                    seen = done_now
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)  # what runs gets the same signal and rolls back
                raise
        progress(self.rounds_done() - seen)
        failed = [str(error) for done in runs if (error := done.exception()) is not None]
        if failed:
            raise LabelwiseError(f"{len(failed)} of {len(runs)} runs failed; the first: {failed[0]}")

    def begin(self, seed: int) -> Path:
        """The project of the common start, made if it is not there; nothing is run."""
        folder = self._start(seed)
        run = self.config(None, seed)
        if not (folder / "run.toml").exists():
            self._make(folder, run, None)
        self._refuse_other(folder, run)
        return folder

    def _run_start(self, seed: int) -> None:
        self._process(self.begin(seed))

    def _refuse_other(self, folder: Path, run: Run) -> None:
        if config.load(folder / "run.toml") != run:
            raise LabelwiseError(f"{folder} holds a run with other settings; give another --folder, or delete it")

    def _run_method(self, method: str, seed: int, start: Future[None]) -> None:
        start.result()
        folder, run = self.project(method, seed), self.config(method, seed).model_copy(update={"name": label(method)})
        if not (folder / "run.toml").exists():
            common = self.config(None, seed)
            same = run.model == common.model and run.train == common.train and run.labels.images == common.labels.images
            same &= run.labels.propagate is None  # it trains on lent boxes from the first round on
            same &= run.labels.teacher == common.labels.teacher and "history" not in run.inputs  # recorded in training
            self._make(folder, run, self._start(seed), whole=same)
        self._refuse_other(folder, run)
        self._process(folder)

    def _run_whole(self, seed: int, start: Future[None]) -> None:
        start.result()
        folder, run = self._whole(seed), self.config(None, seed)
        everything = run.budget.model_copy(update={"start_images": 1.0, "start": "random"})
        run = run.model_copy(update={"name": "all data", "budget": everything})
        if not (folder / "run.toml").exists():
            self._make(folder, run, self._start(seed))
        self._refuse_other(folder, run)
        self._process(folder)

    def _run_bound(self, name: str, seed: int, start: Future[None]) -> None:
        start.result()
        folder, run = self._bound(name, seed), self.bound(name, seed)
        if not (folder / "run.toml").exists():
            self._make(folder, run, self._start(seed), whole=True)
        self._refuse_other(folder, run)
        self._process(folder)

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

    def _process(self, folder: Path) -> None:
        if (folder / "report.html").exists():  # a run's last act
            return
        log = folder.with_suffix(".log")
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        command = [sys.executable, "-m", "labelwise", "run", "--project", str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        with log.open("a", encoding="utf-8") as output:
            code = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode
        if code:
            raise LabelwiseError(f"{folder} stopped with exit code {code}; its log {log} says why")


def label(recipe: str) -> str:
    """What a recipe is called: its names, a file without its folder and ending.

    >>> label("bccd"), label("u_cb+mine/longer.toml")
    ('bccd', 'u_cb+longer')
    """
    return "+".join(Path(name).stem for name in recipe.split("+"))


def in_background(arguments: Sequence[str], folder: Path) -> int:
    """Starts a command detached from this terminal, its log in `folder/compare.log`; returns the process number."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "compare.log").open("a", encoding="utf-8") as output:
        command = [sys.executable, "-m", "labelwise", *arguments]
        flags = getattr(subprocess, "DETACHED_PROCESS", 0)  # Windows: a new session is POSIX's
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, creationflags=flags).pid
