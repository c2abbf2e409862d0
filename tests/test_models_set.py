"""RT-DETRv2 and D-FINE in the loop: the library's own loss, weights, ignored queries, weights of a folder, a round."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torchvision.ops import box_iou

from labelwise import loop
from labelwise.models import _rt_detr_loss, _set_detector, _set_loss, _weighted, d_fine, rt_detr
from labelwise.models._set_loss import FineOutput, LayerOutput
from labelwise.project import opening
from labelwise.study import history
from labelwise.types import LabelwiseError

transformers = pytest.importorskip(
    "transformers", reason="the extra `transformers` is not installed (uv sync --extra transformers)"
)
BUILDS = {"rt_detr": rt_detr.build, "d_fine": d_fine.build}
OWN = {"rt_detr": "RTDetrForObjectDetectionLoss", "d_fine": "DFineForObjectDetectionLoss"}
both = pytest.mark.parametrize("name", BUILDS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(name, n_classes=3, **settings):
    torch.manual_seed(0)
    return BUILDS[name](n_classes, **{"size": "tiny"} | settings)


def images_and_targets():
    """Two images of one size, the second without boxes."""
    rng = torch.Generator().manual_seed(3)
    images = [torch.rand(3, 96, 128, generator=rng) for _ in range(2)]
    boxes = torch.tensor([[4.0, 5, 40, 30], [50, 20, 64, 80], [51, 22, 66, 78]])
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return images, [{"boxes": boxes, "labels": torch.tensor([0, 2, 1])}, none]


def own_loss(name):
    from transformers.loss import loss_d_fine, loss_rt_detr

    return getattr(loss_rt_detr if name == "rt_detr" else loss_d_fine, OWN[name])


@both
def test_weight_one_equals_the_library(name):
    """Losses and gradients, with an image without boxes and denoising queries."""
    model = tiny(name)
    images, targets = images_and_targets()
    scale = torch.tensor([128.0, 96, 128, 96])
    centred = [_set_detector.box_convert(t["boxes"] / scale, "xyxy", "cxcywh") for t in targets]
    labels = [{"boxes": b, "class_labels": t["labels"]} for b, t in zip(centred, targets, strict=True)]
    torch.manual_seed(1)
    got = model(images, [t | {"w_cls": torch.ones(len(t["boxes"]))} for t in targets])
    parameters = [p for p in model.parameters() if p.requires_grad]
    got_grads = torch.autograd.grad(sum(got.values()), parameters, allow_unused=True)
    model.network.loss_function = own_loss(name)
    torch.manual_seed(1)
    want = model.network(pixel_values=torch.stack(images), labels=labels)
    want_grads = torch.autograd.grad(want.loss, parameters, allow_unused=True)
    assert sum(key.endswith("_dn_0") for key in want.loss_dict) >= 3
    for kind, value in got.items():
        keys = [key for key in want.loss_dict if _set_detector.KINDS["_".join(key.split("_")[:2])] == kind]
        torch.testing.assert_close(value, sum(want.loss_dict[key] for key in keys), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sum(got.values()), want.loss, rtol=1e-5, atol=1e-6)
    largest = max(float(grad.abs().max()) for grad in want_grads if grad is not None)
    for mine, theirs in zip(got_grads, want_grads, strict=True):
        assert (mine is None) == (theirs is None)
        if theirs is not None:  # sums in another order, in float32
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * largest)


@both
def test_weights_of_an_object_scale_its_terms_linearly(name):
    """A single object: its localisation loss is linear in `w_box`, its absence of both weights is no background."""
    model = tiny(name)
    images, targets = images_and_targets()
    one = {"boxes": targets[0]["boxes"][:1], "labels": targets[0]["labels"][:1]}

    def losses(**weights):
        torch.manual_seed(1)
        return model(images[:1], [one | {key: torch.tensor([value]) for key, value in weights.items()}])

    full, third = losses(), losses(w_box=1 / 3)
    torch.testing.assert_close(third["bbox_regression"], full["bbox_regression"] / 3)
    torch.testing.assert_close(third["classification"], full["classification"])
    quiet, muted = losses(w_cls=0.25), losses(w_cls=0.0, w_box=0.0)
    assert quiet["classification"] < full["classification"]
    assert muted["bbox_regression"] == 0 and muted["classification"] > 0


@both
@pytest.mark.parametrize("where", [{"ignore": [[0, 0, 128, 96]]}, {"negatives": []}, {"negatives": [[64, 0, 128, 96]]}])
def test_queries_where_nobody_looked_get_no_gradient(name, where):
    model, image = tiny(name), torch.rand(3, 96, 128)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    target = none | {key: torch.tensor(value, dtype=torch.float32).reshape(-1, 4) for key, value in where.items()}
    said = model.network(pixel_values=image[None])
    classes = said.logits.detach().requires_grad_()
    truth = _weighted.truth_of([target], torch.tensor([[96.0, 128]]), 3)
    label = _set_detector.labels_of(truth, 0, (96, 128), doubt=False)
    boxes = _set_loss.corners(said.pred_boxes.detach())[0] * torch.tensor([128.0, 96, 128, 96])
    layer = LayerOutput(classes, said.pred_boxes.detach())
    nothing = [(torch.zeros(0, dtype=torch.int64),) * 2]
    use = _set_loss.counted(layer, [label], nothing, None)
    _set_loss.varifocal(layer, [label], nothing, use, alpha=0.75, gamma=2.0, n_objects=1).backward()
    rows = _weighted.outside(torch.full((len(boxes),), _weighted.NEGATIVE), boxes, truth, 0)
    quiet = rows == _weighted.IGNORED
    assert torch.equal((classes.grad[0] == 0).all(1), quiet)
    assert quiet.all() == ("ignore" in where or not where["negatives"])


def test_targets_become_shares_of_the_padded_batch():
    """An image of 80 x 100 in a batch of 96 x 128; a rectangle at its border goes on over the padding."""
    target = {
        "boxes": torch.tensor([[32.0, 24, 64, 72], [0, 0, 64, 48]]),
        "labels": torch.tensor([2, 1]),
        "w_cls": torch.tensor([0.5, 0]),
        "w_box": torch.tensor([0.0, 0]),
        "negatives": torch.tensor([[0.0, 0, 64, 80]]),
        "doubt": torch.tensor([[64.0, 48, 128, 96]]),
        "doubt_scores": torch.tensor([0.4]),
    }
    truth = _weighted.truth_of([target], torch.tensor([[80.0, 100]]), 3)
    made = _set_detector.labels_of(truth, 0, (96, 128), doubt=True)
    assert made["class_labels"].tolist() == [2] and made["muted_labels"].tolist() == [1]
    assert made["w_cls"].tolist() == [0.5] and made["w_box"].tolist() == [0]
    torch.testing.assert_close(made["boxes"], torch.tensor([[0.375, 0.5, 0.25, 0.5]]))
    torch.testing.assert_close(made["muted"], torch.tensor([[0.25, 0.25, 0.5, 0.5]]))
    torch.testing.assert_close(made["doubt"], torch.tensor([[0.5, 0.5, 1, 1]]))
    x1, y1, x2, y2 = made["negatives"][0].tolist()
    assert x1 < -100 and y1 < -100 and x2 == 0.5 and y2 > 100
    assert "ignore" not in made and "doubt" not in _set_detector.labels_of(truth, 0, (96, 128), doubt=False)


def test_doubt_weighs_unmatched_queries():
    """Three queries: one on the box in doubt (0.4), one elsewhere, one matched."""
    centred = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5]]])
    label = {"boxes": centred[0, :1], "class_labels": torch.tensor([0]), "w_cls": torch.tensor([0.7])}
    label |= {"doubt": torch.tensor([[0.25, 0.25, 0.75, 0.75]]), "doubt_scores": torch.tensor([0.4])}
    pairs = [(torch.tensor([2]), torch.tensor([0]))]
    use = _set_loss.counted(LayerOutput(torch.zeros(1, 3, 1), centred), [label], pairs, None)
    torch.testing.assert_close(use, torch.tensor([[0.6, 1.0, 0.7]]))


def plain_edge_losses(said, fine, labels, pairs, use, bins, scale, up):
    """FGL and DDF query by query and edge by edge, from the words of the paper and of `_rt_detr_loss`."""
    step = (up * scale + 1) ** (2 / (bins - 2))
    half = [step**i - 1 for i in range(1, bins // 2)]
    values = [-2 * up * scale, *(-v for v in reversed(half)), 0, *half, 2 * up * scale]
    fgl, groups = 0.0, {True: [], False: []}
    for i, (label, (queries, things)) in enumerate(zip(labels, pairs, strict=True)):
        owner = dict(zip(queries.tolist(), things.tolist(), strict=True))
        for q in range(said.logits.shape[1]):
            student, teacher = (x[i, q].view(4, bins + 1) for x in (fine.edges, fine.teacher_edges))
            apart = [
                functional.kl_div((s / 5).log_softmax(0), (t / 5).softmax(0), reduction="sum")
                for s, t in zip(student, teacher, strict=True)
            ]
            weight = float(fine.teacher_logits[i, q].sigmoid().max() * use[i, q])
            if q in owner:
                box = _set_loss.corners(label["boxes"][owner[q]])
                mine = _set_loss.corners(said.boxes[i, q])
                overlap, w_box = float(box_iou(box[None], mine[None])), float(label["w_box"][owner[q]])
                cx, cy, w, h = fine.reference[i, q].tolist()
                x1, y1, x2, y2 = box.tolist()
                sides = ((cx - x1, w), (cy - y1, h), (x2 - cx, w), (y2 - cy, h))
                for edge, (away, side) in zip(student, sides, strict=True):
                    shift = min(max(away / side * scale - scale / 2, values[0]), values[-1])
                    k = max(j for j in range(bins) if values[j] <= shift)
                    right = (shift - values[k]) / (values[k + 1] - values[k])
                    said_of = -edge.log_softmax(0)
                    fgl += overlap * w_box * float((1 - right) * said_of[k] + right * said_of[k + 1])
                weight = overlap * (w_box > 0)
                counts = w_box > 0
            else:
                counts = bool(use[i, q] > 0)
            if counts:
                groups[q in owner] += [25 * weight * float(one) for one in apart]
    sizes = {k: (len(v) / len(labels)) ** 0.5 for k, v in groups.items()}
    means = {k: sum(v) / max(len(v), 1) for k, v in groups.items()}
    return fgl, sum(sizes[k] * means[k] for k in groups) / sum(sizes.values())


def test_edge_losses_equal_the_slow_ones():
    rng = torch.Generator().manual_seed(0)
    bins = 8
    config = transformers.DFineConfig(max_num_bins=bins, reg_scale=4.0, up=0.5)

    def boxes(*shape):
        return 0.3 + 0.4 * torch.rand(*shape, 4, generator=rng)

    edges, teacher = (2 * torch.randn(2, 6, 4 * (bins + 1), generator=rng) for _ in range(2))
    fine = FineOutput(edges, boxes(2, 6), teacher, torch.randn(2, 6, 3, generator=rng))
    said = LayerOutput(torch.randn(2, 6, 3, generator=rng), boxes(2, 6))
    labels = [{"boxes": boxes(n), "class_labels": torch.zeros(n, dtype=torch.int64)} for n in (3, 1)]
    weights = (torch.tensor([1.0, 0.0, 0.3]), torch.tensor([0.6]))
    labels = [t | {"w_box": w} for t, w in zip(labels, weights, strict=True)]
    pairs = [(torch.tensor([1, 4, 5]), torch.tensor([2, 0, 1])), (torch.tensor([0]), torch.tensor([0]))]
    use = torch.tensor([[1.0, 1, 0, 0.5, 1, 1], [1, 0, 1, 1, 0.2, 0]])
    got = _rt_detr_loss.edge_losses(said, fine, labels, pairs, use, 1.0, config)
    want = plain_edge_losses(said, fine, labels, pairs, use, bins, 4.0, 0.5)
    assert [float(x) for x in got] == pytest.approx(want, rel=1e-4)


@both
def test_a_small_image_is_padded_until_every_query_has_a_location(name):
    model = tiny(name, queries=200, score_threshold=0.0).eval()
    with torch.inference_mode():
        found = model([torch.rand(3, 40, 32)])[0]
    assert len(found["boxes"]) and (found["boxes"] <= torch.tensor([32.0, 40, 32, 40])).all()


@both
def test_half_precision_gives_float_losses_and_candidates(name):
    model, (images, targets) = tiny(name, score_threshold=0.0), images_and_targets()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, targets)
        with torch.inference_mode():
            found = model.eval()(images)
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())
    assert all(column.dtype == torch.float32 for column in found[0].values())


@both
def test_weights_of_a_folder_but_for_the_classes(name, tmp_path):
    before = tiny(name, 5).network
    before.config.freeze_backbone_batch_norms = True
    before.save_pretrained(tmp_path / "own")
    model = tiny(name, 2, weights=f"hf:{tmp_path / 'own'}", size="tiny")
    kept = before.state_dict()
    layers = _set_detector.CLASS_LAYERS
    for key, value in model.network.state_dict().items():
        if not any(layer in key for layer in layers):
            assert torch.equal(value, kept[key]), key
    assert model.network.config.num_labels == 2
    model.train()
    training = {n: m.training for n, m in model.network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert {on for n, on in training.items() if n.startswith("model.backbone.")} == {False}
    assert {on for n, on in training.items() if not n.startswith("model.backbone.")} == {True}
    images, targets = images_and_targets()
    targets[0]["labels"] = targets[0]["labels"].clamp(max=1)
    assert torch.isfinite(sum(model(images, targets).values()))
    free = tiny(name, 2, weights=f"hf:{tmp_path / 'own'}", frozen_norms=False)
    assert all(m.training for m in free.train().modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_weights_that_cannot_be_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LabelwiseError, match=r'expected "none", "coco" .* or "hf:NAME"'):
        rt_detr.build(2, weights="yolox_nano")
    with pytest.raises(LabelwiseError, match="there are none of this size"):
        d_fine.build(2, size="tiny", weights="coco")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelwiseError, match=r"RTDetrV2 cannot be had from there"):
        rt_detr.build(2, weights=f"hf:{tmp_path / 'empty'}")
    tiny("d_fine").network.save_pretrained(tmp_path / "other")
    with pytest.raises(LabelwiseError, match=r"not the weights of a RTDetrV2|cannot be had"):
        rt_detr.build(2, weights=f"hf:{tmp_path / 'other'}")


@pytest.mark.parametrize(
    ("name", "size", "millions"), [("rt_detr", "r18", 20.2), ("d_fine", "n", 3.8), ("d_fine", "s", 10.3)]
)
def test_sizes_are_the_authors(name, size, millions):
    """Weights in millions as the authors' tables have them (80 classes)."""
    network = BUILDS[name](80, size=size).network
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        *(("rt_detr", "r34", 31.4), ("rt_detr", "r50", 42.9), ("rt_detr", "r101", 76.6)),
        *(("d_fine", "m", 19.6), ("d_fine", "l", 31.2), ("d_fine", "x", 62.6)),
    ],
)
def test_large_sizes_are_the_authors(name, size, millions):
    network = BUILDS[name](80, size=size).network
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@both
def test_a_whole_round(name, tmp_path):
    """Two rounds of box queries on generated scenes, from random weights."""
    settings = [
        "data.scenes={train=16, test=6, seed=0, classes=3, size_px=96, digits=[1, 3]}", "data.image_size_px=96",
        f"model={{name='{name}', size='tiny', score_threshold=0.01, negatives='background'}}", "train.epochs=1",
        "train.min_steps=2", "train.max_steps=2", "train.batch_size=4", "train.backbone_lr_factor=0.1",
        "query.threshold=0.01", "labels.threshold=0.01", "labels.policy=dual", "budget.start_images=4",
        "budget.per_round=[6]",
    ]  # fmt: skip
    opened = opening.start(tmp_path / name, "demo", settings)
    list(loop.run(opened))
    results = [history.round_result(opened, number) for number in range(opened.run.rounds)]
    assert results[-1].cost_queries > results[0].cost_queries > 0
    assert all(result.quality is not None for result in results)


@pytest.mark.slow
@both
def test_learns_a_few_images_by_heart(name):
    """Coloured squares on noise, from random weights: nearly all are found, with their class."""
    model = tiny(name, 2)
    rng = torch.Generator().manual_seed(0)
    images, targets = [], []
    for _ in range(4):
        image, boxes = 0.3 * torch.rand(3, 128, 128, generator=rng), torch.tensor([[8.0, 8, 40, 40], [70, 20, 110, 60]])
        for label, box in enumerate(boxes.int().tolist()):
            image[label, box[1] : box[3], box[0] : box[2]] += 0.6
        images.append(image)
        targets.append({"boxes": boxes, "labels": torch.tensor([0, 1])})
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(100 if name == "rt_detr" else 150):
        optimiser.zero_grad()
        sum(model(images, targets).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    with torch.inference_mode():
        for found, target in zip(model(images), targets, strict=True):
            assert (box_iou(target["boxes"], found["boxes"][:2]).amax(1) > 0.5).all()
            assert set(found["probs"][:2].argmax(1).tolist()) == {0, 1}
