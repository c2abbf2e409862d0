"""Bodies of `timm` under the detectors with a pyramid: they run, freeze, take files, and say what does not fit."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from labelwise import catalog
from labelwise.models import _backbones, _timm_bodies, faster_rcnn, fcos, retinanet
from labelwise.types import LabelwiseError

NAMES = ("retinanet", "faster_rcnn", "fcos")
BUILDS = {"retinanet": retinanet.build, "faster_rcnn": faster_rcnn.build, "fcos": fcos.build}
needs_timm = pytest.mark.usefixtures("timm_is_there")


@pytest.fixture
def timm_is_there():
    pytest.importorskip("timm", reason="the extra `timm` is not installed (uv sync --extra timm)")


def tiny(name, backbone="timm:test_resnet", **settings):
    torch.manual_seed(0)
    return BUILDS[name](2, **{"backbone": backbone, "fpn_channels": 32} | settings)


@needs_timm
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backbone", ["timm:test_resnet", "timm:test_efficientnet", "timm:test_convnext"])
def test_it_trains_and_finds(name, backbone):
    model = tiny(name, backbone, score_threshold=0.0)
    images = [torch.rand(3, 64, 96), torch.rand(3, 60, 64)]
    targets = [{"boxes": torch.tensor([[4.0, 5, 40, 30]]), "labels": torch.tensor([1])}] * 2
    sum(model(images, targets).values()).backward()
    assert all(p.grad is not None for p in model.backbone.body.parameters())
    with torch.inference_mode():
        found = model.eval()(images)
    width = _backbones.width_of(backbone)
    assert all(len(one["boxes"]) and one["image_feature"].shape == (width,) for one in found)


@needs_timm
def test_levels_have_their_strides():
    """RetinaNet's pyramid begins at stride 8, Faster R-CNN's with five sizes at 4."""
    sides = {}
    for name, sizes in (("retinanet", (16, 32, 64)), ("faster_rcnn", (8, 16, 32, 64, 128))):
        trunk = tiny(name, anchor_sizes=sizes).backbone
        sides[name] = [m.shape[2] for m in trunk(torch.rand(1, 3, 128, 128)).values()]
    assert sides == {"retinanet": [16, 8, 4], "faster_rcnn": [32, 16, 8, 4, 2]}


@needs_timm
def test_stages_freeze_from_the_first_on():
    stages = _backbones.row_of("timm:test_resnet").stages
    model = tiny("retinanet", trainable_stages=1, frozen_norms=True)
    trained = {key.split(".")[0] for key, p in model.backbone.body.named_parameters() if p.requires_grad}
    assert trained == {layer for layer in stages[-1].split(",") if layer in trained} and trained
    with pytest.raises(LabelwiseError, match=f"timm:test_resnet has {len(stages)} stages"):
        tiny("retinanet", trainable_stages=9)


@needs_timm
def test_a_file_under_timms_names_is_taken(tmp_path):
    body = _timm_bodies.body("test_resnet")
    torch.save(body.state_dict(), tmp_path / "body.pth")
    model = tiny("fcos", weights=str(tmp_path / "body.pth"))
    for key, value in body.state_dict().items():
        assert torch.equal(model.backbone.body.state_dict()[key], value)
    with pytest.raises(LabelwiseError, match="torchvision has none for fcos on timm:test_resnet; it has: resnet50"):
        tiny("fcos", weights="coco")


@needs_timm
@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "mobilenetv3_small_050"])
def test_with_weights_all_but_the_first_stage_is_trained(name, tmp_path):
    """Of timm's own files, too: the whole network's, whose layers are `stages.0` where the body's are `stages_0`."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    whole = timm.create_model(name, pretrained=False).state_dict()
    torch.save(whole, tmp_path / "published.pth")
    body = tiny("retinanet", f"timm:{name}", weights=str(tmp_path / "published.pth")).backbone.body
    trained = sum(p.numel() for p in body.parameters() if p.requires_grad)
    assert trained > 0.9 * sum(p.numel() for p in body.parameters())
    own = {re.sub(r"^(stages|stem)\.", r"\1_", key): value for key, value in whole.items()}
    assert all(torch.equal(value, own[key]) for key, value in body.state_dict().items() if "num_batches" not in key)
    expected = {"test_convnext": 4, "test_efficientnet": 1, "mobilenetv3_small_050": 1}
    assert len(_backbones.row_of(f"timm:{name}").stages) == expected[name]


@needs_timm
def test_what_gives_no_maps_is_refused():
    with pytest.raises(LabelwiseError, match=r'backbone = "timm:resnet0": timm .* has no such network'):
        tiny("retinanet", "timm:resnet0")
    with pytest.raises(LabelwiseError, match=r"timm:test_vit.*timm:resnet50 or timm:convnext_tiny"):
        tiny("retinanet", "timm:test_vit")
    with pytest.raises(LabelwiseError, match=r"swin_tiny_patch4_window7_224.* laid out NHWC"):
        tiny("retinanet", "timm:swin_tiny_patch4_window7_224")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(LabelwiseError, match=r"pip install 'labelwise\[timm\]'"):
        tiny("retinanet", "timm:resnet18")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_checked_before_anything_is_built(name):
    method = catalog.find("models", name)
    assert method.problems({"backbone": "timm:convnext_tiny.fb_in1k"}) == []
    assert "shufflenet_v2_x0_5" in method.problems({"backbone": "resnet5"})[0]
