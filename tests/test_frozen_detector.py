"""The frozen detector: what proposals learn, its solution, its detections, and a whole run with networks of chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from labelwise import config, loop
from labelwise.errors import LabelwiseError
from labelwise.files import read_json
from labelwise.files.round_files import STAGES
from labelwise.models import frozen
from labelwise.models.proposals import Proposals, crops
from labelwise.models.yolox_network import YoloxNetwork
from labelwise.project import opening
from labelwise.project.objects import FrozenObjects
from labelwise.project.round import Round
from labelwise.stages.frozen_detector import detect, teach
from labelwise.stages.selector_inputs import makers
from labelwise.targets.proposal_labels import match
from labelwise.types import Rects, Targets
from labelwise.types import overlap as overlap_of
from labelwise.types.overlap import iou_pairs, nearest, share_pairs


def boxes_of(rng: np.random.Generator, n: int, side: int = 12) -> np.ndarray:
    """Boxes of whole pixels, so that overlaps tie now and then; one in eight without area."""
    corner = rng.integers(0, side, (n, 2))
    size = rng.integers(1, 6, (n, 2)) * (rng.random((n, 1)) > 0.125)
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def table_of(rng: np.random.Generator, images: int, most: int) -> Rects:
    counts = rng.integers(0, most + 1, images)
    return Rects(np.append(0, np.cumsum(counts)).astype(np.int64), boxes_of(rng, int(counts.sum())))


def targets_of(rng: np.random.Generator, pool: int) -> Targets:
    """Entries of some images, now and then two of one."""
    images = np.sort(rng.integers(0, pool, rng.integers(0, 5)))
    m = len(images)
    boxes, negatives, ignore = (table_of(rng, m, 3) for _ in range(3))
    n = len(boxes.xyxy)
    weight = rng.choice([0.0, 0.5, 1.0], (2, n)).astype(np.float32)
    whole = np.tile(np.array([0, 0, 20, 20], np.float32), (m, 1))
    return Targets(
        images.astype(np.int64), boxes.offsets, boxes.xyxy, rng.integers(0, 3, n), weight[0], weight[1],
        np.zeros(n, np.int8), negatives, ignore, whole,
    )  # fmt: skip


def slow_match(targets: Targets, proposals: Rects) -> dict[int, int]:
    """Proposal by proposal, entry by entry, box by box."""
    out: dict[int, tuple[float, int]] = {}
    for entry, image in enumerate(targets.images.tolist()):
        for row in range(proposals.offsets[image], proposals.offsets[image + 1]):
            here, best, overlap = proposals.xyxy[row : row + 1], -1, 0.0
            for box in range(targets.offsets[entry], targets.offsets[entry + 1]):
                iou = float(iou_pairs(here, targets.boxes[box : box + 1])[0])
                if iou > overlap:
                    best, overlap = box, iou
            inside = [
                any(share_pairs(here, one[None])[0] >= 0.5 for one in rects.of(entry))
                for rects in (targets.negatives, targets.ignore)
            ]
            if overlap >= 0.5 and (targets.w_cls[best] > 0 or targets.w_box[best] > 0):
                if row not in out or out[row][1] < 0 or out[row][0] < overlap:
                    out[row] = (overlap, best)
            elif overlap < 0.3 and inside[0] and not inside[1] and row not in out:
                out[row] = (overlap, -1)
    return {row: box for row, (_, box) in out.items()}


@pytest.mark.parametrize("seed", range(40))
def test_proposals_learn_what_the_plain_loop_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, proposals = targets_of(rng, 4), table_of(rng, 4, 6)
    lesson = match(targets, proposals)
    assert dict(zip(lesson.rows.tolist(), lesson.box.tolist(), strict=True)) == slow_match(targets, proposals)


def test_a_rejected_box_says_nothing_of_the_smaller_objects_in_it() -> None:
    """Its question was whether there is an object of its size; only what overlaps it as much learns of the answer."""
    mark = np.array([[0, 0, 10, 10]], np.float32)
    proposals = Rects(np.array([0, 3]), np.array([[0, 0, 10, 9], [1, 1, 3, 3], [20, 20, 24, 24]], np.float32))
    one, nothing = np.array([0, 1]), np.zeros((0, 4), np.float32)
    whole = np.array([[0, 0, 30, 30]], np.float32)
    alone = Targets(
        np.array([0]), np.array([0, 0]), nothing, np.zeros(0, np.int64), np.zeros(0, np.float32),
        np.zeros(0, np.float32), np.zeros(0, np.int8), Rects(one, mark), Rects.empty(1), whole,
    )  # fmt: skip
    assert match(alone, proposals).rows.tolist() == [0, 1], "as a rectangle in which everything is known"
    assert match(alone, proposals, Rects(one, mark)).rows.tolist() == [0]
    covered = replace(alone, negatives=Rects(np.array([0, 2]), np.concatenate([mark, whole])))
    assert match(covered, proposals, Rects(one, mark)).rows.tolist() == [0, 1, 2], "what was looked over is known"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("at_once", [1, 7, overlap_of.PAIRS])
def test_nearest_box_is_that_of_the_plain_loop(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_of, "PAIRS", at_once)
    rng = np.random.default_rng(seed)
    mine, others = table_of(rng, 5, 4), table_of(rng, 5, 4)
    row, overlap = nearest(mine.offsets, mine.xyxy, others)
    for image in range(5):
        for one in range(mine.offsets[image], mine.offsets[image + 1]):
            best = (-1, 0.0)
            for other in range(others.offsets[image], others.offsets[image + 1]):
                iou = float(iou_pairs(mine.xyxy[one : one + 1], others.xyxy[other : other + 1])[0])
                best = (other, iou) if iou > best[1] else best
            assert (int(row[one]), float(overlap[one])) == best


def test_a_crop_is_the_part_of_the_image_in_the_box() -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:20, 30:50] = 255
    found = Proposals(torch.tensor([0, 1]), torch.tensor([[30.0, 10, 50, 20]]), torch.tensor([0.5]))
    inside = crops([image], found, size_px=8)
    assert inside.shape == (1, 3, 8, 8)
    assert inside[0, :, 1:-1, 1:-1].min() > 0.99
    around = crops([image], found, size_px=8, margin=2.0)
    assert around[0, 0, 3:5, 3:5].min() > 0.99 and around[0, 0, 0].max() < 0.01
    assert len(crops([image], Proposals(torch.tensor([0, 0]), torch.zeros(0, 4), torch.zeros(0)), size_px=8)) == 0


def model_of(features: np.ndarray, labels: np.ndarray, n_classes: int = 3, **settings: object) -> frozen.FrozenDetector:
    model = frozen.build(n_classes, features.shape[1], **settings)  # type: ignore[arg-type]
    assert isinstance(model, frozen.FrozenDetector)
    model.solve(features, labels, np.ones(len(labels)))
    return model.eval()


SPOTS = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [-1, 0], [-0.9, -0.1]])
BOX = np.array([[0, 0, 4, 4]], np.float32)


def test_a_class_without_a_label_has_no_probability() -> None:
    model = model_of(SPOTS, np.array([0, 0, 2, 3, 3]))
    boxes, probs, score = model.candidates(np.array([[1, 0]], np.float32), BOX, np.array([0.5], np.float32))
    assert probs[0].argmax() == 0 and probs[0, 1] == 0 and probs[0].sum() == pytest.approx(1)
    assert 0 < score[0] <= 0.5 and boxes.tolist() == BOX.tolist()


def test_background_lowers_the_confidence_by_its_power() -> None:
    near = np.array([[-1, 0]], np.float32)
    labels = np.array([0, 0, 2, 3, 3])
    scores = [model_of(SPOTS, labels, background=b).candidates(near, BOX, np.ones(1, np.float32))[2][0] for b in (0, 1)]
    assert scores[1] < 0.5 * scores[0]


@pytest.mark.parametrize("labels", [[], [3, 3], [1, 1], [1, 3]], ids=["nothing", "background", "one class", "both"])
def test_few_labels_still_give_a_distribution(labels: list[int]) -> None:
    model = model_of(SPOTS[: len(labels)], np.array(labels, np.int64))
    _, probs, score = model.candidates(SPOTS.astype(np.float32), BOX.repeat(5, 0), np.full(5, 0.5, np.float32))
    assert np.allclose(probs.sum(axis=1), 1) and np.isfinite(score).all()
    assert (score <= 0.5).all() and (score > 0).all()


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(LabelwiseError, match="training row 1"):
        model_of(np.array([[0.0], [np.nan]]), np.array([0, 1]))


def test_a_box_that_is_moved_by_its_shifts_is_the_other() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.concatenate([c, c + rng.uniform(2, 5, (50, 2))], axis=1) for c in rng.uniform(0, 9, (2, 50, 2)))
    assert np.allclose(frozen.moved_by(a.astype(np.float32), frozen.shifts_of(a, b)), b, atol=1e-4)


def test_boxes_are_moved_where_labels_say_so() -> None:
    features, boxes = np.array([[1.0], [-1.0]] * 20), np.array([[10.0, 10, 20, 20]] * 40)
    true = boxes + np.where(features > 0, [[5.0, 0, 5, 0]], 0)
    model = frozen.build(1, 1, regress=True)
    assert isinstance(model, frozen.FrozenDetector)
    model.solve(features, np.zeros(40, np.int64), np.ones(40))
    model.solve_shifts(features, boxes, true, np.ones(40))
    moved, _, _ = model.candidates(
        np.array([[1], [-1]], np.float32), boxes[:2].astype(np.float32), np.ones(2, np.float32)
    )
    assert np.abs(moved[:, 0] - [15, 10]).max() < 0.5


def test_detections_are_sorted_and_stay_in_the_image() -> None:
    model = model_of(SPOTS, np.array([0, 0, 2, 3, 3]))
    boxes = np.array([[-3, -3, 4, 4], [2, 2, 90, 90], [8, 8, 8, 9]], np.float32)
    objects = FrozenObjects(
        np.array([0, 2, 2, 3]), boxes, np.array([0.3, 0.9, 0.9], np.float32), SPOTS[:3].astype(np.float32), {}
    )
    found = detect(model, objects, np.full((3, 2), 10), 0.01)
    assert found.offsets.tolist() == [0, 2, 2, 2]
    assert found.boxes.tolist() == [[2, 2, 10, 10], [0, 0, 4, 4]] and found.scores[0] > found.scores[1]
    assert len(detect(model, objects, np.full((3, 2), 10), 0.99)) == 0


def test_an_image_that_counts_for_nothing_moves_no_box() -> None:
    """Two images of one proposal each; only the first is in the sample."""
    proposals = np.tile(np.array([[0, 0, 10, 10], [30, 30, 40, 40]], np.float32), (2, 1))
    rng, one, at = np.random.default_rng(0), np.ones(2, np.float32), np.arange(3)
    features = rng.normal(size=(4, 3)).astype(np.float32)
    objects = FrozenObjects(np.array([0, 2, 4]), proposals, np.ones(4, np.float32), features, {})
    whole = np.tile(np.array([0, 0, 40, 40], np.float32), (2, 1))

    def shifts(side: int, times: list[int] | None) -> torch.Tensor:
        boxes = np.array([[0, 0, 9, 9], [0, 0, side, side]], np.float32)
        taught = Targets(at[:2], at, boxes, np.array([0, 1]), one, one, np.zeros(2, np.int8),
                         Rects(at, whole), Rects.empty(2), whole)  # fmt: skip
        model = frozen.build(2, 3, regress=True)
        teach(model, objects, taught, None if times is None else np.array(times))  # type: ignore[arg-type]
        return model.shifts.bias.detach()  # type: ignore[union-attr,operator]

    assert torch.equal(shifts(8, [1, 0]), shifts(12, [1, 0]))
    assert not torch.equal(shifts(8, [1, 1]), shifts(12, [1, 1]))
    assert torch.equal(shifts(8, None), shifts(8, [1, 1]))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of YOLOX-nano with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "yolox.safetensors"
    model = YoloxNetwork(2)
    with torch.no_grad():
        model(torch.rand(8, 3, 64, 64))  # its norms learn what they see: else all cells say the same
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


def settings_of(detector: Path, *more: str) -> list[str]:
    return [
        "data.scenes={train=24, test=6, seed=0, classes=3, size_px=64, digits=[1, 3]}",
        *('features.body="shufflenet_v2_x0_5"', 'features.weights="none"', "features.objects_px=64"),
        *(f'features.objects="{detector}"', "features.objects_crop_px=32", "features.pca=8"),
        *("budget.start_images=6", "predict.min_score=0", "query.threshold=0", 'labels.policy="ignore"'),
        *('query.score="random"', 'query.select="kcenter"', *more),
    ]


def run(folder: Path, settings: list[str]) -> list[dict[str, object]]:
    context = opening.start(folder, "scenes", settings)
    rounds = list(loop.run(context))
    return [read_json(context.project.round_folder(n) / "metrics.json") for n in rounds]


@pytest.mark.parametrize(
    "more",
    [
        ("query.unit=image", "budget.unit=images", "budget.per_round=[3, 3]", 'budget.start="coverage"'),
        ("query.unit=box", "budget.unit=queries", "budget.per_round=[4, 4]"),
        ("query.unit=box", "budget.unit=seconds", "budget.per_round=[20]", "model.regress=true"),
    ],
    ids=["images", "boxes", "seconds"],
)
def test_a_run_with_a_frozen_detector(tmp_path: Path, detector: Path, more: tuple[str, ...]) -> None:
    metrics = run(tmp_path / "p", settings_of(detector, 'model={name="frozen"}', *more))
    assert all(0 <= one["ap50"] <= 1 for one in metrics)  # type: ignore[operator]
    assert len(metrics) == (2 if "budget.per_round=[20]" in more else 3)


def test_selectors_of_another_detector_see_the_objects(tmp_path: Path, detector: Path) -> None:
    own = ("query.unit=box", "budget.unit=queries", "budget.per_round=[4]", 'query.features="frozen"')
    small = ('model={name="retinanet", backbone="shufflenet_v2_x0_5"}', "train.steps=2", "data.image_size_px=64")
    metrics = run(tmp_path / "p", settings_of(detector, *own, *small))
    assert len(metrics) == 2


def test_candidates_and_labels_of_another_detector_have_the_same_features(tmp_path: Path, detector: Path) -> None:
    """`query.features` is of whole images; of boxes both sides are the model's."""
    own = ("query.unit=box", "budget.unit=queries", "budget.per_round=[4]", 'query.features="frozen"')
    small = ('model={name="retinanet", backbone="shufflenet_v2_x0_5"}', "train.steps=2", "data.image_size_px=64")
    now = asked(tmp_path / "p", settings_of(detector, *own, *small, "query.select=gain_per_second"))
    assert now.run.needs_labelled and "features" in now.run.outputs
    made = makers(now, 2)
    rows = np.arange(len(now.scores["image"]))
    widths = [made[name](rows).shape[1] for name in ("box_features", "labelled_box_features", "labelled_features")]
    assert widths[0] == widths[1] != widths[2] == 8
    loop.run_next(now.context, "select")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (('model.name="frozen"',), "features.body"),
        (('model.name="frozen"', 'features.body="mobilenet_v2"'), "features.objects"),
        (('query.features="frozen"', "query.unit=box", 'features.body="mobilenet_v2"'), "features.objects"),
        (('model.name="head"', 'features.body="mobilenet_v2"', 'features.objects="yolox_nano"'), "classifier"),
        (('model.name="frozen"', 'features.body="mobilenet_v2"', 'features.objects="yolox_nano"',
          'query.score="consistency"', 'predict.views=["flip"]'), "views"),
        (('model.name="frozen"', 'features.body="mobilenet_v2"', 'features.objects="yolox_nano"',
          'query.score="consistency"', "train.members=2"), "views"),
        (('model.name="frozen"', 'features.body="mobilenet_v2"', 'features.objects="yolox_nano"',
          'train.teacher="ema"', "train.warm_start=true"), "train.teacher"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        config.load(
            [], ["data.root=x", 'query.score="random"', 'query.select="top"', 'labels.policy="ignore"', *settings]
        )


def test_another_model_half_way_is_told(tmp_path: Path, detector: Path) -> None:
    own = ("query.unit=image", "budget.unit=images", "budget.per_round=[2]")
    context = opening.start(tmp_path / "p", "scenes", settings_of(detector, 'model={name="frozen"}', *own))
    for name in STAGES:
        loop.run_next(context, name)
    changed = context.run.model_copy(update={"model": context.run.model.model_copy(update={"name": "retinanet"})})
    with pytest.raises(LabelwiseError, match="redo 0 train"):
        loop.run_next(replace(context, run=changed), "predict")


def asked(folder: Path, settings: list[str]) -> Round:
    """Round 1 once its candidates are scored."""
    context = opening.start(folder, "scenes", settings)
    for name in (*STAGES, "predict", "score"):
        loop.run_next(context, name)
    return Round(context, 1)


def test_a_box_has_the_feature_of_its_own_proposal(tmp_path: Path, detector: Path) -> None:
    """Candidates are what the threshold leaves of the detections: each must keep its own feature."""
    own = ('model={name="frozen", background=0}', "query.unit=box", "budget.unit=queries", "budget.per_round=[2]")
    scores = asked(tmp_path / "all", settings_of(detector, *own)).detections().scores
    now = asked(tmp_path / "p", settings_of(detector, *own, f"query.threshold={np.median(scores)}"))
    rows = np.random.default_rng(0).permutation(len(now.scores["image"]))
    objects = now.context.objects("pool")
    everything = now.detections()
    assert 0 < len(rows) < len(everything)
    for row, feature in zip(rows, makers(now, 2)["features"](rows), strict=True):
        corner = np.array([now.scores[name][row] for name in ("x1", "y1", "x2", "y2")], np.float32)
        span = slice(*objects.offsets[now.scores["image"][row] : now.scores["image"][row] + 2])
        same = np.abs(objects.boxes[span] - corner).max(axis=1) < 1e-3
        assert any(np.allclose(feature, one, atol=1e-6) for one in objects.features[span][same])
