"""What a detector says beside its boxes: tightness, the feature of the image, dropout samples, the predicted loss."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import box_iou

from labelwise.models import _anchors, _loss_head, _pooling, faster_rcnn, retinanet
from labelwise.types import LabelwiseError

N_CLASSES = 3
BUILDS = {"retinanet": retinanet.build, "faster_rcnn": faster_rcnn.build}
both = pytest.mark.parametrize("name", BUILDS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(name, **settings):
    torch.manual_seed(0)
    return BUILDS[name](N_CLASSES, fpn_channels=16, score_threshold=0.0, max_detections=30, **settings)


def images_of(*sizes):
    rng = torch.Generator().manual_seed(3)
    return [torch.rand(3, h, w, generator=rng) for h, w in sizes]


def targets_of_three():
    """No box, one box, three boxes: losses of three sizes."""
    boxes = [[], [[10.0, 10, 26, 24]], [[4.0, 5, 40, 30], [50, 20, 64, 80], [51, 22, 66, 78]]]
    labels = [[], [1], [0, 2, 1]]
    return [
        {"boxes": torch.tensor(b).reshape(-1, 4), "labels": torch.tensor(n, dtype=torch.int64)}
        for b, n in zip(boxes, labels, strict=True)
    ]


@torch.inference_mode()
def ask(model, images):
    return model.eval()(images)


# -------------------------------------------------------------------------------------------------------- tightness


def test_tightness_equals_the_iou_of_pairs():
    rng = torch.Generator().manual_seed(0)
    corner = 50 * torch.rand(2, 200, 2, generator=rng)
    boxes, origins = torch.cat((corner, corner + 1 + 40 * torch.rand(2, 200, 2, generator=rng)), 2)
    origins[0] = boxes[0]
    origins[1, 2:] = origins[1, :2]  # without area, as an anchor outside its image is once it is cut
    got = _anchors.tightness(boxes, origins)
    torch.testing.assert_close(got, box_iou(boxes, origins).diagonal())
    assert got[0] == 1 and got[1] == 0
    assert _anchors.tightness(boxes[:0], origins[:0]).shape == (0,)


@both
@pytest.mark.parametrize(("widening", "expected"), [(1.0, 1.0), (2.0, 0.5)])
def test_tightness_is_how_far_the_box_moved(name, widening, expected):
    """A detector that leaves every origin as it is (1), or doubles its width (1/2 where the image does not cut it)."""
    model = tiny(name)
    layer = model.head.regression_head.bbox_reg if name == "retinanet" else model.roi_heads.box_predictor.bbox_pred
    nn.init.zeros_(layer.weight)
    scale = 1.0 if name == "retinanet" else 5.0
    with torch.no_grad():
        layer.bias.view(-1, 4)[:] = torch.tensor([0.0, 0.0, scale * math.log(widening), 0.0])
    seen = 0
    for found in ask(model, images_of((96, 128), (80, 100))):
        box = found["boxes"]
        inside = (box[:, 0] > 0) & (box[:, 2] < 100) if widening > 1 else torch.ones(len(box), dtype=torch.bool)
        torch.testing.assert_close(found["tightness"][inside], torch.full((int(inside.sum()),), expected))
        seen += int(inside.sum())
    assert seen > 5


# ---------------------------------------------------------------------------------------------- the feature of an image


@pytest.mark.parametrize(("height", "width"), [(64, 96), (40, 96), (64, 1), (33, 47)])
def test_image_mean_equals_the_mean_over_pixels(height, width):
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 2, 3, generator=rng)
    sizes = torch.tensor([[64.0, 96.0], [height, width]])
    pixels = functional.interpolate(maps, size=(64, 96), mode="nearest")
    want = torch.stack([pixels[0].mean((1, 2)), pixels[1, :, :height, :width].mean((1, 2))])
    torch.testing.assert_close(_pooling.image_mean(maps, sizes, (64, 96)), want, rtol=1e-5, atol=1e-6)


def test_padding_plays_no_part_in_the_mean():
    maps = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(maps, (0, 3, 0, 1), value=1e6)
    size = torch.tensor([[64.0, 64.0]])
    got = _pooling.image_mean(padded, size, (96, 160))
    torch.testing.assert_close(got, maps.mean((2, 3)))


@both
@pytest.mark.parametrize(("backbone", "width"), [("shufflenet_v2_x0_5", 192), ("resnet18", 512)])
def test_the_image_feature_is_the_mean_of_the_deepest_map(name, backbone, width):
    model = tiny(name, backbone=backbone)
    image, other = images_of((96, 128), (90, 100))
    together = ask(model, [image, other])
    with torch.inference_mode():
        deepest = list(model.backbone.body((image[None] - 0.45) / 0.225).values())[-1].mean((2, 3))[0]
    got = together[0]["image_feature"]
    assert got.shape == (width,) and got.dtype == torch.float32
    assert (
        functional.cosine_similarity(got, deepest, 0) > 0.999
    )  # its own mean and deviation per channel are about these
    torch.testing.assert_close(ask(model, [image])[0]["image_feature"], got, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ask(model, [other])[0]["image_feature"], together[1]["image_feature"], rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(got, together[1]["image_feature"], rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------- dropout


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@both
def test_dropout_changes_neither_weights_nor_evaluation(name):
    plain, dropping = tiny(name), tiny(name, dropout=0.3)
    assert same_state(plain.state_dict(), dropping.state_dict())
    images = images_of((96, 128))
    for key, value in ask(plain, images)[0].items():
        assert torch.equal(value, ask(dropping, images)[0][key]), key


@both
def test_dropout_switched_on_gives_samples(name):
    """As a `STOCHASTIC` view asks: only the dropout trains."""
    model = tiny(name, dropout=0.5).eval()
    drops = [m for m in model.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))]
    assert len(drops) == 1
    images = images_of((96, 128))
    plain = ask(model, images)[0]

    @torch.inference_mode()
    def sample(seed):
        torch.manual_seed(seed)
        drops[0].train()
        found = model(images)[0]
        drops[0].eval()
        return found

    a, again, b = sample(1), sample(1), sample(2)
    assert all(torch.equal(a[key], again[key]) for key in a)
    assert not torch.equal(a["probs"], b["probs"]) and not torch.equal(a["probs"], plain["probs"])
    assert torch.equal(a["image_feature"], plain["image_feature"])


@both
def test_dropout_acts_in_training(name):
    images, targets = images_of(*[(96, 128)] * 3), targets_of_three()
    model = tiny(name, dropout=0.5, frozen_norms=True).train()
    values = set()
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.add(model(images, targets)["classification"].item())
    assert len(values) == 2


# ----------------------------------------------------------------------------------------------------- learning loss


def slow_ranking_loss(predicted, own):
    terms = []
    for i in range(0, len(predicted) - 1, 2):
        if own[i] == own[i + 1]:
            terms.append(0.0)
        else:
            larger, smaller = (i, i + 1) if own[i] > own[i + 1] else (i + 1, i)
            terms.append(max(0.0, 1.0 - (predicted[larger] - predicted[smaller])))
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 9])
def test_ranking_loss_equals_the_slow_one(n):
    rng = torch.Generator().manual_seed(n)
    for ties in (False, True):
        predicted = torch.rand(n, generator=rng) * 3
        own = torch.randint(0, 2 if ties else 1000, (n,), generator=rng).float()
        got = _loss_head.ranking_loss(predicted, own).item()
        assert got == pytest.approx(slow_ranking_loss(predicted.tolist(), own.tolist()), abs=1e-6)


def test_ranking_loss_teaches_the_prediction_only():
    predicted, own = torch.tensor([0.0, 0.0], requires_grad=True), torch.tensor([1.0, 2.0], requires_grad=True)
    _loss_head.ranking_loss(predicted, own).backward()
    assert predicted.grad.tolist() == [1.0, -1.0]
    assert own.grad is None


@both
def test_the_loss_head_leaves_the_detector_as_it_is(name):
    plain, with_head = tiny(name), tiny(name, loss_head=True)
    state = with_head.state_dict()
    assert any(key.startswith("loss_head.") for key in state)
    assert same_state(plain.state_dict(), {k: v for k, v in state.items() if not k.startswith("loss_head.")})
    images = images_of((96, 128), (80, 100))
    for mine, theirs in zip(ask(with_head, images), ask(plain, images), strict=True):
        loss = mine.pop("predicted_loss")
        assert loss.shape == () and loss.dtype == torch.float32 and loss >= 0
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


@both
@pytest.mark.parametrize("normalise", ["torchvision", "paper"])
def test_the_target_is_the_loss_of_each_image_alone(name, normalise, monkeypatch):
    """With a sample large enough to hold every anchor, so that nothing is drawn."""
    everything = {} if name == "retinanet" else {"rpn_sampled": 100_000, "rois": 100_000}
    model = tiny(name, loss_head=True, frozen_norms=True, normalise=normalise, **everything).train()
    images, targets = images_of(*[(96, 128)] * 3), targets_of_three()
    targets[2] |= {"w_cls": torch.tensor([1.0, 0.5, 0]), "w_box": torch.tensor([0.0, 1, 0.5])}
    targets[1]["ignore"] = torch.tensor([[60.0, 0, 128, 96]])
    seen = []
    monkeypatch.setattr(model.loss_head, "loss", lambda predicted, own: seen.append(own) or predicted.sum() * 0)
    together = model(images, targets)
    alone = [
        sum(v for k, v in model([i], [t]).items() if k != "predicted_loss").item()
        for i, t in zip(images, targets, strict=True)
    ]
    assert seen[0].tolist() == pytest.approx(alone, rel=1e-4)
    assert not seen[0].requires_grad
    assert len(set(alone)) == 3
    if normalise == "torchvision" and name == "retinanet":  # its losses are means over the images
        assert sum(alone) / 3 == pytest.approx(sum(v.item() for v in together.values()), rel=1e-4)


@both
def test_one_more_loss_in_training(name):
    images, targets = images_of(*[(96, 128)] * 3), targets_of_three()

    def losses(**settings):
        model = tiny(name, frozen_norms=True, **settings).train()
        torch.manual_seed(1)
        return model, model(images, targets)

    _, plain = losses()
    model, found = losses(loss_head=True)
    _, weighted = losses(loss_head=True, loss_head_weight=0.25)
    assert {k: v.item() for k, v in found.items() if k != "predicted_loss"} == {k: v.item() for k, v in plain.items()}
    assert found["predicted_loss"].item() > 0
    assert weighted["predicted_loss"].item() == pytest.approx(found["predicted_loss"].item() / 4)
    found["predicted_loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.loss_head.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.body.parameters())  # kept, as in the paper
    one = model(images[:1], targets[:1])["predicted_loss"]
    assert one.item() == 0 and one.requires_grad


def test_the_head_learns_an_order():
    """Sixteen maps whose own loss is the mean of their first channel: the ranks are found, though no size is told."""
    torch.manual_seed(0)
    head = _loss_head.LossHead(4, 2, 1.0, width=16)
    own = torch.linspace(0, 3, 16)
    maps = [0.1 * torch.randn(16, 4, s, s) for s in (4, 2)]
    maps[0][:, 0] += own[:, None, None]
    sizes = torch.full((16, 2), 64.0)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(150):
        order = torch.randperm(16)
        optimiser.zero_grad()
        head.loss(head([m[order] for m in maps], sizes, (64, 64)), own[order]).backward()
        optimiser.step()
    rank = head(maps, sizes, (64, 64)).argsort().argsort().float()
    assert torch.corrcoef(torch.stack((rank, own)))[0, 1] > 0.95


@both
def test_half_precision_gives_float32(name):
    model = tiny(name, loss_head=True, dropout=0.2)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images_of(*[(96, 128)] * 3), targets_of_three())
        found = ask(model, images_of((96, 128)))[0]
    assert torch.isfinite(sum(losses.values()))
    assert {found[key].dtype for key in ("tightness", "image_feature", "predicted_loss")} == {torch.float32}


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, r"dropout = 1\.0: expected 0 <= dropout < 1"),
        ({"dropout": -0.1}, r"dropout = -0\.1"),
        ({"loss_head": True, "loss_head_weight": -1.0}, r"loss_head_weight = -1\.0: expected a number >= 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, message):
    with pytest.raises(LabelwiseError, match=message):
        tiny(name, **settings)
