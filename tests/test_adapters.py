"""A torchvision detector and a plain function as labelwise's: the same losses, the weights, predictions, bad output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from labelwise.adapters import callable as functions
from labelwise.adapters import torchvision as adapter
from labelwise.api.target import Target
from labelwise.models import _backbones
from labelwise.types import LabelwiseError

N_CLASSES = 3
NAMES = {
    "retinanet": {"classification": "classification", "bbox_regression": "bbox_regression"},
    "faster_rcnn": {
        "objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "classification": "loss_classifier",
        "bbox_regression": "loss_box_reg",
    },
}


def theirs(kind: str) -> Any:
    """A small random detector that was built with torchvision's own classes."""
    torch.manual_seed(0)
    layers = _backbones.body("shufflenet_v2_x0_5")
    pool = LastLevelMaxPool()
    backbone = _backbones.trunk(layers, "shufflenet_v2_x0_5", 1, 16, pool)
    generator = AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 3)
    if kind == "retinanet":
        return RetinaNet(backbone, N_CLASSES, anchor_generator=generator, _skip_resize=True)
    align = MultiScaleRoIAlign(["0", "1"], 5, 2)
    return FasterRCNN(
        backbone, rpn_anchor_generator=generator, rpn_pre_nms_top_n_train=40, rpn_post_nms_top_n_train=20,
        rpn_batch_size_per_image=16, box_roi_pool=align, box_head=TwoMLPHead(16 * 25, 32),
        box_predictor=FastRCNNPredictor(32, N_CLASSES + 1), box_batch_size_per_image=16, _skip_resize=True,
    )  # fmt: skip


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    images = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    boxes = [[[10.0, 10, 40, 50], [50, 5, 80, 40]], [[20.0, 20, 70, 60]]]
    return images, [{"boxes": torch.tensor(b), "labels": torch.tensor([0, 2][: len(b)])} for b in boxes]


@pytest.mark.parametrize("kind", NAMES)
def test_the_adopted_detector_has_torchvision_s_losses_and_trains_its_modules(kind: str) -> None:
    detector = theirs(kind).double().train()
    adopted = adapter.adopt(detector).train()
    images, targets = batch()
    images = [image.double() for image in images]
    targets = [t | {"boxes": t["boxes"].double()} for t in targets]
    torch.manual_seed(1)
    got = adopted(images, targets)
    torch.manual_seed(1)
    shift = int(kind == "faster_rcnn")
    want = detector(images, [t | {"labels": t["labels"] + shift} for t in targets])
    for name, value in got.items():
        torch.testing.assert_close(value, want[NAMES[kind][name]], rtol=1e-6, atol=1e-12)
    assert {id(p) for p in adopted.parameters()} == {id(p) for p in detector.parameters()}
    before = [p.detach().clone() for p in detector.parameters()]
    sum(got.values()).backward()
    torch.optim.SGD(adopted.parameters(), lr=0.1).step()
    assert any(not torch.equal(a, b) for a, b in zip(before, detector.parameters(), strict=True))


STOCK = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": "faster_rcnn",
    "fasterrcnn_mobilenet_v3_large_fpn": "faster_rcnn",
    "fasterrcnn_resnet50_fpn": "faster_rcnn",
    "fasterrcnn_resnet50_fpn_v2": "faster_rcnn",
    "retinanet_resnet50_fpn": "retinanet",
    "retinanet_resnet50_fpn_v2": "retinanet",
}


@pytest.mark.parametrize("name", STOCK)
def test_every_stock_detector_is_adopted(name: str) -> None:
    """It predicts, and its losses are torchvision's (whose second RetinaNet learns boxes by GIoU, ours by L1)."""
    kind = STOCK[name]
    shift = int(kind == "faster_rcnn")
    torch.manual_seed(0)
    made = getattr(torchvision.models.detection, name)
    detector = made(weights=None, weights_backbone=None, num_classes=N_CLASSES + shift, _skip_resize=True)
    adopted = adapter.adopt(detector.train()).train()
    images, targets = batch()
    torch.manual_seed(1)
    got = adopted(images, targets)
    torch.manual_seed(1)
    want = detector(images, [t | {"labels": t["labels"] + shift} for t in targets])
    for part, value in got.items():
        if (name, part) != ("retinanet_resnet50_fpn_v2", "bbox_regression"):
            torch.testing.assert_close(value, want[NAMES[kind][part]], rtol=1e-3, atol=1e-5)
    assert all(torch.isfinite(value) for value in got.values())
    with torch.inference_mode():
        found = adopted.eval()(images)
    assert [one["probs"].shape[1] for one in found] == [N_CLASSES] * 2


@pytest.mark.parametrize("kind", NAMES)
def test_nothing_is_learnt_of_weight_zero_where_nobody_looked(kind: str) -> None:
    adopted = adapter.adopt(theirs(kind)).train()
    images, targets = batch()
    for target in targets:
        n = len(target["boxes"])
        target |= {"w_cls": torch.zeros(n), "w_box": torch.zeros(n), "negatives": torch.zeros(0, 4)}
    assert {name: value.item() for name, value in adopted(images, targets).items()} == dict.fromkeys(NAMES[kind], 0.0)


@pytest.mark.parametrize("kind", NAMES)
def test_predictions_keep_the_distribution(kind: str) -> None:
    found = adapter.adopt(theirs(kind)).eval()(batch()[0])
    assert len(found) == 2
    for one in found:
        n = len(one["boxes"])
        assert one["probs"].shape == (n, N_CLASSES)
        torch.testing.assert_close(one["probs"].sum(1), torch.ones(n))


def test_tensors_move_a_target_to_the_pixels_shown() -> None:
    target = Target(
        image="a", path=Path("a"), size_px=(200, 100), boxes=np.array([[110, 10, 150, 50]], np.float32),
        labels=np.array([2]), w_cls=np.ones(1, np.float32), w_box=np.ones(1, np.float32), answered=np.array([True]),
        negatives=np.array([[100, 0, 200, 100]], np.float32), ignore=np.zeros((0, 4), np.float32),
        window=(100, 0, 200, 100),
    )  # fmt: skip
    made = adapter.tensors(target, (0.5, 0.5))
    assert made["boxes"].tolist() == [[5, 5, 25, 25]]
    assert made["negatives"].tolist() == [[0, 0, 50, 50]]


def test_what_cannot_be_adopted_is_refused() -> None:
    with pytest.raises(
        LabelwiseError, match=r"got Linear; expected RetinaNet or FasterRCNN .* labelwise.adapters.call"
    ):
        adapter.adopt(torch.nn.Linear(1, 1))
    masks = MaskRCNN(theirs("faster_rcnn").backbone, N_CLASSES + 1)
    with pytest.raises(LabelwiseError, match="expected no masks"):
        adapter.adopt(masks)


BOX = {"boxes": [[1, 2, 30, 40]], "scores": [0.5], "labels": [1]}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (BOX | {"boxes": [[5, 5, 5, 9]]}, r"box 0 is \[5.0, 5.0, 5.0, 9.0\]; expected x1 < x2"),
        (BOX | {"labels": [7]}, "the detector's box 0: class 7; expected 0 to 1"),
        (BOX | {"labels": ["dgo"]}, "unknown class 'dgo'.*Did you mean 'dog'"),
        (BOX | {"scores": [0.5, 0.5]}, r"1 boxes, scores \(2,\)"),
        ({"boxes": [[1, 2, 3, 4]]}, "expected boxes, and probs, or scores and labels"),
        ({"boxes": [[1, 2, 3, 4]], "probs": [[0.2, 0.3, 0.5]]}, "of 2 classes"),
    ],
)
def test_bad_output_of_a_function_is_named(said: dict[str, Any], message: str) -> None:
    model = functions.detector(lambda images: [said], ["cat", "dog"])
    with pytest.raises(LabelwiseError, match=message):
        model([torch.zeros(3, 64, 64)])


def test_a_function_sees_images_and_answers_each() -> None:
    seen = []

    def function(images: list[np.ndarray]) -> list[dict[str, Any]]:
        seen.extend(images)
        return [BOX, {"boxes": [], "scores": [], "labels": []}]

    found = functions.detector(function, ["cat", "dog"])([torch.full((3, 8, 16), 0.2), torch.zeros(3, 8, 16)])
    assert seen[0].shape == (8, 16, 3) and seen[0].dtype == np.uint8 and int(seen[0].max()) == 51
    torch.testing.assert_close(found[0]["probs"], torch.tensor([[0.5, 0.5]]))
    assert found[1]["boxes"].shape == (0, 4) and found[1]["probs"].shape == (0, 2)
    with pytest.raises(LabelwiseError, match="answered 1 of 2 images"):
        functions.detector(lambda images: [BOX], ["cat", "dog"])([torch.zeros(3, 8, 8)] * 2)
