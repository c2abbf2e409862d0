"""The losses of RT-DETR, RT-DETRv2 and D-FINE, weighted; `transformers` calls them in place of its own.

With all weights 1 and full coverage they are the library's own: varifocal loss of the classes, L1 and generalised IoU
of the boxes, of D-FINE also the fine-grained localisation loss (FGL) of the edges and the decoupled distillation focal
loss (DDF), of every decoder layer, of the encoder's proposals and of the denoising queries, which are made of the
objects with a weight. FGL weighs what `w_box` of the object says. DDF, in which the last layer teaches the ones before
and no label has a part, counts a matched query where `w_box` is above 0 and another as its classification does.

Source: Lv et al., RT-DETRv2, arXiv 2407.17140; Peng et al., D-FINE, arXiv 2410.13842, section 4; 000, Eq. 7, for the
weights; `transformers`, `RTDetrLoss` and `DFineLoss`.
Differs from the paper: of D-FINE as `transformers` has it: a layer's edges stand beside classes and boxes of the layer
before, the last layer's have no FGL, and boxes are matched layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from labelwise.models import _set_loss as sets
from labelwise.models._anchors import full
from labelwise.models._set_loss import FineOutput, Labels, LayerOutput, Matcher, Pairs
from labelwise.models._simota import iou_of_pairs

TEMPERATURE = 5.0
"""Of the distillation."""
Found = tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]] | None]
"""The loss, its terms by name, and what the auxiliary layers say."""


@dataclass(frozen=True, slots=True)
class _Layers:
    """What is said: by the last layer, by the others and the encoder, by every layer of the denoising queries."""

    last: LayerOutput
    others: list[LayerOutput]
    noisy: list[LayerOutput]


def rt_detr_loss(
    logits: Float[Tensor, "b q c"],
    labels: Sequence[Labels],
    device: torch.device,
    pred_boxes: Float[Tensor, "b q 4"],
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    enc_topk_logits: Any = None,
    enc_topk_bboxes: Any = None,
    denoising_meta_values: Any = None,
    **_: Any,
) -> Found:
    """The loss of RT-DETR and RT-DETRv2, weighted; called by the model."""
    meta = denoising_meta_values
    last, encoder = LayerOutput(logits, pred_boxes), LayerOutput(enc_topk_logits, enc_topk_bboxes)
    return _total(_layers(last, outputs_class, outputs_coord, encoder, meta), labels, config, meta)


def d_fine_loss(
    logits: Float[Tensor, "b q c"],
    labels: Sequence[Labels],
    device: torch.device,
    pred_boxes: Float[Tensor, "b q 4"],
    config: Any,
    outputs_class: Any = None,
    outputs_coord: Any = None,
    enc_topk_logits: Any = None,
    enc_topk_bboxes: Any = None,
    denoising_meta_values: Any = None,
    predicted_corners: Any = None,
    initial_reference_points: Any = None,
    **_: Any,
) -> Found:
    """The loss of D-FINE, weighted; called by the model."""
    meta = denoising_meta_values
    last = LayerOutput(logits, pred_boxes.clamp(0, 1))
    encoder = LayerOutput(enc_topk_logits, enc_topk_bboxes.clamp(0, 1))
    layers = _layers(last, outputs_class, outputs_coord.clamp(0, 1), encoder, meta)
    (noisy_edges, edges), (noisy_places, places) = (
        _split(x, meta) for x in (predicted_corners, initial_reference_points)
    )
    *decoder, proposals = layers.others
    others = _fine(decoder, edges[:, :-1], places, edges[:, -1], layers.last.logits)
    noisy = layers.noisy
    if noisy:
        noisy = _fine(noisy, noisy_edges, noisy_places, noisy_edges[:, -1], noisy[-1].logits)
    return _total(replace(layers, others=[*others, proposals], noisy=noisy), labels, config, meta)


def _split(x: Float[Tensor, "b l q _"], meta: Any) -> tuple[Tensor, Tensor]:
    """Of every layer the denoising queries, which come first, and the others."""
    first = 0 if meta is None else meta["dn_num_split"][0]
    return x[:, :, :first], x[:, :, first:]


def _layers(
    last: LayerOutput,
    classes: Float[Tensor, "b l q c"],
    boxes: Float[Tensor, "b l q 4"],
    encoder: LayerOutput,
    meta: Any,
) -> _Layers:
    first = 0 if meta is None else meta["dn_num_split"][0]
    last = LayerOutput(full(last.logits)[:, first:], full(last.boxes)[:, first:])
    (noisy_classes, classes), (noisy_boxes, boxes) = (_split(full(x), meta) for x in (classes, boxes))
    others = [LayerOutput(classes[:, k], boxes[:, k]) for k in range(classes.shape[1] - 1)]
    noisy = [LayerOutput(noisy_classes[:, k], noisy_boxes[:, k]) for k in range(classes.shape[1] if first else 0)]
    return _Layers(last, [*others, LayerOutput(full(encoder.logits), full(encoder.boxes))], noisy)


def _fine(
    said: Sequence[LayerOutput],
    edges: Float[Tensor, "b l q e"],
    places: Float[Tensor, "b _ q 4"],
    teacher_edges: Float[Tensor, "b q e"],
    teacher_logits: Float[Tensor, "b q c"],
) -> list[LayerOutput]:
    """The layers with what they say of the edges; as many as both have, as `transformers` pairs them."""
    edges, places, teacher_edges = full(edges), full(places), full(teacher_edges).detach()
    fine = [
        FineOutput(edges[:, k], places[:, k].detach(), teacher_edges, teacher_logits.detach())
        for k in range(min(edges.shape[1], len(said)))
    ]
    return [replace(one, fine=two) for one, two in zip(said, fine, strict=False)]


def _total(layers: _Layers, labels: Sequence[Labels], config: Any, meta: Any) -> Found:
    from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher

    sets.check(labels)
    match: Matcher = RTDetrHungarianMatcher(config)
    auxiliary = None
    with torch.autocast(layers.last.logits.device.type, enabled=False):
        found = _terms("", layers.last, labels, match, config)
        if config.auxiliary_loss:
            auxiliary = [{"logits": said.logits, "pred_boxes": said.boxes} for said in layers.others]
            for k, said in enumerate(layers.others):
                found |= _terms(f"_aux_{k}", said, labels, match, config)
            for k, said in enumerate(layers.noisy):
                found |= _terms(f"_dn_{k}", said, labels, None, config, meta)
        return torch.stack(list(found.values())).sum(), found, auxiliary


def _terms(
    suffix: str, said: LayerOutput, labels: Sequence[Labels], match: Matcher | None, config: Any, meta: Any = None
) -> dict[str, Tensor]:
    """The losses of one layer; `meta` where its queries are denoising ones."""
    groups, group = 1, None
    if match is not None:
        pairs = said.match(labels, match)
    else:
        groups = int(meta["dn_num_group"])
        group = max(len(t["class_labels"]) for t in labels)
        positive = [queries.to(said.logits.device) for queries in meta["dn_positive_idx"]]
        numbers = [torch.arange(len(t["class_labels"]), device=said.logits.device).tile(groups) for t in labels]
        pairs = list(zip(positive, numbers, strict=True))
    use = sets.counted(said, labels, pairs, match, group)
    n_cls, n_box = (groups * sets.number_of(labels, name) for name in ("w_cls", "w_box"))
    focal = {"alpha": config.focal_loss_alpha, "gamma": config.focal_loss_gamma}
    vfl = sets.varifocal(said, labels, pairs, use, n_objects=n_cls, **focal)
    l1, giou = sets.box_losses(said, labels, pairs, n_box)
    found = {
        f"loss_vfl{suffix}": config.weight_loss_vfl * vfl,
        f"loss_bbox{suffix}": config.weight_loss_bbox * l1,
        f"loss_giou{suffix}": config.weight_loss_giou * giou,
    }
    if said.fine is not None:
        fgl, ddf = edge_losses(said, said.fine, labels, pairs, use, n_box, config)
        found |= {f"loss_fgl{suffix}": config.weight_loss_fgl * fgl, f"loss_ddf{suffix}": config.weight_loss_ddf * ddf}
    return found


def edge_losses(
    said: LayerOutput,
    fine: FineOutput,
    labels: Sequence[Labels],
    pairs: Pairs,
    use: Float[Tensor, "b q"],
    n_objects: float,
    config: Any,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """FGL and DDF of one layer: every edge of a box is a distribution over `max_num_bins` + 1 bins."""
    from transformers.loss.loss_d_fine import bbox2distance

    bins = int(config.max_num_bins) + 1
    image = torch.cat([torch.full_like(query, i) for i, (query, _) in enumerate(pairs)])
    query = torch.cat([query for query, _ in pairs])
    wanted = torch.cat([t["boxes"][thing] for t, (_, thing) in zip(labels, pairs, strict=True)]).to(said.boxes.dtype)
    w_box = torch.cat([w[thing] for w, (_, thing) in zip(sets.weights(labels, "w_box"), pairs, strict=True)])
    overlap = iou_of_pairs(sets.corners(said.boxes[image, query].detach()), sets.corners(wanted))
    up = torch.tensor([config.up], device=wanted.device)
    at, right, left = bbox2distance(fine.reference[image, query], sets.corners(wanted), bins - 1, config.reg_scale, up)
    edges, low = fine.edges[image, query].reshape(-1, bins), at.long()
    cost = functional.cross_entropy(edges, low, reduction="none") * left
    cost = cost + functional.cross_entropy(edges, low + 1, reduction="none") * right
    fgl = (cost * (overlap * w_box).repeat_interleave(4)).sum() / n_objects

    student, teacher = (x.reshape(*use.shape, 4, bins) / TEMPERATURE for x in (fine.edges, fine.teacher_edges))
    apart = functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="none").sum(-1)
    matched = torch.zeros_like(use, dtype=torch.bool)
    matched[image, query] = True
    weight = fine.teacher_logits.sigmoid().amax(-1) * use
    weight[image, query] = overlap * (w_box > 0)
    counts = use > 0
    counts[image, query] = w_box > 0
    cost = TEMPERATURE**2 * (weight[..., None] * apart).sum(-1)
    means, shares = [], []
    for part in (matched & counts, ~matched & counts):
        n_edges = 4 * part.sum()
        means.append((cost * part).sum() / n_edges.clamp(min=1))
        shares.append((n_edges / len(use)).sqrt())
    return fgl, (means[0] * shares[0] + means[1] * shares[1]) / (shares[0] + shares[1]).clamp(min=1e-6)
