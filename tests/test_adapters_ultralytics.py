"""A YOLO of Ultralytics on our targets: the same loss where all counts, numbers by hand where not, one real epoch.

What needs Ultralytics (AGPL-3.0, not installed with labelwise) is skipped where it is not there; the wrapping of its
loss is tested on a stand-in of the same shape, too.
"""

from __future__ import annotations

import csv
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import labelwise
from labelwise.adapters import ultralytics as adapter
from labelwise.adapters._yolo_loss import WeightedLoss, inside
from labelwise.api.target import Target
from labelwise.types import LabelwiseError

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ultralytics' own imports
CLASSES = ("cat", "dog", "hen")


@pytest.fixture(scope="module")
def tasks() -> Any:
    return pytest.importorskip(
        "ultralytics.nn.tasks", reason="Ultralytics is not installed (AGPL-3.0; pip install ultralytics)"
    )


def target(**more: Any) -> Target:
    """An image of 96 x 64 with two boxes, looked at wholly."""
    fields: dict[str, Any] = {
        "image": "a",
        "path": Path("a"),
        "size_px": (96, 64),
        "boxes": np.array([[10, 10, 40, 50], [50, 5, 80, 40]], np.float32),
        "labels": np.array([0, 2]),
        "w_cls": np.ones(2, np.float32),
        "w_box": np.ones(2, np.float32),
        "answered": np.ones(2, np.bool_),
        "negatives": np.array([[0, 0, 96, 64]], np.float32),
        "ignore": np.zeros((0, 4), np.float32),
        "window": (0.0, 0.0, 96.0, 64.0),
    }
    return Target(**(fields | more))


# ---- without Ultralytics --------------------------------------------------------------------------------------------


def test_where_it_is_not_installed_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(LabelwiseError, match=r"not installed: pip install ultralytics\. It is licensed under the AGPL"):
        adapter.trainer([target()], CLASSES)


def hidden(one: Target) -> np.ndarray:
    found: np.ndarray = importlib.import_module("labelwise.adapters._yolo_trainer").hidden(one)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_hidden_rectangles_are_where_nothing_may_be_called_background(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def rects(n: int) -> np.ndarray:
        corners = np.sort(rng.integers(-10, 110, (n, 2, 2)), axis=1)
        return corners.reshape(n, 4)[:, [0, 1, 2, 3]].astype(np.float32)

    window = (0.0, 0.0, 96.0, 64.0) if seed % 2 else (20.0, 8.0, 90.0, 60.0)
    one = target(negatives=rects(seed % 4), ignore=rects(seed % 3), window=window)
    points = rng.uniform(0, [96, 64], (500, 2))
    got = inside(torch.from_numpy(points).float(), torch.from_numpy(hidden(one))).tolist()
    for (x, y), is_hidden in zip(points.tolist(), got, strict=True):
        looked = any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in one.negatives.tolist())
        looked &= window[0] <= x <= window[2] and window[1] <= y <= window[3]
        left_out = any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in one.ignore.tolist())
        assert is_hidden == (not looked or left_out)
    cut = hidden(one)
    assert (cut[:, 2:] > cut[:, :2]).all() and (cut[:, 2] - cut[:, 0] <= 96 / 8 + 1e-4).all()
    assert len(hidden(target())) == 0


class BoxLoss(nn.Module):
    def forward(self, predicted: Any, target_scores: torch.Tensor, target_scores_sum: Any, fg_mask: Any) -> Any:
        return (predicted[fg_mask] * target_scores[fg_mask].sum(-1)).sum() / target_scores_sum


class Assigns(nn.Module):
    """Cell k belongs to box `of[k]`, cells of -1 to none; one class, every target score 0.5."""

    def __init__(self, of: list[list[int]]) -> None:
        super().__init__()
        self.of = torch.tensor(of)

    def forward(self, pd_scores: Any, pd_bboxes: Any, anc_points: Any, gt_labels: Any, gt_bboxes: Any) -> Any:
        assigned = self.of >= 0
        return None, None, 0.5 * assigned[..., None].float(), assigned, self.of.clamp(min=0)


class Criterion:
    """Asks the three as Ultralytics' loss does; every cell costs 1 by class and 1 by place."""

    def __init__(self, of: list[list[int]]) -> None:
        self.assigner, self.bce, self.bbox_loss = Assigns(of), lambda predicted, wanted: predicted, BoxLoss()

    def __call__(self, cells: torch.Tensor, batch: Any) -> Any:
        boxes = torch.zeros(cells.shape[0], 2, 4)
        points = torch.tensor([[8.0 + 16 * k, 8.0] for k in range(cells.shape[1])])
        _, _, scores, assigned, _ = self.assigner(cells, boxes, points, boxes, boxes)
        total = scores.sum()
        return self.bce(cells, scores).sum() / total, self.bbox_loss(cells[..., 0], scores, total, fg_mask=assigned)


def test_the_wrapped_loss_by_hand() -> None:
    """Of 2 images with 4 cells: cells 0 of each belong to box 0, cell 1 of the first to its box 1."""
    of, cells = [[0, 1, -1, -1], [0, -1, -1, -1]], torch.ones(2, 4, 1)
    batch: dict[str, Any] = {"img": torch.zeros(2, 3, 16, 64), "batch_idx": torch.tensor([0.0, 0, 1])}
    plain = Criterion(of)(cells, batch)
    assert [round(float(v), 4) for v in plain] == [round(8 / 1.5, 4), 1.0]
    assert WeightedLoss(Criterion(of))(cells, batch) == plain
    ones = batch | {"w_cls": torch.ones(3), "w_box": torch.ones(3)}
    assert WeightedLoss(Criterion(of))(cells, ones) == plain
    # half a cell of class, a quarter of place; the third box counts nothing, nor does its cell, nor cell 3 of image 0
    some = batch | {"w_cls": torch.tensor([1, 0.5, 0]), "w_box": torch.tensor([1, 0.25, 0])}
    some |= {"ignore": torch.tensor([[0.75, 0, 1, 1], [0, 0, 0.5, 1]]), "ignore_idx": torch.tensor([0, 0])}
    by_class, by_place = WeightedLoss(Criterion(of))(cells, some)
    assert float(by_class) == pytest.approx((1 + 0.5 + 1 + 0 + 0 + 3) / 1.0)
    assert float(by_place) == pytest.approx(0.5 * 1 + 0.5 * 0.25)


# ---- with it --------------------------------------------------------------------------------------------------------


def network(tasks: Any, name: str = "yolo11n.yaml") -> Any:
    """A small random network; nothing is downloaded."""
    torch.manual_seed(0)
    made = tasks.DetectionModel(name, nc=3, verbose=False).train()
    made.names = dict(enumerate(CLASSES))
    made.args = importlib.import_module("ultralytics.utils").DEFAULT_CFG
    for head in made.model[-1].cv3:  # some cells are sure of something, so that boxes are found
        nn.init.normal_(head[-1].weight, std=0.3)
        nn.init.normal_(head[-1].bias)
    return made


def batch() -> dict[str, Any]:
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[0.26, 0.47, 0.31, 0.62], [0.68, 0.35, 0.31, 0.55], [0.5, 0.5, 0.5, 0.6]])
    return {
        "img": images, "batch_idx": torch.tensor([0.0, 0, 1]), "cls": torch.tensor([[0.0], [2], [1]]), "bboxes": boxes
    }  # fmt: skip


def everything(one: dict[str, Any]) -> dict[str, Any]:
    n = len(one["cls"])
    none = {"ignore": torch.zeros(0, 4), "ignore_idx": torch.zeros(0)}
    return one | {"w_cls": torch.ones(n), "w_box": torch.ones(n)} | none


def loss_of(model: Any, one: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        said: torch.Tensor = model.loss(one)[0]
    return said


def frozen(tasks: Any, name: str = "yolo11n.yaml") -> Any:
    """Whose batch statistics do not move from one call to the next, in training mode."""
    made = network(tasks, name)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return made


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
def test_with_all_weights_one_it_is_ultralytics_own_loss(tasks: Any, name: str) -> None:
    model = frozen(tasks, name)
    want = loss_of(model, batch())
    adapter.weighted(model)
    assert torch.equal(loss_of(model, batch()), want), "a batch of theirs"
    assert torch.equal(loss_of(model, everything(batch())), want)
    nothing = {key: value[:0] if key in ("cls", "bboxes", "batch_idx") else value for key, value in batch().items()}
    assert loss_of(model, everything(nothing))[1] > 0


def told(model: Any, one: dict[str, Any]) -> dict[str, Any]:
    """What Ultralytics' own loss and its parts are: cost of every cell, which box each belongs to."""
    criterion = model.init_criterion()
    seen: dict[str, Any] = {}
    criterion.assigner.register_forward_hook(lambda _, given, out: seen.update(points=given[2], out=out))
    bce = criterion.bce
    criterion.bce = lambda predicted, wanted: seen.setdefault("cost", bce(predicted, wanted))
    with torch.no_grad():
        seen["loss"] = criterion(model(one["img"]), one)[0]
    _, _, seen["scores"], seen["assigned"], seen["index"] = seen.pop("out")
    return seen


def test_an_ignored_region_is_the_loss_without_the_terms_of_its_cells(tasks: Any) -> None:
    model, one = frozen(tasks), everything(batch())
    seen = told(model, one)
    region = torch.tensor([[0.0, 0.0, 0.45, 1.0]])
    inner = inside(seen["points"], region * torch.tensor([96.0, 64, 96, 64]))
    gone = torch.stack([torch.zeros_like(inner), inner]) & ~seen["assigned"]
    assert gone.any() and (inner & seen["assigned"][1]).any(), "the region has cells of a box, too: they stay"
    factor = 2 * model.args.cls / seen["scores"].sum().clamp(min=1)
    want = seen["loss"].clone()
    want[1] -= factor * seen["cost"][gone].sum()
    got = loss_of(adapter.weighted(model), one | {"ignore": region, "ignore_idx": torch.tensor([1.0])})
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    assert float(want[1]) < 0.95 * float(seen["loss"][1])


def test_weights_of_a_box_multiply_the_terms_of_its_cells(tasks: Any) -> None:
    model, one = frozen(tasks), everything(batch())
    seen = told(model, one)
    mine = seen["assigned"] & (seen["index"] == 1) & torch.tensor([[True], [False]])
    assert mine.any()
    got = loss_of(adapter.weighted(model), one | {"w_cls": torch.tensor([1.0, 0.25, 1.0])})
    factor = 2 * model.args.cls / seen["scores"].sum().clamp(min=1)
    want = seen["loss"].clone()
    want[1] -= 0.75 * factor * seen["cost"][mine].sum()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    halves = loss_of(model, one | {"w_box": torch.full((3,), 0.5)})
    torch.testing.assert_close(halves, seen["loss"] * torch.tensor([0.5, 1, 0.5]), rtol=1e-5, atol=1e-6)


def test_a_box_of_weight_zero_is_neither_object_nor_background(tasks: Any) -> None:
    model, one = frozen(tasks), everything(batch())
    seen = told(model, one)
    muted = torch.tensor([1.0, 1, 0])
    got = loss_of(adapter.weighted(model), one | {"w_cls": muted, "w_box": muted})
    mine = torch.zeros_like(seen["assigned"])
    mine[1] = seen["assigned"][1]
    assert mine.any()
    left = seen["scores"].masked_fill(mine[..., None], 0).sum().clamp(min=1)
    want = 2 * model.args.cls * (seen["cost"].sum() - seen["cost"][mine].sum()) / left
    torch.testing.assert_close(got[1], want, rtol=1e-5, atol=1e-6)
    without = {**one, **{key: one[key][:2] for key in ("cls", "bboxes", "batch_idx")}}
    torch.testing.assert_close(got[[0, 2]], told(model, without)["loss"][[0, 2]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml", "yolov10n.yaml", "yolo26n.yaml"])
def test_predictions_carry_distributions_and_features(tasks: Any, name: str) -> None:
    model = network(tasks, name)
    before = getattr(model.model[-1], "end2end", False)
    pictures = [torch.rand(3, 60, 90), torch.rand(3, 64, 96)]
    found = adapter.Detector(model, min_score=0.3)(pictures)
    for picture, one in zip(pictures, found, strict=True):
        n = len(one["scores"])
        assert n > 0 and one["probs"].shape == (n, 3) and one["features"].shape[0] == n and one["features"].shape[1] > 8
        torch.testing.assert_close(one["probs"].sum(1), torch.ones(n))
        assert (one["scores"] >= 0.3).all() and (one["scores"].diff() <= 0).all()
        height, width = picture.shape[1:]
        assert (one["boxes"] >= 0).all() and (one["boxes"] <= torch.tensor([width, height, width, height])).all()
    assert getattr(model.model[-1], "end2end", False) == before


def test_the_boxes_are_those_of_ultralytics_and_the_features_explain_the_scores(tasks: Any) -> None:
    model, picture = network(tasks, "yolov8n.yaml").eval(), torch.rand(3, 64, 96)
    (found,) = adapter.Detector(model, min_score=0.25)([picture])
    suppress = importlib.import_module("ultralytics.utils.nms").non_max_suppression
    with torch.no_grad():
        (want,) = suppress(model(picture[None])[0], conf_thres=0.25, iou_thres=0.7, max_det=300)
    limit = torch.tensor([96.0, 64, 96, 64])
    torch.testing.assert_close(found["boxes"], want[:, :4].clamp(min=0).minimum(limit), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found["scores"], want[:, 4])
    assert found["probs"].argmax(1).tolist() == want[:, 5].int().tolist()
    one = adapter.Detector(model, ["hen", "cat"], min_score=0.25)([picture])[0]
    assert one["probs"].shape[1] == 2, "columns by name"
    layers = [head[-1] for head in model.model[-1].cv3]
    with torch.no_grad():
        scores = [
            torch.sigmoid(nn.functional.linear(found["features"], layer.weight.flatten(1), layer.bias))
            for layer in layers
        ]
    nearest = torch.stack([(s.amax(1) - found["scores"]).abs() for s in scores]).amin(0)
    torch.testing.assert_close(nearest, torch.zeros_like(nearest), rtol=0, atol=1e-4)


def test_what_is_no_yolo_that_detects_is_refused(tasks: Any) -> None:
    with pytest.raises(LabelwiseError, match="got Linear; expected a YOLO that detects"):
        adapter.Detector(nn.Linear(1, 1))
    with pytest.raises(LabelwiseError, match="got SegmentationModel"):
        adapter.Detector(tasks.SegmentationModel("yolo11n-seg.yaml", nc=3, verbose=False))
    with pytest.raises(LabelwiseError, match="unknown class 'cow'; known: cat, dog, hen"):
        adapter.Detector(network(tasks), ["cow"])
    with pytest.raises(LabelwiseError, match="there are no targets"):
        adapter.trainer([], CLASSES)
    with pytest.raises(LabelwiseError, match=r"a\.mp4#000001 is no file of its own"):
        adapter.trainer([target(image="a.mp4#000001", path=None)], CLASSES)


# ---- training -------------------------------------------------------------------------------------------------------

RED, BLUE = (200, 0, 0), (0, 0, 200)
NO_AUGMENTS = dict.fromkeys(
    ("mosaic", "mixup", "cutmix", "hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "erasing"), 0.0
)


@pytest.fixture
def images(tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images red to the left of pixel 46 and blue to the right, and a data.yaml that calls them `val`."""
    callbacks = importlib.import_module("ultralytics.utils.callbacks")
    monkeypatch.setattr(callbacks, "add_integration_callbacks", lambda _: None)  # imports ray, mlflow, ...
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(6):
        pixels = np.zeros((96, 96, 3), np.uint8)
        pixels[:, :46], pixels[:, 46:] = RED, BLUE
        pixels[10:50, 52 + k : 80] = (0, 200, 0)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    (tmp_path / "labels").mkdir()
    for k in range(6):
        (tmp_path / "labels" / f"{k}.txt").write_text("0 0.7 0.5 0.2 0.6\n")
    names = "".join(f"  {k}: {name}\n" for k, name in enumerate(CLASSES))
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames:\n{names}")
    return folder


def settings(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "data": str(tmp_path / "data.yaml"), "model": "yolo11n.yaml", "imgsz": 96, "epochs": 1, "batch": 3,
        "workers": 0, "device": "cpu", "plots": False, "project": str(tmp_path), "name": "run", "amp": False, "seed": 0,
        "exist_ok": True, "pretrained": False,
    } | more  # fmt: skip


def targets_of(images: Path) -> list[Target]:
    """Only what is blue was looked at; the object there has weights of its own."""
    return [
        target(
            path=images / f"{k}.png",
            boxes=np.array([[52 + k, 10, 80, 50]], np.float32),
            labels=np.array([k % 3]),
            w_cls=np.array([0.5], np.float32),
            w_box=np.array([0.25 * (k % 2)], np.float32),
            answered=np.ones(1, np.bool_),
            negatives=np.array([[46, 0, 96, 96]], np.float32),
            size_px=(96, 96),
            window=(0.0, 0.0, 96.0, 96.0),
        )
        for k in range(6)
    ]


def loader_of(trainer: Any, tmp_path: Path, **more: Any) -> Any:
    """A trainer that is ready to train, and its batches."""
    made = trainer(overrides=settings(tmp_path, **more))
    made._setup_train()  # what its `train` does first
    return made, [made.preprocess_batch(one) for one in made.train_loader]


def test_batches_hold_the_targets_and_what_nobody_looked_at(tasks: Any, images: Path) -> None:
    made, batches = loader_of(adapter.trainer(targets_of(images), CLASSES), images.parent, **NO_AUGMENTS)
    assert isinstance(made.model.criterion, WeightedLoss)
    seen = set()
    for one in batches:
        assert (
            one["img"].shape == (3, 3, 96, 96) and one["cls"].shape == (3, 1) and one["batch_idx"].tolist() == [0, 1, 2]
        )
        assert one["w_cls"].tolist() == [0.5] * 3
        for i, path in enumerate(one["im_file"]):
            k = int(Path(path).stem)
            seen.add(k)
            assert int(one["cls"][i]) == k % 3 and float(one["w_box"][i]) == 0.25 * (k % 2)
            x, y, w, h = (one["bboxes"][i] * 96).tolist()
            np.testing.assert_allclose([x - w / 2, y - h / 2, x + w / 2, y + h / 2], [52 + k, 10, 80, 50], atol=1e-3)
            rects = one["ignore"][one["ignore_idx"] == i] * 96
            hull = [*rects[:, :2].amin(0).tolist(), *rects[:, 2:].amax(0).tolist()]
            assert hull == pytest.approx([0, 0, 46, 96], abs=1e-3)
    assert seen == set(range(6))


def test_augmentations_move_what_nobody_looked_at_with_the_image(tasks: Any, images: Path) -> None:
    """Wherever red is shown, nothing is background; wherever blue is, something may be."""
    how = NO_AUGMENTS | {"mosaic": 1.0, "scale": 0.5, "translate": 0.2, "fliplr": 0.5, "flipud": 0.5, "degrees": 10.0}
    _, batches = loader_of(adapter.trainer(targets_of(images), CLASSES), images.parent, **how)
    right = wrong = 0
    rows, columns = torch.meshgrid(torch.arange(2, 94, 4), torch.arange(2, 94, 4), indexing="ij")
    points = torch.stack([columns.flatten(), rows.flatten()], 1)
    for one in batches:
        for i in range(len(one["img"])):
            red, _, blue = (one["img"][i][:, points[:, 1], points[:, 0]] * 255).round()
            is_hidden = inside(points.float() + 0.5, one["ignore"][one["ignore_idx"] == i] * 96)
            for colour, expected in ((red, True), (blue, False)):
                shown = is_hidden[colour > 195]
                right, wrong = right + int((shown == expected).sum()), wrong + int((shown != expected).sum())
    assert right > 500 and wrong <= 0.03 * right, (right, wrong)


def test_one_epoch_trains_on_the_targets_with_ignore_honoured(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss that training reports, batch by batch, is Ultralytics' own without what is ignored, computed apart."""
    yolo = importlib.import_module("ultralytics").YOLO("yolo11n.yaml", task="detect", verbose=False)
    how = settings(images.parent, lr0=1e-8, warmup_bias_lr=1e-8, optimizer="SGD", **NO_AUGMENTS)
    del how["model"]
    trains = importlib.import_module("labelwise.adapters._yolo_trainer").Trainer
    batches: list[Any] = []
    prepare = trains.preprocess_batch
    monkeypatch.setattr(trains, "preprocess_batch", lambda self, b: batches.append(prepare(self, b)) or batches[-1])
    checked: list[tuple[float, float]] = []

    def compare(trainer: Any) -> None:
        one, model = batches[-1], trainer.model
        seen = told(model, one)
        red = seen["points"][:, 0] < 46
        use = torch.where(seen["assigned"], 0.5, (~red).float())
        total = seen["scores"].sum().clamp(min=1)
        want = float(model.args.cls * (seen["cost"] * use[..., None]).sum() / total)
        assert float(trainer.loss_items["cls_loss"]) == pytest.approx(want, rel=1e-3)
        checked.append((want, float(seen["loss"][1]) / len(one["img"])))

    yolo.callbacks["on_train_batch_end"] = [compare]
    yolo.train(trainer=adapter.trainer(targets_of(images), CLASSES), **how)
    assert len(checked) == 2 and all(want < 0.95 * plain for want, plain in checked)
    rows = list(csv.DictReader((images.parent / "run" / "results.csv").open()))
    assert len(rows) == 1 and float(rows[0]["train/cls_loss"]) == pytest.approx(
        np.mean([want for want, _ in checked]), rel=1e-2
    )
    last = (images.parent / "run" / "weights" / "last.pt").read_bytes()
    assert b"labelwise" not in last, "it loads without labelwise"


def test_other_classes_and_settings_that_do_not_fit_are_refused(tasks: Any, images: Path) -> None:
    with pytest.raises(LabelwiseError, match="has the classes cat, dog, hen; the project has dog, cat"):
        adapter.trainer(targets_of(images), ("dog", "cat"))(overrides=settings(images.parent)).build_dataset("")
    with pytest.raises(LabelwiseError, match="classes= and single_cls= do not go with targets"):
        made = adapter.trainer(targets_of(images), CLASSES)
        made(overrides=settings(images.parent, single_cls=True)).build_dataset("")


def test_a_whole_round(tasks: Any, images: Path) -> None:
    project = labelwise.open(images.parent / "project", images=images, classes=list(CLASSES))
    first = project.ask(budget=3)
    for k, query in enumerate(first):
        project.answer(query, boxes=[(52, 10, 80, 50)], labels=[CLASSES[k]])
    yolo = importlib.import_module("ultralytics").YOLO("yolo11n.yaml", task="detect", verbose=False)
    how = settings(images.parent, **NO_AUGMENTS)
    del how["model"]
    yolo.train(trainer=adapter.trainer(project.targets(), CLASSES), **how)
    project.finish()
    model = adapter.Detector(yolo, project.pool.classes, min_score=0.001)
    found = project.predict(model, views=["flip", "downscale"], features=True, min_score=0.001)
    assert len(found) and found.views is not None and found.views.iou.shape[0] == 2 and found.features.shape[1] > 8
    queries = project.ask(found, budget=2, score="consistency", select="kcenter", threshold=0.001)
    assert len(queries) == 2 and {q.image for q in queries}.isdisjoint(q.image for q in first)
