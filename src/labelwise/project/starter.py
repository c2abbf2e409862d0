"""Making a project of any folder: what it holds, pool and test split, the starter and the budget that fit.

Nothing is written before everything has been read and checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labelwise import catalog, config, files
from labelwise.config import Run, run_file
from labelwise.config.features import Features
from labelwise.config.sections import Data
from labelwise.data import bars, hold_back, image_store, kept_headers, recognise, roles
from labelwise.data.recognise import Found
from labelwise.errors import LabelwiseError
from labelwise.project import data_root, detector_size, fresh, frozen_weights, given, opening, project_folder
from labelwise.project.context import Bar, askable, cache_of, silent
from labelwise.project.project_folder import Project
from labelwise.types import Pool
from labelwise.types.disk import readable_errors

SHARE = 0.2
"""Part of a pool with annotations that is held back to test on, where there is no test split."""
FRAMES = 5000
"""Of videos about so many frames may be asked."""
SMALL_PX = 64
_FIRST, _MOST = 20, 200


@dataclass
class NewProject:
    """A project that was made: what was found, what was chosen, and sentences on it."""

    run: Run
    found: Found
    pool: Pool
    test: Pool | None
    messages: list[str] = field(default_factory=list)


def make(
    folder: Path,
    data: str | Path,
    recipe: str | None = None,
    classes: Sequence[str] = (),
    settings: Sequence[str] = (),
    bar: Bar = silent,
    model: str | None = None,
    machine: str | None = None,
) -> NewProject:
    """Makes the project, or makes it anew while no stage of it has begun.

    `data`: a folder, or the URL of one in an object store. `model`: "frozen" starts with a frozen detector; None,
    "trained": with one that is trained. `machine`: of what size that is, for a "cpu" or a "gpu"; None: for a GPU where
    there is one and `settings` say nothing of the model.

    Raises:
        LabelwiseError: nothing is written then.
    """
    by_user = config.layers([], settings)
    large, frozen = detector_size.large(machine, model, recipe, settings), _frozen(model, recipe)
    said: Mapping[str, Any] = by_user.get("data", {})
    place = _place(folder, str(said.get("root", data)))
    before = config.load(folder / "run.toml") if (folder / "run.toml").exists() else None
    if before is not None:
        fresh.refuse_begun(folder, before.ledger)
    views = {"views": ["flip"]}  # which the default score needs
    checked = {key: value for key, value in said.items() if key != "given"}  # which hangs on what is found
    asked = config.parse({"data": {**checked, "root": place}, "predict": views}, "--set")  # before a long read
    remote = asked.data.remote
    headers = cache_of(folder) / "headers"  # written when the project is there
    with project_folder.whole(folder), bars.shown(bar if remote else silent), kept_headers.kept_in(headers):
        if remote:
            with readable_errors(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is fetched lies in it
        root = data_root.root_of(asked, folder, bar)
        reading = silent if remote else bar
        with data_root.by_url(root, place):
            with reading(f"read {root.name}", 0) as advance:
                found = recognise.look(root, said.get("format"), advance, first_pixel=said.get("first_pixel"))
            started = _start(found, place, by_user, tuple(classes), frozen, large)
            raw, run = _resolve(folder, started, recipe, settings)
            pool, test, first = opening.pools(
                run, root, run.data.pool_split or "", run.data.test_split or "", read=found.read
            )
            if recipe is None:
                raw, run = _resolve(folder, started, recipe, settings, _budget(run, pool, first))
        head = (
            f"{run.name}: made by `labelwise init` of {place}",
            "`labelwise config` explains every setting there is.",
        )
        text = run_file.text(raw, head)
        size = detector_size.messages(run, machine) if large else []
        made = NewProject(run, found, pool, test, [*_summary(found, run, pool, test), *started.messages, *size])
        if before is None:
            Project.create(folder, text, run.ledger).close()
            return made
        if before.ledger != run.ledger:
            raise LabelwiseError(
                f"{folder} has its ledger in {before.ledger or 'a file'}; name another folder to change it"
            )
        fresh.forget_pool(folder, run.ledger)
        files.write_text(folder / "run.toml", text)
        return made


def _place(folder: Path, data: str) -> str:
    """The data folder, or its URL; refused where the project would lie in it."""
    if image_store.is_url(data):
        return data
    root, place = Path(data).expanduser().resolve(), folder.expanduser().resolve()
    if not root.exists():
        raise LabelwiseError(f"--data {data}: there is no such folder. Give the folder with your images or videos")
    if root == place or root in place.parents:
        raise LabelwiseError(
            f"the project {folder} would lie in its own data folder {data}, and its files would be read as images. "
            f"Name a project folder outside of it, such as {root.parent / (root.name + '-project')}"
        )
    return str(root)


def _frozen(model: str | None, recipe: str | None) -> Features | None:
    """The features of a frozen detector, where one is wanted."""
    if model not in (None, "frozen", "trained"):
        raise LabelwiseError(f"--model {model}: expected frozen or trained; another detector: --set model.name=NAME")
    if model is not None and recipe is not None:
        raise LabelwiseError("--model chooses the starter; a recipe names its own model: give one of the two")
    return frozen_weights.needed() if model == "frozen" else None


@dataclass
class _Start:
    """What a data set asks of the settings: its own table, and those that fit it."""

    recipe: str
    data: dict[str, Any]
    other: dict[str, Any]
    messages: list[str]


def _start(
    found: Found, root: str, by_user: Mapping[str, Any], classes: tuple[str, ...], frozen: Features | None, large: bool
) -> _Start:
    """Chooses pool, test part, starter and who answers, but for what the user has set."""
    said, who = by_user.get("data", {}), by_user.get("ask", {}).get("who")
    messages = [found.note] if found.note else []
    name, test = _splits(found, said)
    pool = found.pools[name]
    data: dict[str, Any] = {"root": root, "format": found.format}
    data |= {"pool_split": name} if name else {}
    share = float(said.get("test_share", 0 if test or not roles.annotated(pool) else SHARE))
    if share:
        data |= {"test_share": share, "test_seed": 0}
        group = str(said.get("group", r"^(.*)\.rf\." if any(".rf." in one for one in pool.names) else ""))
        data |= {"group": group} if group else {}
        data["test_seed"] = hold_back.seed(pool, share, group)
    elif test:
        data["test_split"] = test
    if classes or not (pool.classes or said.get("classes")):
        data["classes"] = list(classes)
    labels = said.get("given", "complete" if _half_labelled(pool) and who != "oracle" else None)
    data |= {"given": labels} if labels else {}
    of_pool = labels.get(name) if isinstance(labels, dict) else labels
    simulated = roles.annotated(pool) and of_pool in (None, "all")
    other: dict[str, Any] = {"ask": {"who": "oracle" if simulated else "people"}}
    recipe = "starter_classes" if found.classifies else "starter"
    if pool.clips is not None:
        recipe = "starter_frames"
        stride = -(-round(len(pool) * (1 - share)) // FRAMES)
        if stride > 1 and "stride_frames" not in said:
            other["query"] = {"every_frames": stride}
            data["test_stride_frames"] = stride
    if large and not found.classifies:
        recipe += "+gpu"
    longest = int(max(pool.width_px.max(), pool.height_px.max()))
    if found.classifies and longest <= SMALL_PX:
        data["image_size_px"] = longest
        other["model"] = {"backbone": "small", "weights": "none"}
    if frozen is not None:
        if found.classifies:
            raise LabelwiseError(f"{found.root}: every image has a class and no boxes; --model frozen is a detector")
        recipe = "starter_frozen"
        other["features"] = {"weights": frozen.weights, "objects": frozen.objects}
    return _Start(recipe, data, other, messages)


def _half_labelled(pool: Pool) -> bool:
    """Whether some images are labelled, and at others nobody has looked."""
    return roles.annotated(pool) and pool.complete is not None and not pool.complete.all()


def _splits(found: Found, said: Mapping[str, Any]) -> tuple[str, str | None]:
    """The pool and the test split: those that the user names, else those that fit."""
    name = said.get("pool_split")
    if name is not None and name not in found.pools:
        found.pools[name] = found.read(found.root, name, found.format, found.first_pixel)
    name, test = roles.choose(found.pools, name)
    return name, None if "test_share" in said else said.get("test_split", test)


def _resolve(
    folder: Path,
    start: _Start,
    recipe: str | None,
    settings: Sequence[str],
    budget: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Run]:
    """The settings as run.toml holds them, and the run that they are."""
    paths = catalog.recipe_files(recipe or start.recipe)
    between: dict[str, Any] = {"data": start.data, **({"budget": dict(budget)} if budget else {})}
    kept: dict[str, Any] = {
        key: start.other[key] for key in ("ask", "query") if key in start.other
    }  # whatever the recipe
    between |= {"name": folder.resolve().name, **start.other} if recipe is None else kept
    raw = config.layers(paths, settings, between)
    for generated in ("scenes", "roads", "patrol"):
        raw["data"].pop(generated, None)
    foreign = {"pool_split", "test_split"} - set(start.data) - set(config.layers([], settings).get("data", {}))
    raw["data"]["root"] = start.data["root"]
    keys = [key for key in (*Data.model_fields, *raw["data"]) if key in raw["data"] and key not in foreign]
    raw["data"] = {key: raw["data"][key] for key in keys}  # of a recipe's own data set nothing stays
    said = config.parse(raw, " + ".join(map(str, paths)))
    opening.refuse(said)
    run = opening.resolve_paths(said, folder)
    if run.model.settings.get("weights") != config.parse(raw, "").model.settings.get("weights"):
        raw["model"]["weights"] = run.model.settings["weights"]
    return raw, run


def _budget(run: Run, pool: Pool, first: int) -> dict[str, Any]:
    """Images of the first round and what each further round may spend, so that neither is silly for this pool."""
    n, classes = int(askable(pool, run).sum()), len(pool.classes) if run.classifies else 0
    start = max(1, min(max(first, _FIRST, 2 * classes), max(_MOST, 2 * classes), n // 4))
    found: dict[str, Any] = {"start_images": 0 if run.given in ("complete", "all") else start}
    if run.budget.unit in ("images", "frames"):
        amount = min(start, max(1, (n - start) // 3))
    elif pool.truth is not None and run.given != "partial":
        seen = n if pool.complete is None else int(pool.complete.sum())
        amount = round(min(_MOST, start * len(pool.truth) / max(seen, 1), len(pool.truth) / 4))
    else:
        found["unit"] = "queries"
        amount = min(_MOST, 5 * start)
    return found | {"per_round": [max(1, amount)] * 3}


def _budget_message(run: Run, images: str, pool: Pool) -> list[str]:
    who = "people answer on the page of `labelwise serve`"
    if run.ask.who == "oracle":
        who = "the annotations answer (people: --set ask.who=people)"
    each = ", ".join(f"{amount:g}" for amount in run.budget.per_round)
    amounts = f"{each} {images if run.budget.unit == 'images' else run.budget.unit}"
    first, lines = f"{run.budget.start_images:g} {images} at random, then", []
    if run.given not in (None, "empty") and pool.truth is not None:
        several = int((np.diff(pool.truth.offsets) > 0).sum())
        whole = several if pool.complete is None else int(pool.complete.sum())
        how = "some of their objects" if run.given == "partial" else f"{whole} of them wholly labelled"
        lines = [
            f"Labels: {several} of {len(pool)} {images} come with {len(pool.truth)} boxes ({how}), known from "
            "the start at no cost (--set data.given=partial: there may be more objects in them; empty: they are "
            "ignored; all: those without labels hold nothing)"
        ]
        first = first if run.budget.start_images else "none at random,"
    return [
        *lines,
        f"Budget: {first} rounds of {amounts} (--set budget.start_images=N, --set budget.per_round=[...]); {who}",
    ]


def _summary(found: Found, run: Run, pool: Pool, test: Pool | None) -> list[str]:
    """What was chosen, and by which setting that is changed."""
    data = run.data
    messages = []
    if len(found.pools) > 1:
        messages.append(f"Pool: {data.pool_split} (another: --set data.pool_split=NAME)")
    if data.test_share and test is not None:
        whole = "videos" if pool.clips is not None else "images"
        counts = (
            f"{_videos(test)} of {_videos(test) + _videos(pool)} videos"
            if pool.clips is not None
            else f"{len(test)} of {len(test) + len(pool)} images"
        )
        messages.append(
            f"Test: there is no test split, so {counts} are held back from the pool, the same {whole} also when "
            f"others are added (--set data.test_share={data.test_share:g}; 0: no test)"
        )
    elif data.test_split:
        messages.append(f"Test: {data.test_split} (another: --set data.test_split=NAME)")
    elif roles.annotated(pool):
        messages.append("Test: none (--set data.test_split=NAME, or --set data.test_share=0.2 for a part of the pool)")
    else:
        messages.append("Test: none, because these images have no annotations")
    if run.query.every_frames is not None:
        messages.append(
            f"Frames: every {run.query.every_frames}., {askable(pool, run).sum()} of {len(pool)}, may be asked "
            "(another: --set query.every_frames=N); tracks go over all of them"
        )
    if test is not None and (line := given.test_line(test)) is not None:
        messages.append(f"Test: {line}")
    messages += given.messages(pool)
    return messages + _budget_message(run, "frames" if pool.clips is not None else "images", pool)


def next_step(folder: Path, made: NewProject) -> str:
    """The command after `init`."""
    run = f"`labelwise run --project {folder}`"
    if made.run.ask.who != "people":
        return run
    return f"{run}, and beside it `labelwise serve --project {folder}`, where people answer"


def _videos(pool: Pool) -> int:
    return 0 if pool.clips is None else len(np.unique(pool.clips.video))
