"""Weights from files and from torchvision's hub (a server on this machine stands in for it)."""

import functools
import hashlib
import http.server
import threading
import typing
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from labelwise.models import _backbones, _weights, faster_rcnn, fcos, retinanet
from labelwise.types import LabelwiseError

BUILDS = {"retinanet": retinanet.build, "faster_rcnn": faster_rcnn.build}
SHARED = Path(__file__).parents[2] / "shared" / "data" / "weights"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): ...


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serves `tmp_path/served`; gives a function that puts a state dict there, under its hash, as what the hub has."""
    served = tmp_path / "served"
    served.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "cache"))

    def put(state):
        torch.save(state, served / "net.pth")
        name = f"net-{hashlib.sha256((served / 'net.pth').read_bytes()).hexdigest()[:8]}.pth"
        (served / "net.pth").rename(served / name)
        monkeypatch.setattr(_weights, "_hub_url", lambda *_: f"http://127.0.0.1:{server.server_port}/{name}")
        return served / name

    yield put
    torch.hub.set_dir(before)
    server.shutdown()
    server.server_close()


def body_of(model):
    return {k: v for k, v in model.state_dict().items() if k.startswith("backbone.body.")}


def test_imagenet_comes_from_the_hub_once(hub, capsys):
    torch.manual_seed(7)
    net = torchvision.models.shufflenet_v2_x0_5()
    file = hub(net.state_dict())
    model = retinanet.build(2, weights="imagenet")
    file.unlink()  # the second time it lies in torch's cache
    faster_rcnn.build(2, weights="imagenet")
    want = net.state_dict()
    for key, value in body_of(model).items():
        assert torch.equal(value, want[key.removeprefix("backbone.body.")])
    assert capsys.readouterr().out == ""


def test_coco_loads_all_but_the_class_head(hub):
    torch.manual_seed(7)
    other = retinanet.build(5)
    hub(other.state_dict())
    model = retinanet.build(2, weights="coco")
    got, want = model.state_dict(), other.state_dict()
    differ = {k for k in got if got[k].shape != want[k].shape or not torch.equal(got[k], want[k])}
    assert differ == {f"head.classification_head.cls_logits.{part}" for part in ("weight", "bias")}
    assert not model.train().backbone.body["conv1"][1].training  # its norms stay as they are


def test_broken_download_is_refused(hub):
    file = hub(torchvision.models.shufflenet_v2_x0_5().state_dict())
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(LabelwiseError, match=r'set weights = "path/to/net-.*\.pth"'):
        retinanet.build(2, weights="imagenet")


@pytest.mark.parametrize("name", BUILDS)
def test_unreachable_hub_names_the_file_option(name, tmp_path, monkeypatch):
    monkeypatch.setattr(_weights, "_hub_url", lambda *_: "http://127.0.0.1:9/net-00000000.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(LabelwiseError, match=r'cannot fetch .* weights = "path/to/net-00000000\.pth"'):
        BUILDS[name](2, weights="imagenet")


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("retinanet", torchvision.models.detection.retinanet_resnet50_fpn),
        ("faster_rcnn", torchvision.models.detection.fasterrcnn_resnet50_fpn),
    ],
)
def test_torchvisions_detectors_fit_name_by_name(name, theirs):
    """The published files have the old names of pyramid and heads; on the meta device nothing is computed."""
    own = {"retinanet": {"head_convs": 4, "anchors_per_octave": 3}, "faster_rcnn": {"roi_size": 7, "box_width": 1024}}[
        name
    ]
    with torch.device("meta"):
        want = theirs(weights=None, weights_backbone=None).state_dict()
        sizes = (32, 64, 128, 256, 512)
        have = BUILDS[name](90, backbone="resnet50", fpn_channels=256, anchor_sizes=sizes, **own).state_dict()
    heads = _weights._CLASS_HEADS
    fitting = {k for k, v in want.items() if k in have and have[k].shape == v.shape}
    assert {k for k in want.keys() - fitting if not k.startswith(heads)} == set()
    assert {k for k in have.keys() - fitting if not k.startswith(heads) and "num_batches" not in k} == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backbone.fpn.inner_blocks.0.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.fpn.layer_blocks.2.bias", "backbone.fpn.layer_blocks.2.0.bias"),
        ("head.classification_head.conv.6.weight", "head.classification_head.conv.3.0.weight"),
        ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
        ("rpn.head.conv.0.0.weight", "rpn.head.conv.0.0.weight"),
        ("head.regression_head.conv.3.0.bias", "head.regression_head.conv.3.0.bias"),
    ],
)
def test_old_names(old, new):
    assert _weights._renamed(old) == new


def test_file_that_fits_nothing_says_how_much_matched(tmp_path):
    save_file({"conv1.0.weight": torch.zeros(24, 3, 3, 3), "other": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(LabelwiseError, match=r"w\.safetensors' do not fit this backbone: 1 of \d+ tensors match"):
        retinanet.build(2, weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"not a file of tensors", "cannot be read"),
        ([1, 2], "expected a dict of tensors"),
    ],
)
def test_unusable_file(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(LabelwiseError, match=message):
        retinanet.build(2, weights=str(path))


def test_a_layer_that_begins_anew_keeps_its_own_bias(tmp_path):
    """The bias [4] of another width's box layer fits by shape; without its weights it says nothing."""
    wide = fcos.build(2, fpn_channels=96)
    nn.init.constant_(wide.head.regression_head.bbox_reg.bias, -0.7)
    save_file({k: v.contiguous() for k, v in wide.state_dict().items()}, tmp_path / "wide.safetensors")
    for channels, expected in ((64, fcos.FIRST_SIDE_CELLS), (96, -0.7)):
        model = fcos.build(2, fpn_channels=channels, weights=str(tmp_path / "wide.safetensors"))
        assert model.head.regression_head.bbox_reg.bias.tolist() == pytest.approx([expected] * 4)


def test_no_coco_weights_for_a_small_backbone():
    with pytest.raises(LabelwiseError, match="it has: resnet50, mobilenet_v3_large"):
        retinanet.build(2, weights="coco")


@pytest.mark.parametrize("name", typing.get_args(_backbones.BackboneName))
def test_every_backbone_runs_in_both_detectors(name):
    image = [torch.rand(3, 64, 96)]
    for build in BUILDS.values():
        model = build(2, backbone=name, fpn_channels=16).eval()
        with torch.inference_mode():
            assert model(image)[0]["probs"].shape[1] == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/weights is not here")
@pytest.mark.parametrize(
    ("file", "backbone"),
    [
        ("shufflenet_v2_x0_5_imagenet_backbone.pth", "shufflenet_v2_x0_5"),
        ("shufflenet_v2_x0_5_fastestdet_coco_backbone.pth", "shufflenet_v2_x0_5"),
        ("shufflenet_v2_x1_0_nanodet_coco_backbone.pth", "shufflenet_v2_x1_0"),
        ("squeezenet1_0_imagenet_fp16.pth", "squeezenet1_0"),
    ],
)
def test_shared_files_load(file, backbone):
    model = retinanet.build(2, backbone=backbone, weights=str(SHARED / file), fpn_channels=16).train()
    nanodet = "nanodet" in file
    kinds = {type(m) for m in model.backbone.body.modules()}
    assert (nn.LeakyReLU in kinds) == nanodet


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/weights is not here")
def test_folded_norms_are_estimated_once_and_change_nothing():
    file = SHARED / "shufflenet_v2_x1_0_nanodet_coco_backbone.pth"

    def fresh():
        torch.manual_seed(0)
        return retinanet.build(2, backbone="shufflenet_v2_x1_0", weights=str(file), fpn_channels=16)

    model, image = fresh(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = model.eval().backbone(image)
        trained = model.train().backbone(image)
    for key, value in before.items():
        torch.testing.assert_close(trained[key], value, rtol=1e-3, atol=1e-3 * float(value.abs().max()))
    norm = model.backbone.body["stage3"][0].branch2[1]
    assert norm.training
    assert norm.running_mean.any()
    loaded = fresh()
    loaded.load_state_dict(model.state_dict())
    with torch.no_grad():
        loaded.train().backbone(5 * image)
    assert torch.equal(loaded.backbone.body["stage3"][0].branch2[1].weight, norm.weight)


def test_a_classifier_takes_a_file_that_wants_raw_images():
    from labelwise.models import classifier

    usual = classifier.build(3, backbone="resnet18").eval()
    raw = classifier.build(3, backbone="resnet18", weights_input="raw01").eval()
    raw.load_state_dict(usual.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(usual(images)[1], raw((images - usual.mean) / usual.std)[1], atol=1e-5)
        assert not torch.allclose(usual(images)[1], raw(images)[1], atol=1e-3)
