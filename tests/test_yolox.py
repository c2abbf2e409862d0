"""YOLOX-nano under both namings, its outputs against a reference, and proposals against a plain loop."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from labelwise.errors import LabelwiseError
from labelwise.models import yolox_files
from labelwise.models import yolox_network as yolox
from labelwise.models.proposals import Proposals, proposals

DATA = Path(os.environ.get("LABELWISE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def network(pixels: yolox.Pixels = "imagenet", classes: int = 3) -> yolox.YoloxNetwork:
    """Random weights, random scales and shifts, statistics of random images."""
    torch.manual_seed(3)
    model = yolox.YoloxNetwork(classes, pixels).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.3, 0.9)
            module.bias.normal_(0, 0.3)
            module.momentum = None  # the plain mean over batches
    for predictor in (*model.head.reg_preds, *model.head.obj_preds, *model.head.cls_preds):
        predictor.weight.mul_(0.03)
    for _ in range(2):
        model(torch.rand(8, 3, 64, 64))
    return model.eval()


def exported(model: yolox.YoloxNetwork) -> dict[str, torch.Tensor]:
    """As an ncnn graph has it: norms folded by their formula, layers numbered in the order in which they run."""
    order: list[str] = []
    names = {module: name for name, module in model.named_modules()}
    hooks = [
        module.register_forward_pre_hook(lambda m, _: order.append(names[m]))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    order = as_traced(order)
    state, out = model.state_dict(), {}
    for number, name in enumerate(order):
        weight = state[f"{name}.weight"]
        if f"{name}.bias" in state:
            bias = state[f"{name}.bias"]
        else:
            norm = {
                k: state[f"{name.removesuffix('conv')}bn.{k}"]
                for k in ("weight", "bias", "running_mean", "running_var")
            }
            scale = norm["weight"] / (norm["running_var"] + 1e-3).sqrt()
            weight, bias = weight * scale[:, None, None, None], norm["bias"] - norm["running_mean"] * scale
        out[f"Conv_{41 + 3 * number}.weight"], out[f"Conv_{41 + 3 * number}.bias"] = (
            weight.contiguous(),
            bias.contiguous(),
        )
    return out


def as_traced(order: list[str]) -> list[str]:
    """The authors' code runs a layer's second branch before its bottlenecks, and a level's classes before its boxes."""
    for name in [n for n in order if re.search(r"(C3_..|dark\d\.[12])\.conv2\.conv$", n)]:
        if (first := name.replace("conv2", "conv1")) in order and name.replace("conv2", "conv3") in order:
            order.remove(name)
            order.insert(order.index(first) + 1, name)
    for k in range(3):
        part = [n for n in order if n.startswith(f"head.cls_convs.{k}") or n == f"head.cls_preds.{k}"]
        order = [n for n in order if n not in part]
        at = order.index(f"head.stems.{k}.conv") + 1
        order[at:at] = part
        reg, obj = f"head.reg_preds.{k}", f"head.obj_preds.{k}"
        order.remove(obj)
        order.insert(order.index(reg) + 1, obj)
    return order


def test_both_namings_load_into_one_network_with_equal_outputs(tmp_path: Path) -> None:
    model = network()
    torch.save({"model": model.state_dict(), "optimizer": {"state": {}}, "start_epoch": 3}, tmp_path / "yolox_nano.pth")
    save_file(exported(model), tmp_path / "ncnn.safetensors")
    images = torch.rand(2, 3, 64, 96)
    want = model(images)
    assert want.shape == (2, (8 * 12) + (4 * 6) + (2 * 3), 4 + 1 + 3)
    for file in ("yolox_nano.pth", "ncnn.safetensors"):
        for folded in (False, True):
            got = yolox_files.load(tmp_path / file, pixels="imagenet", folded=folded)
            assert any(isinstance(m, nn.BatchNorm2d) for m in got.modules()) != folded
            torch.testing.assert_close(got(images), want, rtol=0, atol=1e-3)


def test_names_are_the_authors() -> None:
    """Names that stand in the authors' release; and every convolution is in the order of layers, once."""
    state = yolox.YoloxNetwork().state_dict()
    for key, shape in {
        "backbone.backbone.stem.conv.conv.weight": (16, 12, 3, 3),
        "backbone.backbone.dark2.0.dconv.bn.running_mean": (16,),
        "backbone.backbone.dark5.1.conv2.conv.weight": (256, 512, 1, 1),
        "backbone.C3_p4.m.0.conv2.pconv.bn.weight": (64,),
        "backbone.bu_conv1.dconv.conv.weight": (128, 1, 3, 3),
        "head.stems.2.conv.weight": (64, 256, 1, 1),
        "head.cls_convs.0.1.pconv.conv.weight": (64, 64, 1, 1),
        "head.obj_preds.1.bias": (1,),
    }.items():
        assert tuple(state[key].shape) == shape, key
    names = list(yolox_files.layers())
    assert sorted(names) == sorted(
        k.removesuffix(".weight") for k in state if k.endswith(".weight") and state[k].ndim == 4
    )
    assert len(set(names)) == 113


@pytest.mark.parametrize("pixels", ["imagenet", "bgr255"])
def test_the_first_norm_tells_what_pixels_went_in(pixels: yolox.Pixels, tmp_path: Path) -> None:
    """Statistics of the first norm as training leaves them: those of its inputs, images of a dark and a light kind."""
    model = network(pixels)
    stem = model.backbone.backbone.stem.conv
    images = torch.rand(4, 3, 64, 64) * torch.tensor([0.3, 0.5, 0.9, 1.0]).view(4, 1, 1, 1)
    seen: list[torch.Tensor] = []
    hook = stem.bn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images)
    hook.remove()
    stem.bn.running_mean.copy_(seen[0].mean((0, 2, 3)))
    stem.bn.running_var.copy_(seen[0].var((0, 2, 3)))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    got = yolox_files.load(tmp_path / "w.pth", folded=False)
    assert got.pixels == pixels
    torch.testing.assert_close(got(images), model(images))


def test_raw_pixels_are_blue_first_and_up_to_255() -> None:
    model = network("bgr255")
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(model.prepared(image), torch.stack([image[:, 2], image[:, 1], image[:, 0]], 1) * 255)


def test_any_size_is_filled_with_grey() -> None:
    model, image = network(), torch.rand(1, 3, 33, 50)
    filled = torch.full((1, 3, 64, 64), 114 / 255)
    filled[:, :, :33, :50] = image
    assert torch.equal(model(image), model(filled))
    assert len(yolox.cells(33, 50)) == model(image).shape[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head.obj_preds.1.bias"), "'head.obj_preds.1.bias' does not"),
        (lambda s: s.update({"head.stems.0.conv.weight": torch.zeros(9, 9)}), "'head.stems.0.conv.weight' does not"),
        (lambda s: s.update({"neck.more": torch.zeros(2)}), "'neck.more' is none"),
        (lambda s: s.clear(), "does not"),
    ],
)
def test_another_networks_tensors_are_refused(change: object, message: str, tmp_path: Path) -> None:
    state = network().state_dict()
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(LabelwiseError, match=re.escape(message)):
        yolox_files.load(tmp_path / "w.pth")


def test_cut_export_and_broken_file_are_refused(tmp_path: Path) -> None:
    tensors = exported(network())
    del tensors["Conv_41.weight"], tensors["Conv_41.bias"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(LabelwiseError, match="112 convolutions, YOLOX-nano has 113"):
        yolox_files.load(tmp_path / "w.safetensors")
    (tmp_path / "w.pth").write_bytes(b"no tensors")
    with pytest.raises(LabelwiseError, match="cannot be read as tensors"):
        yolox_files.load(tmp_path / "w.pth")
    with pytest.raises(LabelwiseError, match=r"detector\.weights = 'gone\.pth': there is no such file.*yolox_nano"):
        yolox_files.load("gone.pth", setting="detector.weights")


def plain(model: yolox.YoloxNetwork, image: torch.Tensor, count: int, nms_iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Proposals of one image that needs no resizing, box by box."""
    high, wide = image.shape[1:]
    outputs = model(image[None])[0].double()
    rows = []
    for number, cell in enumerate(yolox.cells(high, wide).double()):
        dx, dy, log_w, log_h, objectness = outputs[number, :5].tolist()
        x, y, stride = cell.tolist()
        w, h = np.exp(log_w) * stride / 2, np.exp(log_h) * stride / 2
        x, y = x + dx * stride, y + dy * stride
        rows.append((-objectness, number, max(x - w, 0), max(y - h, 0), min(x + w, wide), min(y + h, high)))
    kept: list[tuple[float, ...]] = []
    for row in sorted(rows):
        x1, y1, x2, y2 = row[2:]
        if np.float32(x2) <= np.float32(x1) or np.float32(y2) <= np.float32(y1) or len(kept) == count:
            continue
        for _, _, a1, b1, a2, b2 in kept:
            shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            if shared > nms_iou * ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared):
                break
        else:
            kept.append(row)
    return np.array([row[2:] for row in kept]), np.array([-row[0] for row in kept])


@pytest.mark.parametrize("nms_iou", [0.3, 0.6])
def test_proposals_equal_a_plain_loop(nms_iou: float) -> None:
    model = network()
    images = [torch.rand(3, h, w) for h, w in ((64, 96), (96, 50), (96, 96), (64, 96))]
    found = proposals(model, images, size_px=96, count=12, nms_iou=nms_iou)
    assert found.boxes.dtype == torch.float32 and found.offsets[0] == 0 and found.offsets[-1] == len(found)
    for i, image in enumerate(images):
        boxes, scores = plain(model, image, 12, nms_iou)
        got = slice(int(found.offsets[i]), int(found.offsets[i + 1]))
        np.testing.assert_allclose(found.boxes[got], boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores[got], scores, atol=1e-5)


def test_neighbours_change_nothing() -> None:
    """A wide, a high and a square image alone and together, in either order; suppression too."""
    model = network()
    images = [torch.rand(3, h, w) for h, w in ((40, 90), (90, 40), (64, 64), (40, 90))]
    together = proposals(model, images, size_px=64, count=20)
    back = proposals(model, images[::-1], size_px=64, count=20)
    for i, image in enumerate(images):
        alone = proposals(model, [image], size_px=64, count=20)
        for many, k in ((together, i), (back, 3 - i)):
            got = slice(int(many.offsets[k]), int(many.offsets[k + 1]))
            torch.testing.assert_close(many.boxes[got], alone.boxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(many.scores[got], alone.scores, rtol=1e-4, atol=1e-5)


def test_equal_scores_go_by_cell() -> None:
    """With all scores equal and small boxes that never meet, the first cells of stride 8 come out, row by row."""
    model = network()
    for k in range(3):
        for part, bias in ((model.head.reg_preds[k], -3.0), (model.head.obj_preds[k], 0.0)):
            part.weight.zero_()
            part.bias.fill_(bias)
        model.head.reg_preds[k].bias[:2] = 0.5
    found = proposals(model, [torch.rand(3, 64, 64)] * 2, size_px=64, count=10)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    want = [(8 * (n % 8) + 4.0, 8 * (n // 8) + 4.0) for n in range(10)]
    assert centres.tolist() == [list(c) for c in want] * 2
    assert found.scores.tolist() == [0.5] * 20


def test_boxes_are_in_pixels_of_the_original_and_inside_it() -> None:
    model = network()
    small = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    own = proposals(model, [small], size_px=64, count=30)
    large = proposals(model, [small.float() / 255], size_px=64, count=30, original_px=torch.tensor([[640, 960]]))
    torch.testing.assert_close(large.boxes, own.boxes * torch.tensor([10.0, 20, 10, 20]), rtol=1e-4, atol=1e-2)
    assert (own.boxes >= 0).all() and (own.boxes <= torch.tensor([64.0, 48, 64, 48])).all()
    assert (own.boxes[:, 2:] > own.boxes[:, :2]).all()
    assert (own.scores.diff() <= 0).all() and len(own) <= 30


def test_confidence_is_objectness_times_the_best_class() -> None:
    model, image = network(), torch.rand(3, 64, 64)
    best = proposals(model, [image], size_px=64, count=1, rank="confidence")
    outputs = model(image[None])[0]
    boxes = yolox.boxes(outputs[None], yolox.cells(64, 64))[0].clamp(0, 64)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    torch.testing.assert_close(best.scores[0], (outputs[:, 4] * outputs[:, 5:].amax(1))[inside].max())


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1)])
def test_degenerate_images(size: tuple[int, int]) -> None:
    found = proposals(network(), [torch.rand(3, *size)], size_px=64, count=5)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all() and len(found) <= 5
    assert (found.boxes <= torch.tensor([size[1], size[0]] * 2)).all()


def test_nothing_in_nothing_out_and_wrong_numbers() -> None:
    model = network()
    none = proposals(model, [], size_px=64, count=5)
    assert isinstance(none, Proposals) and len(none) == 0 and none.offsets.tolist() == [0]
    with pytest.raises(LabelwiseError, match="no pixels"):
        proposals(model, [torch.rand(3, 0, 5)], size_px=64, count=5)
    for wrong in ({"size_px": 0}, {"count": 0}, {"nms_iou": 1.5}):
        with pytest.raises(LabelwiseError, match="expected at least 1"):
            proposals(model, [torch.rand(3, 8, 8)], **{"size_px": 64, "count": 5, **wrong})  # type: ignore[arg-type]


def test_outputs_equal_the_reference_file() -> None:
    folder = DATA / "weights"
    if not (folder / "yolox_nano_reference.npz").is_file():
        pytest.skip("no yolox_nano_reference.npz: set LABELWISE_DATA to the folder of the real data")
    kept = np.load(folder / "yolox_nano_reference.npz")
    images = torch.from_numpy(kept["images"]).permute(0, 3, 1, 2).float() / 255
    for folded in (False, True):
        model = yolox_files.load(folder / "yolox_nano_coco.safetensors", folded=folded)
        with torch.inference_mode():
            assert np.abs(model(images).numpy() - kept["outputs"]).max() < 1e-4
