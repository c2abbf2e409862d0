"""DETR, RT-DETRv2 and D-FINE with labelwise's weights: against the library's own loss, and numbers made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelwise.adapters import transformers as adapter
from labelwise.api.target import Target
from labelwise.models import _set_loss as sets
from labelwise.models._set_loss import LayerOutput
from labelwise.types import LabelwiseError

try:
    import transformers
except ImportError:
    transformers = None  # type: ignore[assignment]
needs_transformers = pytest.mark.skipif(
    transformers is None, reason="the extra `transformers` is not installed (uv sync --extra transformers)"
)
KINDS = ("detr", "rt_detr_v2", "d_fine")
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def tiny(kind: str, **settings: Any) -> Any:
    """A randomly initialised model of two decoder layers, 12 queries and 3 classes; nothing is downloaded."""
    torch.manual_seed(0)
    if kind == "detr":
        body = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
        )
        sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 12, "auxiliary_loss": True}
        sizes |= {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in SMALL}
        config = transformers.DetrConfig(
            use_timm_backbone=False, use_pretrained_backbone=False, backbone_config=body, dropout=0.0, num_labels=3,
            **(sizes | settings),
        )  # fmt: skip
        return transformers.DetrForObjectDetection(config).train()
    if kind == "d_fine":
        from labelwise.models import d_fine

        own = {**d_fine.SIZES["tiny"], **{"num_queries": 12, "num_denoising": 8}, **settings}
        body = transformers.HGNetV2Config(**own.pop("body"))
        config = transformers.DFineConfig(backbone_config=body, num_labels=3, freeze_backbone_batch_norms=False, **own)
        model = transformers.DFineForObjectDetection(config).train()
        for module in model.modules():  # as drawn by the library nothing gets through them
            if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
                module.reset_parameters()
        return model
    body = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrV2Config(
        backbone_config=body, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=16, encoder_ffn_dim=16,
        encoder_attention_heads=2, d_model=16, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16, decoder_layers=2,
        decoder_attention_heads=2, num_queries=12, num_labels=3, num_denoising=8, eval_size=None, hidden_expansion=0.5,
        **settings,
    )  # fmt: skip
    return transformers.RTDetrV2ForObjectDetection(config).train()


SMALL = (("ffn_dim", 16), ("attention_heads", 2))


def plain_labels() -> list[dict[str, torch.Tensor]]:
    return [
        {
            "class_labels": torch.tensor([0, 2]),
            "boxes": torch.tensor([[0.3, 0.3, 0.3, 0.4], [0.7, 0.6, 0.2, 0.3]]),
        },
        {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])},
    ]


def with_weights(labels: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The same, everything looked at and every weight 1."""
    more = [{"w_cls": torch.ones(len(t["boxes"])), "w_box": torch.ones(len(t["boxes"]))} for t in labels]
    empty = {"muted": torch.zeros(0, 4), "muted_labels": torch.zeros(0, dtype=torch.int64), "ignore": torch.zeros(0, 4)}
    return [t | w | empty | {"negatives": WHOLE} for t, w in zip(labels, more, strict=True)]


def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def loss_of(model: Any, labels: list[dict[str, torch.Tensor]]) -> Any:
    torch.manual_seed(3)  # RT-DETR draws its denoising queries
    return model(pixel_values=images(), labels=labels)


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_weight_one_and_full_coverage_is_the_library_s_own_loss(kind: str) -> None:
    model = tiny(kind)
    want = loss_of(model, plain_labels())
    parameters = [p for p in model.parameters() if p.requires_grad]
    want_grads = torch.autograd.grad(want.loss, parameters, allow_unused=True)
    adapter.weighted(model)
    for labels in (plain_labels(), with_weights(plain_labels())):
        got = loss_of(model, labels)
        torch.testing.assert_close(got.loss, want.loss, rtol=1e-5, atol=1e-6)
        for name, value in got.loss_dict.items():
            torch.testing.assert_close(value, want.loss_dict[name], rtol=1e-5, atol=1e-6, msg=name)
        assert set(want.loss_dict) - set(got.loss_dict) <= {"cardinality_error", "cardinality_error_0"}
        grads = torch.autograd.grad(got.loss, parameters, allow_unused=True)
        for mine, theirs in zip(grads, want_grads, strict=True):
            if theirs is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_weight_zero_is_absent_without_becoming_background(kind: str) -> None:
    """Neither its class nor its box pulls at any query: what is left is the loss of the other object."""
    model = adapter.weighted(tiny(kind)).eval()  # no denoising: its random queries would differ
    both = with_weights(plain_labels()[:1])[0]
    alone = {name: both[name][:1] for name in ("class_labels", "boxes", "w_cls", "w_box")}
    muted = both | alone | {"muted": both["boxes"][1:], "muted_labels": both["class_labels"][1:]}
    absent = both | alone

    def terms(label: dict[str, torch.Tensor]) -> tuple[Any, torch.Tensor]:
        said = model(pixel_values=images()[:1], labels=[label])
        return said, torch.autograd.grad(said.loss, said.logits)[0][0]

    without, pushed = terms(absent)
    with_muted, gradient = terms(muted)
    for name in without.loss_dict:
        if "bbox" in name or "giou" in name:
            torch.testing.assert_close(with_muted.loss_dict[name], without.loss_dict[name])
    still = (gradient == 0).all(dim=1)
    assert still.sum() >= 1
    assert not (pushed[still] == 0).any(), "absent, the same query is pushed to background"
    full, _ = terms(both)
    assert abs(float((full.loss - with_muted.loss).detach())) > 1e-3


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_where_nobody_looked_no_query_is_pushed_to_background(kind: str) -> None:
    model = adapter.weighted(tiny(kind)).eval()
    label = with_weights(plain_labels()[:1])[0]
    nothing = {"class_labels": label["class_labels"][:0], "boxes": label["boxes"][:0]}
    nothing |= {"w_cls": label["w_cls"][:0], "w_box": label["w_box"][:0]}
    nowhere = label | nothing | {"negatives": torch.zeros(0, 4)}
    assert model(pixel_values=images()[:1], labels=[nowhere]).loss.item() == 0
    ignored = label | nothing | {"ignore": WHOLE}
    assert model(pixel_values=images()[:1], labels=[ignored]).loss.item() == 0
    assert model(pixel_values=images()[:1], labels=[label | nothing]).loss.item() > 0


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_weights_scale_the_losses_of_their_object(kind: str) -> None:
    model = adapter.weighted(tiny(kind)).eval()
    label = with_weights(plain_labels()[1:])[0]
    full = model(pixel_values=images()[:1], labels=[label]).loss_dict
    half = model(pixel_values=images()[:1], labels=[label | {"w_box": torch.tensor([0.5])}]).loss_dict
    for name, value in full.items():
        scale = 0.5 if "bbox" in name or "giou" in name else 1.0
        torch.testing.assert_close(half[name], scale * value)


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_on_partly_labelled_images_reduce_the_loss(kind: str) -> None:
    model = adapter.weighted(tiny(kind))
    label = with_weights(plain_labels()[:1])[0]  # one object to learn, one of weight 0, half of the image looked at
    muted = {"muted": label["boxes"][1:], "muted_labels": label["class_labels"][1:]}
    label |= {name: label[name][:1] for name in ("class_labels", "boxes", "w_cls", "w_box")} | muted
    label |= {"negatives": torch.tensor([[0.0, 0.0, 0.5, 1.0]])}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        torch.manual_seed(3)
        loss = model(pixel_values=images()[:1], labels=[label]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-3:]) < 0.9 * losses[0], losses


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_boxes_in_pixels_with_their_distribution(kind: str) -> None:
    detector = adapter.Detector(tiny(kind), min_score=0.0, size_px=None if kind == "detr" else (64, 64))
    shown = [torch.rand(3, 40, 64), torch.rand(3, 64, 50)]
    found = detector(shown)
    for image, one in zip(shown, found, strict=True):
        n = len(one["boxes"])
        assert 0 < n <= 12
        assert one["probs"].shape == (n, 3) and one["features"].shape == (n, 64 if kind == "d_fine" else 16)
        torch.testing.assert_close(one["probs"].sum(1), torch.ones(n))
        assert (one["boxes"] >= 0).all() and (one["boxes"][:, 2] <= image.shape[2]).all()
        assert (one["boxes"][:, 3] <= image.shape[1]).all()
    alone = detector([shown[0]])[0]
    if kind == "detr":  # its mask hides the padding; of another batch only rounding differs
        torch.testing.assert_close(alone["boxes"], found[0]["boxes"], rtol=1e-2, atol=0.5)


@needs_transformers
def test_another_loss_is_refused() -> None:
    with pytest.raises(LabelwiseError, match="Linear has the loss None; expected ForObjectDetectionLoss"):
        adapter.weighted(torch.nn.Linear(1, 1))


def test_weight_zero_among_the_boxes_is_refused() -> None:
    label = plain_labels()[1] | {"w_cls": torch.zeros(1), "w_box": torch.zeros(1)}
    with pytest.raises(LabelwiseError, match="belongs into `muted`"):
        sets.check([label])
    with pytest.raises(LabelwiseError, match=r"labels of image 0 of the batch: weights \[-1.0\]"):
        sets.check([plain_labels()[1] | {"w_cls": -torch.ones(1)}])


def test_labels_are_shares_of_the_window_and_weight_zero_is_muted() -> None:
    target = Target(
        image="a.jpg", path=Path("a.jpg"), size_px=(200, 100),
        boxes=np.array([[110, 10, 150, 50], [120, 60, 200, 100]], np.float32), labels=np.array([2, 1]),
        w_cls=np.array([0.5, 0], np.float32), w_box=np.array([1, 0], np.float32), answered=np.array([True, False]),
        negatives=np.array([[0, 0, 200, 100]], np.float32), ignore=np.zeros((0, 4), np.float32),
        window=(100, 0, 200, 100),
    )  # fmt: skip
    made = adapter.labels(target)
    assert made["class_labels"].tolist() == [2] and made["w_cls"].tolist() == [0.5]
    torch.testing.assert_close(made["boxes"], torch.tensor([[0.3, 0.3, 0.4, 0.4]]))
    torch.testing.assert_close(made["muted"], torch.tensor([[0.6, 0.8, 0.8, 0.4]]))
    assert made["muted_labels"].tolist() == [1]
    assert made["negatives"].tolist() == [[0, 0, 1, 1]]


def test_box_losses_by_hand() -> None:
    """One object of w_box 0.5, off by 0.1 in x: L1 0.1; a box of 0.2 x 0.2 moved by half: IoU 1/3, hull full."""
    said = LayerOutput(torch.zeros(1, 2, 3), torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]]))
    label = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.6, 0.5, 0.2, 0.2]])}
    pairs = [(torch.tensor([0]), torch.tensor([0]))]
    l1, giou = sets.box_losses(said, [label | {"w_box": torch.tensor([0.5])}], pairs, 1.0)
    assert float(l1) == pytest.approx(0.05, abs=1e-6)
    assert float(giou) == pytest.approx(0.5 * (1 - 1 / 3), abs=1e-4)


def test_varifocal_by_hand() -> None:
    """Logits 0 (p = 0.5), alpha 0.75, gamma 2: a negative costs 0.75 / 4 ln 2; a hit of IoU 1 costs ln 2."""
    ln2 = float(np.log(2))
    said = LayerOutput(torch.zeros(1, 2, 1), torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]]))
    label = {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}
    pairs = [(torch.tensor([0]), torch.tensor([0]))]
    for use, want in (([1.0, 1.0], ln2 + 0.1875 * ln2), ([0.5, 0.0], 0.5 * ln2)):
        got = sets.varifocal(said, [label], pairs, torch.tensor([use]), alpha=0.75, gamma=2.0, n_objects=1.0)
        assert float(got) == pytest.approx(want, rel=1e-4)


def test_denoising_queries_count_what_their_object_does() -> None:
    """Two objects, padded group of 3: queries 0-2 positive, 3-5 negative; the third of each is padding."""
    said = LayerOutput(torch.zeros(1, 6, 2), torch.full((1, 6, 4), 0.5))
    label = {"class_labels": torch.tensor([0, 1]), "boxes": torch.full((2, 4), 0.5), "w_cls": torch.tensor([1.0, 0.3])}
    pairs = [(torch.tensor([0, 1]), torch.tensor([0, 1]))]
    use = sets.counted(said, [label], pairs, None, group=3)
    torch.testing.assert_close(use, torch.tensor([[1.0, 0.3, 1.0, 1.0, 0.3, 1.0]]))
    left = label | {"negatives": torch.tensor([[0.0, 0.0, 0.1, 1.0]])}
    use = sets.counted(said, [left], pairs, None, group=3)
    torch.testing.assert_close(use, torch.tensor([[1.0, 0.3, 0.0, 0.0, 0.0, 0.0]]))
