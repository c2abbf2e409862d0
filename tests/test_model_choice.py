"""Which detector to take: recall by a plain loop, the rule, both detectors on held-back folds, the commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from labelwise import cli, config, loop
from labelwise.cli import console
from labelwise.config.features import Features
from labelwise.errors import LabelwiseError
from labelwise.generated import scenes
from labelwise.models.yolox_network import YoloxNetwork
from labelwise.project import frozen_weights, opening
from labelwise.project.context import Context
from labelwise.project.objects import FrozenObjects
from labelwise.study import model_choice, model_folds, model_text, model_trial
from labelwise.study.model_choice import Evidence, Verdict, ceiling, decide, first_hit, over_folds, recall_within
from labelwise.study.unit_choice import Estimate
from labelwise.types import Boxes, Clips, Labels, Pool, Rects
from labelwise.types.overlap import iou_pairs


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console on which no line breaks."""
    monkeypatch.setattr(console.out, "_width", 300)


# ---- recall and the rule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_first_hits_are_those_of_the_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, (2, 4))
    tables = []
    for each in counts:
        corner = rng.integers(0, 9, (each.sum(), 2))
        xyxy = np.concatenate([corner, corner + rng.integers(1, 6, (each.sum(), 2))], axis=1).astype(np.float32)
        tables.append((np.append(0, np.cumsum(each)), xyxy))
    truth = Boxes(*tables[0], rng.integers(0, 3, counts[0].sum()))
    shown = Rects(*tables[1])
    rank = first_hit(shown, truth)
    for row, image in enumerate(truth.image.tolist()):
        hits = [iou_pairs(truth.xyxy[row : row + 1], one[None])[0] >= 0.5 for one in shown.of(image)]
        assert rank[row] == (hits.index(True) if any(hits) else model_choice.NEVER)
    for count in (1, 3):
        found = recall_within(rank, truth, count)
        assert not len(truth) or found.value == np.mean(rank < count)
        assert 0 <= found.low <= found.high <= 1
        each_class = [np.mean(rank[truth.labels == c] < count) for c in np.unique(truth.labels)]
        assert not each_class or ceiling(rank, truth, count) == pytest.approx(np.mean(each_class))


def test_nothing_labelled_tells_no_ceiling() -> None:
    none = Boxes.empty(2)
    assert np.isnan(ceiling(first_hit(Rects.empty(2), none), none, 10))
    assert recall_within(np.zeros(0, np.int64), none, 10) == Estimate(pytest.approx(np.nan, nan_ok=True), 0.0, 1.0, 0)


SPARSE = {10: Estimate(0.98, 0.93, 1.0, 60), 30: Estimate(1.0, 0.95, 1.0, 60), 100: Estimate(1.0, 0.95, 1.0, 60)}
DENSE = {10: Estimate(0.3, 0.22, 0.37, 183), 30: Estimate(0.7, 0.6, 0.8, 183), 100: Estimate(0.9, 0.8, 0.95, 183)}
BLIND = {count: Estimate(0.1, 0.05, 0.2, 60) for count in (10, 30, 100)}
MEASURED = Evidence(15, 183, "images", "trained", "retinanet", DENSE, 100, 100, 0.8, Estimate(0.4, 0.3, 0.5, 5), 0.35)


def measured(low: float, high: float, **changed: object) -> Evidence:
    gain = Estimate((low + high) / 2, low, high, 5)
    trained = Estimate(0.4 + gain.value, 0.3, 0.9, 5)
    return replace(MEASURED, trained=trained, gain=gain, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "verdict", "says"),
    [
        (measured(0.1, 0.5), Verdict("trained", "measured", None), "Take the trained detector (retinanet) now"),
        (measured(-0.5, -0.1), Verdict("frozen", "measured", 15), "Look again after 15 further labelled images (30 in"),
        (measured(-0.5, -0.1), Verdict("frozen", "measured", 15), "features.objects_most = 100 in run.toml"),
        (measured(0.1, 0.5, has="frozen"), Verdict("trained", "measured", None), "set model.name = retinanet in run"),
        (measured(-0.1, 0.2), Verdict("trained", "equal", 8), "Stay with the trained detector (retinanet)"),
        (measured(-0.1, 0.2, has="frozen"), Verdict("frozen", "equal", 8), "Look again after 8 further"),
        (measured(-np.inf, np.inf), Verdict("trained", "equal", 8), "cannot be told apart"),
        (MEASURED, Verdict("trained", "recall", None), "they stand dense. That is expected and not measured"),
        (
            replace(MEASURED, recall=SPARSE, wanted=10, kept=10),
            Verdict("frozen", "recall", 15),
            "few and salient. That is expected",
        ),
        (replace(MEASURED, ceiling=1.0), Verdict("trained", "recall", None), "Proposals do not limit the frozen one"),
        (replace(MEASURED, recall=BLIND, wanted=10), Verdict("trained", "recall", None), "does not see the rest"),
        (
            replace(MEASURED, has="frozen", kept=10),
            Verdict("trained", "recall", None),
            "--set features.objects_most=100 (this project has 10)",
        ),
    ],
)
def test_the_rule_and_its_words(found: Evidence, verdict: Verdict, says: str) -> None:
    assert decide(found) == verdict
    text = "\n".join(model_text.sentences(found, verdict))
    assert says in text and not re.search(r"\b(nan|inf)\b", text + str(model_text.table(found).rows))


def test_one_fold_tells_no_interval_and_unknown_folds_count_not() -> None:
    assert over_folds(0.3, np.array([0.3, np.nan])) == Estimate(0.3, -np.inf, np.inf, 1)
    assert over_folds(0.5, np.array([0.0, 1.0]), share=True) == Estimate(0.5, 0.0, 1.0, 2)
    four = over_folds(0.5, np.array([0.4, 0.6, np.nan, 0.4, 0.6]))
    spread = np.std([0.4, 0.6, 0.4, 0.6], ddof=1) * 3.182446 * np.sqrt(1 / 4 + 1 / 3)
    assert (four.low, four.high, four.n) == (pytest.approx(0.5 - spread), pytest.approx(0.5 + spread), 4)


@pytest.mark.parametrize(
    ("recall", "wanted", "frozen", "says"),
    [
        (SPARSE, 10, False, "(--model frozen takes it)"),
        (DENSE, 100, False, "90 % [80, 95] among the best 100, so that it misses many"),
        (DENSE, 100, True, "--set features.objects_most=100 finds more"),
    ],
)
def test_the_line_of_init(recall: dict[int, Estimate], wanted: int, frozen: bool, says: str) -> None:
    assert says in model_text.for_init(32, recall, wanted, "retinanet", frozen=frozen)


# ---- held-back parts ------------------------------------------------------------------------------------------------


def pool_of(n: int, clips: Clips | None = None) -> tuple[Pool, Labels]:
    """Images of 32 px with one object, of class image % 2; all but the last wholly labelled."""
    corner = np.random.default_rng(0).integers(0, 16, (n, 2))
    truth = Boxes(np.arange(n + 1), np.concatenate([corner, corner + 12], axis=1).astype(np.float32), np.arange(n) % 2)
    side = np.full(n, 32)
    pool = Pool(Path("x"), ("a", "b"), tuple(f"{i:02d}.png" for i in range(n)), side, side, clips=clips)
    whole = np.tile(np.array([[0, 0, 32, 32]], np.float32), (n - 1, 1))
    covered = Rects.from_rows(np.arange(n - 1), whole, n)
    return pool, Labels(truth, covered, Rects.empty(n), np.arange(n) < n - 1)


def test_folds_take_whole_clips() -> None:
    video = np.repeat(np.arange(6), 3)
    clips = Clips(tuple(f"v{k}" for k in range(6)), video, np.tile(np.arange(3), 6), np.zeros(18))
    pool, known = pool_of(18, clips)
    seen = model_folds.seen_of(pool, known, "", 0)
    assert seen.rows.tolist() == list(range(17)) and seen.folds == 5
    for number in range(6):
        assert len(set(seen.fold[video[:17] == number].tolist())) == 1
    assert len(seen.truth) == 17


def test_too_few_labelled_images_are_an_error() -> None:
    with pytest.raises(LabelwiseError, match=r"1 images \(1 images\) are wholly labelled so far, with 1 objects"):
        model_folds.seen_of(*pool_of(2), "", 0)


def perfect(seen: model_folds.Seen) -> FrozenObjects:
    """Proposals that are the objects, with features that tell the class, and one of background each."""
    n = len(seen.pool)
    there = np.stack([seen.truth.xyxy, np.tile([[0, 0, 6, 6]], (n, 1))], axis=1).reshape(-1, 4).astype(np.float32)
    sign = np.where(seen.truth.labels == 0, 1.0, -1.0)
    features = np.stack([sign, np.zeros(n)], axis=1).reshape(-1)
    columns = np.stack([features, np.tile([0.0, 1.0], n)], axis=1).astype(np.float32)
    return FrozenObjects(np.arange(0, 2 * n + 1, 2), there, np.tile([0.9, 0.1], n).astype(np.float32), columns, {})


def test_the_frozen_detector_finds_what_is_held_back_by_the_others() -> None:
    pool, known = pool_of(13)
    seen = model_folds.seen_of(pool, known, "", 0)
    targets = model_folds.targets_of(seen, known, "ignore")
    pooled, folds = model_folds.frozen_held(seen, perfect(seen), targets, {}).ap50()
    assert pooled == pytest.approx(1) and folds.tolist() == pytest.approx([1.0] * 5)
    alone = replace(seen.truth, labels=(np.arange(12) == 4).astype(np.int64))  # class b is in one image alone
    lonely = replace(seen, pool=replace(seen.pool, truth=alone))
    swapped = replace(targets, labels=alone.labels)
    pooled, folds = model_folds.frozen_held(lonely, perfect(lonely), swapped, {}).ap50()
    assert pooled < 0.6, "who never saw a class does not find it"


def test_half_of_the_images_train_where_half_is_asked() -> None:
    pool, known = pool_of(41)
    seen = model_folds.seen_of(pool, known, "", 0)
    targets, objects = model_folds.targets_of(seen, known, "ignore"), perfect(seen)
    whole = model_folds.frozen_held(seen, objects, targets, {})
    half = model_folds.frozen_held(seen, objects, targets, {}, 0.5)
    assert sum(map(len, whole.parts)) > 0
    assert [len(a.scores) for a in whole.parts] == [len(a.scores) for a in half.parts]
    assert any(not np.array_equal(a.scores, b.scores) for a, b in zip(whole.parts, half.parts, strict=True))


# ---- of a project ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of YOLOX-nano with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("data") / "weights" / "yolox_nano_coco.safetensors"
    path.parent.mkdir()
    save_file({name: value.contiguous() for name, value in YoloxNetwork(2).state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """A project of a detector that is trained; 8 images are labelled, nothing was trained."""
    settings = [
        "data.scenes={train=12, test=2, seed=0, classes=2, size_px=64, digits=[1, 2]}",
        *("data.image_size_px=64", "budget.start_images=8", "train.steps=2", "train.batch_size=2"),
        *("model={name='retinanet', backbone='shufflenet_v2_x0_5', weights='none'}", "predict.min_score=0.05"),
        *('query.score="entropy"', 'query.select="top"', 'labels.policy="ignore"'),
    ]
    opened = opening.start(tmp_path_factory.mktemp("p") / "p", "scenes", settings)
    with opened.project.lock():
        loop.resume(opened)
        for name in ("predict", "score", "select", "ask"):
            loop.run_stage(opened, 0, name)
    yield opened
    opened.project.close()


def rule_of(detector: Path) -> Features:
    return Features(body="shufflenet_v2_x0_5", weights="none", objects=str(detector), objects_px=64, objects_crop_px=32)


def test_both_detectors_are_measured_on_what_is_labelled(
    project: Context, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_weights, "needed", lambda: rule_of(detector))
    before = project.project.config_path.read_bytes()
    alone = model_trial.of_project(project)
    assert (alone.images, alone.has, alone.name, alone.gain) == (8, "trained", "retinanet", None)
    assert sorted(alone.recall) == [10, 30, 100] and alone.kept == alone.wanted
    assert alone.recall[10].value <= alone.recall[100].value and alone.objects == alone.recall[10].n > 8
    assert alone.frozen.n == 5 and alone.frozen.value <= alone.ceiling + 0.02
    result = CliRunner().invoke(cli.app, ["advise", "-p", str(project.project.folder), "--models", "--train"])
    assert result.exit_code == 0, result.output
    assert "AP50 of the trained detector (retinanet)" in result.output
    assert "the frozen one to about" in result.output or "do not limit" in result.output
    assert project.project.config_path.read_bytes() == before


def test_a_frozen_project_uses_the_objects_that_it_keeps(project: Context, detector: Path) -> None:
    frozen = [
        *(f'features={{body="shufflenet_v2_x0_5", weights="none", objects="{detector}", objects_px=64}}',),
        *("features.objects_crop_px=32", "features.pca=8", 'model={name="frozen", c=10.0}', 'query.score="random"'),
    ]
    found = model_trial.of_project(project, settings=frozen)
    assert (found.has, found.kept, found.name) == ("frozen", 10, "retinanet")
    assert "model" in config.load(project.project.config_path).model_fields_set
    assert (project.project.folder / "features").is_dir()


def test_missing_weights_are_named_with_their_command(
    project: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    monkeypatch.setenv("LABELWISE_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["labelwise", "advise", "-p", str(project.project.folder), "--models"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    with pytest.raises(LabelwiseError, match=r"needs yolox_nano\.pth and mobilenet.*`labelwise weights yolox_nano`"):
        model_trial.of_project(project)


@pytest.mark.parametrize("wrong", [["--train"], ["--recipe", "starter"], ["--set", "train.steps=1"]])
def test_options_of_models_alone_are_refused(project: Context, wrong: list[str]) -> None:
    with pytest.raises(LabelwiseError, match="go with --models"):
        CliRunner().invoke(cli.app, ["advise", "-p", str(project.project.folder), *wrong], catch_exceptions=False)


# ---- init -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    scenes.write(root, train=12, test=3, size_px=64, digits=(1, 2), scale=(0.3, 0.5), classes=2)
    return root


def init(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["init", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_init_says_which_detector_it_takes(
    drawn: Path, detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LABELWISE_DATA", str(tmp_path))
    without = init(str(tmp_path / "p1"), "--data", str(drawn))
    assert "Detector:" not in without
    monkeypatch.setenv("LABELWISE_DATA", str(detector.parents[1]))
    told = init(str(tmp_path / "p2"), "--data", str(drawn))
    assert "Detector: retinanet, which is trained. " in told and "of the objects of 12 images" in told
    same = [(tmp_path / name / "run.toml").read_text().replace(f'"{name}"', "") for name in ("p1", "p2")]
    assert same[0].splitlines()[1:] == same[1].splitlines()[1:]
    with pytest.raises(LabelwiseError, match="labelwise weights mobilenet_v2"):
        init(str(tmp_path / "p3"), "--data", str(drawn), "--model", "frozen")
    assert not (tmp_path / "p3").exists()
    body = detector.parent / "mobilenet_v2-b0353104.pth"
    body.touch()
    try:
        frozen = init(str(tmp_path / "p4"), "--data", str(drawn), "--model", "frozen")
    finally:
        body.unlink()
    assert "Detector: frozen, as --model says. " in frozen
    run = config.load(tmp_path / "p4" / "run.toml")
    assert run.reads_objects and run.features is not None and run.features.objects == str(detector.resolve())


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--model", "big"], "frozen or trained"), (["--model", "frozen", "--recipe", "bccd"], "one of")],
)
def test_init_refuses_models_that_it_does_not_know(drawn: Path, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        init(str(tmp_path / "p"), "--data", str(drawn), *more)
    assert not (tmp_path / "p").exists()
