"""Detectors against torchvision's own, Eq. 7's weights, and the contract of their outputs."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.ops import MultiScaleRoIAlign, box_iou

from labelwise import catalog
from labelwise.models import _anchors, _pooling, _weighted, retinanet
from labelwise.types import LabelwiseError

N_CLASSES = 3
TRAINED = [catalog.find("models", name) for name in catalog.names("models")]
TRAINED = [
    m for m in TRAINED if m.constant("TASK", "detection") == "detection" and m.constant("READS", "images") == "images"
]
BUILDS = {method.name: method.function for method in TRAINED}
"""Every detector of the folder that is trained on images."""
ANCHORS = ["retinanet", "faster_rcnn"]
SETS = ["rt_detr", "d_fine"]
TINY = {name: {"fpn_channels": 16} for name in ANCHORS} | {name: {"size": "tiny"} for name in SETS}
TINY |= {"fcos": {"fpn_channels": 32, "head_convs": 1}}
WIDTHS = {"retinanet": (16, 192), "faster_rcnn": (256, 192), "yolox": (64, 256), "fcos": (32, 192)}
WIDTHS |= dict.fromkeys(SETS, (64, 64))
"""Of the feature of a candidate, and of an image's."""
LOCALISE = ("bbox_regression", "rpn_box", "centerness")
"""Losses that `w_box` weighs."""
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="the extra `transformers` is not installed (uv sync --extra transformers)",
)


def marked(name, *more):
    return pytest.param(name, *more, marks=needs_transformers if name in SETS else ())


EVERY = [marked(name) for name in BUILDS]
DIVIDED = [(name, {"normalise": how}) for name in ANCHORS for how in ("torchvision", "paper")]
DIVIDED += [marked(name, {}) for name in BUILDS if name not in ANCHORS]
divided = pytest.mark.parametrize(("name", "settings"), DIVIDED)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images_and_targets(extra=()):
    """Three images of two sizes; the second holds no box."""
    rng = torch.Generator().manual_seed(3)
    images = [torch.rand(3, h, w, generator=rng) for h, w in ((96, 128), (96, 128), (80, 100))]
    boxes = [
        torch.tensor([[4.0, 5, 40, 30], [50, 20, 64, 80], [51, 22, 66, 78]]),
        torch.zeros(0, 4),
        torch.tensor([[10.0, 10, 26, 24]]),
    ]
    labels = [torch.tensor([0, 2, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([1])]
    return images, [{"boxes": b, "labels": n, **dict(extra)} for b, n in zip(boxes, labels, strict=True)]


def tiny(name, **settings):
    torch.manual_seed(0)
    return BUILDS[name](N_CLASSES, **TINY.get(name, {}) | settings)


def torchvision_retinanet(ours):
    twin = RetinaNet(
        ours.backbone, N_CLASSES, anchor_generator=ours.anchors.generator, head=ours.head, _skip_resize=True
    )
    return twin, {"classification": "classification", "bbox_regression": "bbox_regression"}


def torchvision_faster_rcnn(ours):
    twin = FasterRCNN(
        ours.backbone,
        rpn_anchor_generator=ours.rpn.anchors.generator,
        rpn_head=ours.rpn.head,
        rpn_pre_nms_top_n_train=2 * ours.rpn.proposals,
        rpn_post_nms_top_n_train=ours.rpn.proposals,
        rpn_batch_size_per_image=ours.rpn.sampler.batch_size_per_image,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], ours.roi_heads.pool.size, 2),
        box_head=ours.roi_heads.box_head,
        box_predictor=ours.roi_heads.box_predictor,
        box_batch_size_per_image=ours.roi_heads.sampler.batch_size_per_image,
        _skip_resize=True,
    )
    names = {
        "objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "classification": "loss_classifier",
        "bbox_regression": "loss_box_reg",
    }
    return twin, names


def torchvision_fcos(ours):
    generator = ours.anchors.generator
    twin = FCOS(ours.backbone, N_CLASSES, anchor_generator=generator, head=ours.head, _skip_resize=True)
    names = {"classification": "classification", "bbox_regression": "bbox_regression", "centerness": "bbox_ctrness"}
    return twin, names


TWINS = {"retinanet": torchvision_retinanet, "faster_rcnn": torchvision_faster_rcnn, "fcos": torchvision_fcos}


@pytest.mark.parametrize("name", TWINS)
def test_weight_one_equals_torchvision(name):
    """Losses and gradients to 1e-6 (in float64), with images of two sizes and one without boxes."""
    ours = tiny(name).double()
    images, targets = images_and_targets()
    images = [i.double() for i in images]
    targets = [{"boxes": t["boxes"].double(), "labels": t["labels"]} for t in targets]
    twin, names = TWINS[name](ours)
    torch.manual_seed(1)
    got = ours(images, targets)
    parameters = [p for p in ours.parameters() if p.requires_grad]
    got_grads = torch.autograd.grad(sum(got.values()), parameters)
    shift = 1 if name == "faster_rcnn" else 0  # theirs counts the background as class 0
    torch.manual_seed(1)
    want = twin(images, [{"boxes": t["boxes"], "labels": t["labels"] + shift} for t in copy.deepcopy(targets)])
    want_grads = torch.autograd.grad(sum(want.values()), parameters)
    assert {names[k] for k in got} == want.keys()
    for key, value in got.items():
        torch.testing.assert_close(value, want[names[key]], rtol=1e-6, atol=0)
    for mine, theirs in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()) + 1e-12)


def losses(model, images, targets):
    torch.manual_seed(1)
    return {k: v.item() for k, v in model(images, targets).items()}


@divided
def test_weights_scale_the_terms_of_their_box(name, settings):
    model = tiny(name, frozen_norms=True, **settings)
    images, targets = images_and_targets()
    plain = losses(model, images, targets)
    half = [t | {"w_box": torch.full((len(t["boxes"]),), 0.5)} for t in targets]
    got = losses(model, images, half)
    for key, value in plain.items():
        assert got[key] == pytest.approx(value * (0.5 if key in LOCALISE else 1.0), rel=1e-5)
    softer = losses(model, images, [t | {"w_cls": torch.full((len(t["boxes"]),), 0.5)} for t in targets])
    assert softer["classification"] < plain["classification"]
    assert softer["bbox_regression"] == pytest.approx(plain["bbox_regression"], rel=1e-5)


@divided
@pytest.mark.parametrize("case", ["no boxes", "all weights 0", "nothing is negative", "all is ignored"])
def test_degenerate_targets_give_finite_losses_and_gradients(name, settings, case):
    model = tiny(name, **settings)
    images, targets = images_and_targets()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    if case == "no boxes":
        targets = [dict(empty) for _ in images]
    elif case == "all weights 0":
        targets = [t | {k: torch.zeros(len(t["boxes"])) for k in ("w_cls", "w_box")} for t in targets]
    elif case == "nothing is negative":
        targets = [empty | {"negatives": torch.zeros(0, 4)} for _ in images]
    else:
        targets = [empty | {"ignore": torch.tensor([[0.0, 0, i.shape[2], i.shape[1]]])} for i in images]
    found = model(images, targets)
    total = sum(found.values())
    assert torch.isfinite(total)
    assert (total.item() == 0) == (case in ("nothing is negative", "all is ignored"))
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", EVERY)
def test_whole_image_as_negatives_is_the_default(name):
    """The rectangle ends at the image's border, some anchors do not: they stay negatives all the same."""
    model = tiny(name, frozen_norms=True)
    images, targets = images_and_targets()
    whole = [
        t | {"negatives": torch.tensor([[0.0, 0, i.shape[2], i.shape[1]]])}
        for t, i in zip(targets, images, strict=True)
    ]
    assert losses(model, images, whole) == losses(model, images, targets)


def slow_assign(anchors, target, matcher):
    """Anchor by anchor, from the words of the contract."""
    rows = []
    matched = matcher(box_iou(target["boxes"], anchors)).tolist()
    for anchor, row in zip(anchors.tolist(), matched, strict=True):
        area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])

        def share(rects, anchor=anchor, area=area):
            sides = [
                (min(anchor[2], r[2]) - max(anchor[0], r[0]), min(anchor[3], r[3]) - max(anchor[1], r[1]))
                for r in rects
            ]
            return max((max(w, 0) * max(h, 0) / area for w, h in sides), default=0)

        if row >= 0 and target["w_cls"][row] == 0 and target["w_box"][row] == 0:
            row = _weighted.IGNORED
        if row == -1 and (share(target["negatives"].tolist()) < 0.5 or share(target["ignore"].tolist()) >= 0.5):
            row = _weighted.IGNORED
        rows.append(row)
    return rows


def test_assignment_equals_the_slow_one():
    rng = torch.Generator().manual_seed(0)

    def boxes(n, least):  # clear of the border, where rectangles continue outside
        corner = 10 + 60 * torch.rand(n, 2, generator=rng)
        return torch.cat((corner, corner + least + 20 * torch.rand(n, 2, generator=rng)), 1)

    matcher = retinanet.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    for _ in range(20):
        target = {
            "boxes": boxes(5, 2),
            "labels": torch.zeros(5, dtype=torch.int64),
            "w_cls": torch.tensor([1.0, 0, 0, 0.5, 1]),
            "w_box": torch.tensor([1.0, 0, 1, 0, 1]),
            "negatives": boxes(2, 25),
            "ignore": boxes(3, 5),
        }
        anchors = boxes(60, 3)
        truth = _weighted.truth_of([target], torch.tensor([[100.0, 100]]), 1)
        assert _weighted.assign(anchors, truth, 0, matcher).tolist() == slow_assign(anchors, target, matcher)


def test_pooling_equals_torchvision():
    rng = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 4, s, s + 3, generator=rng, requires_grad=True) for s in (24, 12, 6)]
    corner = 220 * torch.rand(2, 40, 2, generator=rng) - 10
    boxes = list(torch.cat((corner, corner + 300 * torch.rand(2, 40, 2, generator=rng) ** 4), 2))  # some outside
    got = _pooling.PyramidPool(5)(levels, boxes, (192, 216))
    names = {str(i): level for i, level in enumerate(levels)}
    want = MultiScaleRoIAlign(list(names), 5, 2)(names, boxes, [(192, 216)] * 2)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    push = torch.randn(got.shape, generator=rng)
    for mine, theirs in zip(
        torch.autograd.grad(got, levels, push), torch.autograd.grad(want, levels, push), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_candidates_keep_distribution_and_feature(name):
    model = tiny(name, score_threshold=0.0, max_detections=20).eval()
    images, _ = images_and_targets()
    with torch.inference_mode():
        together = model(images)
        alone = model(images[2:])[0]
    assert len(together) == 3
    for image, found in zip(images, together, strict=True):
        n = len(found["scores"])
        assert 1 <= n <= 20
        assert found["boxes"].shape == (n, 4)
        assert found["probs"].shape == (n, N_CLASSES)
        assert found["features"].shape == (n, WIDTHS[name][0])
        assert ("tightness" in found) == (name in ANCHORS)
        if name in ANCHORS:
            assert found["tightness"].shape == (n,)
            assert ((found["tightness"] >= 0) & (found["tightness"] <= 1)).all()
        assert found["image_feature"].shape == (WIDTHS[name][1],)
        assert "predicted_loss" not in found
        assert (found["scores"].diff() <= 0).all()
        torch.testing.assert_close(found["probs"].sum(1), torch.ones(n))
        limit = torch.tensor([image.shape[2], image.shape[1]] * 2)
        assert ((found["boxes"] >= 0) & (found["boxes"] <= limit)).all()
        assert (box_iou(found["boxes"], found["boxes"]).fill_diagonal_(0) <= 0.5).all()  # whatever the classes
    torch.testing.assert_close(alone["scores"][:5], together[2]["scores"][:5], rtol=0.2, atol=0.02)  # padding differs


@pytest.mark.parametrize("name", EVERY)
def test_no_candidate_at_all(name):
    model = tiny(name, score_threshold=0.999).eval()
    with torch.inference_mode():
        found = model(images_and_targets()[0])
    assert [len(f["boxes"]) for f in found] == [0, 0, 0]
    assert found[0]["probs"].shape == (0, N_CLASSES)
    assert found[0]["features"].shape == (0, WIDTHS[name][0])
    assert torch.isfinite(found[0]["image_feature"]).all()


def test_best_of_takes_each_image_by_itself():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30], [40, 0, 50, 10]])
    scores, image = torch.tensor([0.5, 0.9, 0.7, 0.2, 0.3]), torch.tensor([1, 1, 0, 1, 1])
    assert _anchors.best_of(boxes, scores, image, nms_iou=0.5, most=2).tolist() == [2, 1, 4]


@pytest.mark.parametrize("name", EVERY)
def test_training_is_deterministic_and_seeds_matter(name):
    images, targets = images_and_targets()

    def trained(seed):
        torch.manual_seed(seed)
        model = BUILDS[name](N_CLASSES, **TINY.get(name, {}))
        optimiser = torch.optim.SGD(model.parameters(), 1e-2)
        for _ in range(2):
            optimiser.zero_grad()
            sum(model(images, targets).values()).backward()
            optimiser.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(trained(5), trained(5))
        assert not torch.equal(trained(5), trained(6))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("boxes", "labels", "where"),
    [([[0.0, 0, 5, 5], [5, 5, 5, 9]], [0, 1], "image 1 of the batch, box 1"), ([[0.0, 0, 5, 5]], [3], "label 3")],
)
def test_bad_target_is_named(name, boxes, labels, where):
    images, targets = images_and_targets()
    targets[1] = {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}
    with pytest.raises(LabelwiseError, match=where):
        tiny(name)(images, targets)


BODY = "network.model.backbone.model.encoder.stages."
STAGES = {
    "yolox": ("network.backbone.backbone.dark3.", "network.backbone.backbone.dark4.0.pconv.conv.weight"),
    "rt_detr": (f"{BODY}1.", f"{BODY}2.layers.0.layer.0.convolution.weight"),
    "d_fine": (f"{BODY}1.", f"{BODY}2.blocks.0.layers.0.conv1.convolution.weight"),
}
"""What is frozen with two trainable stages, and what is not."""


@pytest.mark.parametrize("name", EVERY)
def test_frozen_stages_and_norms_do_not_move(name):
    images, targets = images_and_targets()
    model = tiny(name, trainable_stages=2, frozen_norms=True)
    before = copy.deepcopy(model.state_dict())
    model.train()
    sum(model(images, targets).values()).backward()
    still = [k for k, p in model.named_parameters() if p.grad is None]
    frozen, free = STAGES.get(name, ("backbone.body.stage2.", "backbone.body.stage3.0.branch2.0.weight"))
    assert any(k.startswith(frozen) for k in still)
    assert free in before and free not in still
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items() if "running" in k)


@pytest.mark.parametrize("name", EVERY)
def test_settings_that_cannot_be_are_refused(name):
    if name in ANCHORS:
        with pytest.raises(LabelwiseError, match="anchor_sizes has 7 levels"):
            tiny(name, anchor_sizes=(8, 16, 32, 64, 128, 256, 512))
    if name == "fcos":
        with pytest.raises(LabelwiseError, match="levels = 7"):
            tiny(name, levels=7)
        with pytest.raises(LabelwiseError, match="fpn_channels = 16: FCOS takes a multiple of 32"):
            tiny(name, fpn_channels=16)
    with pytest.raises(LabelwiseError, match="trainable_stages = 9"):
        tiny(name, trainable_stages=9)


WEIGHTS = Path(__file__).parents[2] / "shared" / "data" / "weights"


@pytest.mark.parametrize("name", BUILDS)
def test_half_precision_leaves_the_candidates_in_an_order(name):
    """Confidences of a last layer in bf16 would be a few hundred numbers."""
    model, rng = tiny(name, score_threshold=0.0, max_detections=300, nms_iou=0.9), torch.Generator().manual_seed(0)
    for key, weight in model.named_parameters():  # fresh ones say nearly the same of every place
        if any(layer in key for layer in ("cls_preds", "cls_logits", "cls_score", "class_embed", "obj_preds")):
            torch.nn.init.normal_(weight, std=1 / (weight[0].numel() ** 0.5 if weight.ndim > 1 else 1), generator=rng)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    images = [torch.rand(3, 128, 128, generator=rng) for _ in range(2)]
    box = {"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([0])}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(images, [box, box])
        found = model.eval()(images)
    for key in ("scores", "probs"):
        values = torch.cat([one[key] for one in found]).flatten()
        assert len(values) >= 100 and len(values.unique()) > 0.9 * len(values), key


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUILDS if name not in SETS])  # theirs: test_models_set
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="shared/data/weights is not here")
def test_learns_a_few_images_by_heart(name):
    """Coloured squares on noise, 60 steps: nearly all are found, with their class."""
    torch.manual_seed(0)
    own = {"yolox": "yolox_nano_coco.safetensors"}
    model = BUILDS[name](N_CLASSES, weights=str(WEIGHTS / own.get(name, "shufflenet_v2_x0_5_imagenet_backbone.pth")))
    rng = torch.Generator().manual_seed(0)
    images, targets = [], []
    for _ in range(4):
        image, boxes = 0.3 * torch.rand(3, 128, 128, generator=rng), torch.tensor([[8.0, 8, 40, 40], [70, 20, 110, 60]])
        for label, box in enumerate(boxes.int().tolist()):
            image[label, box[1] : box[3], box[0] : box[2]] += 0.6
        images.append(image)
        targets.append({"boxes": boxes, "labels": torch.tensor([0, 1])})
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        sum(model(images, targets).values()).backward()
        optimiser.step()
    model.eval()
    with torch.inference_mode():
        for found, target in zip(model(images), targets, strict=True):
            assert (box_iou(target["boxes"], found["boxes"][:2]).amax(1) > 0.5).all()
            assert set(found["probs"][:2].argmax(1).tolist()) == {0, 1}
