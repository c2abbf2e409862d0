"""Opening and making projects: their settings, the images that a run reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from labelwise import catalog, config, files, weights
from labelwise.config import Run, run_file
from labelwise.config.features import Features
from labelwise.config.sections import Predict
from labelwise.data import bars, find, hold_back, kept_headers, long_tail
from labelwise.data._frames import Frames
from labelwise.data.known_order import in_known_order
from labelwise.data.video import every
from labelwise.errors import LabelwiseError, no_project
from labelwise.generated import patrol, roads, scenes
from labelwise.ledger import image_files
from labelwise.project import availability, given
from labelwise.project.context import Bar, Context, Decoded, askable, cache_of, clips_of, silent
from labelwise.project.data_root import by_url, root_of
from labelwise.project.kept_pools import KeptPools, Pools
from labelwise.project.project_folder import Project
from labelwise.types import Pool
from labelwise.types.disk import readable_errors, remove_leftovers

Read = Callable[..., Pool]
"""Reads a split of a data set in a format, as `find.read` does."""


def start(
    folder: Path,
    recipe: str | None,
    settings: Sequence[str] = (),
    bar: Bar = silent,
    kept: KeptPools | None = None,
) -> Context:
    """Opens the project in `folder`; makes it first when a recipe is given and it is not there yet.

    `kept`: the pools that this process has read for other projects.

    Raises:
        LabelwiseError: no project and no recipe; a project with other settings than those given; a faulty config.
    """
    there = (folder / "run.toml").exists()
    if recipe is None:
        if not there:
            raise no_project(folder)
        run = config.load(folder / "run.toml", settings)
        if settings:
            refuse(run, config.load(folder / "run.toml"))
            files.write_text(folder / "run.toml", run_file.change(folder / "run.toml", settings))
        return _open(Project.open(folder, run.ledger), run, bar, kept)
    said = config.load(catalog.recipe_files(recipe), settings)
    if not there:
        refuse(said)
    run = resolve_paths(said, folder)
    if there:
        before = config.load(folder / "run.toml")
        if before != run:
            changed = [k for k in Run.model_fields if getattr(before, k) != getattr(run, k)]
            raise LabelwiseError(
                f"{folder} holds another run (different: {', '.join(changed)}). Continue it with `labelwise run "
                f"--project {folder}`, change it there with --set, or give another --project"
            )
        return _open(Project.open(folder, run.ledger), run, bar, kept)
    if not (run.data.generated or run.data.remote):
        run.data.folder()  # a wrong path is an error before anything is written
    return _open(Project.create(folder, config.dump(run), run.ledger), run, bar, kept)


def refuse(run: Run, before: Run | None = None) -> None:
    """Settings of a project that is made or changed; one that has begun with them goes on, and is told. `before`: as it
    was; earlier versions wrote both words of `two_words` themselves.
    """
    for wrong in (run.thinned_tracks, run.query.two_words):
        if wrong is not None and (before is None or before.query.two_words != wrong):
            raise LabelwiseError(wrong)


def resolve_paths(run: Run, folder: Path, features: Path | None = None) -> Run:
    """Paths made absolute, so that the project can be opened from anywhere.

    `features`: where frozen features are kept unless the run says so itself; None: in the project.
    """
    data = run.data if run.data.generated else run.data.model_copy(update={"root": run.data.place()})
    model, tracks = run.model, run.tracks
    given = model.settings.get("weights", "none")
    if given.startswith("hf:"):
        model = model.model_copy(update={"weights": _hub(given)})
    elif "/" in given or given.endswith((".pth", ".pt", ".safetensors")):
        model = model.model_copy(update={"weights": _file("model.weights", given, '"none" trains from scratch')})
    if tracks.flow_weights is not None:
        file = _file("tracks.flow_weights", tracks.flow_weights, "tracks.preset=ultrafast needs none")
        tracks = tracks.model_copy(update={"flow_weights": file})
    frozen = None if run.features is None else _resolve_features(run.features, features)
    predict = run.predict.model_copy(update={"proposals": _proposals(run.predict)})
    changed = run.model_copy(
        update={"data": data, "model": model, "tracks": tracks, "features": frozen, "predict": predict}
    )
    return config.parse(changed.model_dump(exclude_none=True), str(folder))


def _proposals(rule: Predict) -> str | None:
    """Who proposes, with the absolute path of a file or folder."""
    name = rule.proposals
    if name is None or name in weights.of_kind("yolox"):
        return name
    kind, colon, inner = name.partition(":")
    folder = Path(inner).expanduser()
    if colon and (kind == "project" or folder.is_dir()):
        return f"{kind}:{folder.resolve()}"
    if rule.proposes_classes:
        return name
    return _file("predict.proposals", name, "yolox_nano, which `labelwise weights yolox_nano` fetches")


def _resolve_features(rule: Features, folder: Path | None) -> Features:
    kept = rule.folder if rule.folder is not None else None if folder is None else str(folder)
    given = rule.weights
    if given not in ("pretrained", "none"):
        given = _file("features.weights", given, '"pretrained": those of the body\'s package or hub')
    objects = rule.objects
    if objects is not None and objects not in weights.of_kind("yolox"):
        objects = _file("features.objects", objects, "yolox_nano, which `labelwise weights yolox_nano` fetches")
    absolute = None if kept is None else str(Path(kept).expanduser().resolve())
    changes = {"body": _hub(rule.body), "weights": given, "objects": objects, "folder": absolute}
    return rule.model_copy(update=changes)


def _hub(name: str) -> str:
    """The same, but a folder (`hf:models/mine`) with its absolute path; else it is a name on the hub."""
    family, colon, inner = name.partition(":")
    folder = Path(inner).expanduser()
    return f"hf:{folder.resolve()}" if family == "hf" and colon and folder.is_dir() else name


def _file(key: str, given: str, otherwise: str) -> str:
    """The absolute path of a file that a setting names, by its path or by its name of `labelwise weights`."""
    places = [Path(given), Path(os.environ.get("LABELWISE_DATA", ".")) / given]
    found = next((p for p in places if p.exists()), None)
    if found is None and weights.is_file(given):
        found = weights.path_of(given, key)
    if found is None:
        raise LabelwiseError(
            f"{key} = {given!r}: no such file here or under $LABELWISE_DATA; give another with --set {key}=PATH "
            f"({otherwise})"
        )
    return str(found.resolve())


def _open(project: Project, run: Run, bar: Bar, kept: KeptPools | None) -> Context:
    data = run.data
    root = root_of(run, project.folder, bar)
    if data.generated and not (root.exists() and any(root.iterdir())):
        with project.lock(), readable_errors(root):
            remove_leftovers(project.folder, below=False, name=root.name)
            _generate(run, root, bar)
    splits = ("train", "test") if data.generated else (data.pool_split or "", data.test_split or "")
    with by_url(root, data.place()) if data.remote else nullcontext():
        (whole, test, first), decoded = _pools_of(project, run, root, splits, kept, bar)
    pool, labels = given.split(whole, run)
    context = Context(project, run, pool, test, first, bar, decoded=decoded, given=labels)
    context.absent = context.pool.unavailable
    for one in (context.pool, context.test):
        writable = os.access(project.folder, os.W_OK)  # else there is nowhere to keep frames
        if one is not None and isinstance(one.frames, Frames) and data.frames_gb and writable:
            one.frames.keep_in(context.cache.absolute() / "frames", int(data.frames_gb * 1e9))
    context.see_classes()
    availability.see(context)
    return context


def _pools_of(
    project: Project, run: Run, root: Path, splits: tuple[str, str], kept: KeptPools | None, bar: Bar
) -> tuple[Pools, Decoded]:
    """`pools`, with the pool in the order of the ledger's images, and those of them that are gone."""
    known = image_files.known(project.ledger)
    names = [name for name, _, _ in known]

    def read() -> Pools:
        with bars.shown(bar), kept_headers.kept_in(cache_of(project.folder) / "headers"):
            pool, test, first = pools(run, root, *splits, names)
        return in_known_order(pool, names, np.array([size for _, *size in known], np.int64).reshape(-1, 2)), test, first

    return (read(), Decoded()) if kept is None else kept.find(run, root, splits, names, read)


def _generate(run: Run, root: Path, bar: Bar) -> None:
    """Draws the demo data."""
    if run.data.roads is not None:
        with bar("generate road scenes", roads.expected_frames(**run.data.roads)) as advance:
            roads.write(root, **run.data.roads, progress=advance)
        return
    if run.data.patrol is not None:
        given = run.data.patrol
        with bar("generate frames", int(given.get("train", 1600)) + int(given.get("test", 240))) as advance:
            patrol.write(root, **given, progress=advance)
        return
    settings = run.data.scenes or {}
    with bar("generate scenes", int(settings.get("train", 300)) + int(settings.get("test", 100))) as advance:
        scenes.write(root, **settings, progress=advance)


def pools(
    run: Run, root: Path, pool_split: str, test_split: str, known: Sequence[str] = (), read: Read = find.read
) -> tuple[Pool, Pool | None, int]:
    """The pool and the test images that a run reads from `root`, and how many images it labels first.

    That number is of the pool before `data.imbalance` thins it out (001, section 4.5.1). Where a part of the pool was
    drawn once, it stays that part: the images `known`.
    """
    data = run.data
    read = partial(read, first_pixel=data.first_pixel)
    pool = _name_classes(_pool(run, root, pool_split or None, known, read), data.classes)
    test = _name_classes(read(root, test_split, data.format), data.classes) if test_split else None
    if test is not None and test.classes != pool.classes:
        raise LabelwiseError(
            f"{root}: the test split {test_split} has the classes {', '.join(test.classes) or '(none)'}, the pool "
            f"{', '.join(pool.classes) or '(none)'}. Give both one class list, or test on a part of the pool: "
            "--set data.test_split= --set data.test_share=0.2"
        )
    if test is not None and (test.truth is None or not len(test.truth)):
        raise LabelwiseError(
            f"{root}: the test split {test_split} has no annotations to test on. Name another (data.test_split), or "
            "test on a part of the pool: --set data.test_split= --set data.test_share=0.2"
        )
    pool = given.of_pool(pool, run, known)
    if data.test_share:
        pool, test = _hold_back(pool, run, known)
    test = given.of_test(test, run)
    pool = every(pool, data.stride_frames) if data.stride_frames > 1 else pool
    thin = data.test_stride_frames or data.stride_frames
    test = every(test, thin) if test is not None and thin > 1 else test
    if run.needs_clips:
        clips_of(pool)
    for key in ("most_images", "sample"):
        if getattr(data, key) is not None and pool.clips is not None:
            raise LabelwiseError(f"data.{key} draws single images; for videos set query.every_frames instead")
    if data.most_images is not None and data.most_images < len(pool):
        drawn = np.random.default_rng(0).permutation(len(pool))
        pool = long_tail.subset(pool, np.sort(_fill_up(known, pool, drawn, data.most_images)))
    pool, first = _of_the_seed(pool, run, known)
    if run.classifies and not pool.one_class_per_image and pool.truth is not None:
        raise LabelwiseError(
            f"{root}: {run.model.name} classifies whole images, but this data set has boxes. Take a detector "
            "(model.name), or a folder of classes"
        )
    if find.classifies(root, data.format) and not run.classifies:
        raise LabelwiseError(
            f'{root}: this data set has classes but no boxes. Set model.name = "classifier", query.unit = "image" and '
            'labels.policy = "background", or begin with a recipe: `labelwise run cifar10 -s data.root=...`'
        )
    if run.classifies and len(pool.classes) == 0:
        raise LabelwiseError(f'{root}: no classes are known; for a folder of classes set data.format = "classes"')
    return pool, test, first


def _of_the_seed(pool: Pool, run: Run, known: Sequence[str]) -> tuple[Pool, int]:
    """The part of a pool that the run's seed draws, and how many images the first round labels."""
    whole, data = pool, run.data
    if data.sample is not None and data.sample < len(pool):
        drawn = np.random.default_rng([run.seed, 7]).permutation(len(pool))
        pool = long_tail.subset(pool, np.sort(_fill_up(known, pool, drawn, data.sample)))
    first = run.budget.first(int(askable(pool, run).sum()))
    if data.imbalance is not None:
        rows = _fill_up(known, pool, np.zeros(0, np.int64), 0) if known else _thin_out(pool, run, first)
        pool = long_tail.subset(pool, rows)
    if run.features is not None and len(pool) < len(whole):
        pool = replace(pool, whole=whole)
    return pool, first


def _pool(run: Run, root: Path, split: str | None, known: Sequence[str], read: Read) -> Pool:
    """The pool as it is read; an error of a project that has images says where they are expected."""
    advice = (
        f"This project has {len(known)} images below data.root = {run.data.root!r}: mount or put back that folder, or "
        "say where it is now with --set data.root=PATH"
    )
    try:
        pool = read(root, split, run.data.format)
    except LabelwiseError as error:
        if not known:
            raise
        raise LabelwiseError(f"{advice}\n{error}") from error
    if known and set(known).isdisjoint(pool.names):
        raise LabelwiseError(f"{root}: none of the images of this project is there ({known[0]} and so on). {advice}")
    return pool


def _fill_up(known: Sequence[str], pool: Pool, drawn: np.ndarray, most: int) -> np.ndarray:
    """Numbers of the images `known`, and of those `drawn` as many more as there is room for."""
    before = set(known)
    here = [i for i, name in enumerate(pool.names) if name in before]
    more = [i for i in drawn.tolist() if pool.names[i] not in before]
    return np.array(here + more[: max(0, most - len(known))], np.int64)


def _hold_back(pool: Pool, run: Run, known: Sequence[str]) -> tuple[Pool, Pool]:
    """The pool without the part that is held back, and that part. Where people label a pool of which some images are
    labelled, it is a part of these: images that nobody has looked at are asked about, and test nothing.
    """
    data = run.data
    if pool.truth is None:
        raise LabelwiseError(
            f"{pool.root}: data.test_share = {data.test_share:g}, but these images have no annotations to test on. "
            "Set data.test_share = 0"
        )
    back = hold_back.held_back(pool, data.test_share, seed=data.test_seed, group=data.group)
    if run.given is not None and pool.complete is not None and pool.clips is None and not data.group:
        back &= pool.complete
        back[[pool.number_of[name] for name in known if name in pool.number_of]] = False
        if not back.any():
            raise LabelwiseError(
                f"{pool.root}: data.test_share = {data.test_share:g} holds back none of {int(pool.complete.sum())} "
                "labelled images. Set a larger share, or data.test_share = 0 for no test part"
            )
    return long_tail.subset(pool, np.flatnonzero(~back)), long_tail.subset(pool, np.flatnonzero(back))


def _name_classes(pool: Pool, classes: tuple[str, ...]) -> Pool:
    """A pool without annotations gets the classes that the config names."""
    if not classes or pool.classes == classes:
        return pool
    if pool.classes:
        raise LabelwiseError(
            f"data.classes is {', '.join(classes)}, but {pool.root} has annotations of {', '.join(pool.classes)}. "
            "Remove data.classes: it is for images without annotations"
        )
    return replace(pool, classes=classes)


def _thin_out(pool: Pool, run: Run, first: int) -> np.ndarray:
    """The images that the imbalance leaves; each class keeps enough for its share of the first round."""
    if not pool.one_class_per_image or pool.truth is None or run.data.imbalance is None:
        raise LabelwiseError("data.imbalance thins out classes of images; this data set has no class per image")
    reserve = -(-first // len(pool.classes)) if run.budget.start == "balanced" else 0
    return long_tail.keep(
        pool.truth.labels,
        len(pool.classes),
        factor=run.data.imbalance,
        rng=np.random.default_rng([run.seed, 4]),
        reserve_per_class=reserve,
    )
