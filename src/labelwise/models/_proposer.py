"""The first stage of Faster R-CNN: objectness of every anchor, the proposals made of it, and its part of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.rpn import RPNHead

from labelwise.models import _anchors, _normalise, _weighted


class Proposer(nn.Module):
    """The region proposal network: objectness and shift of every anchor, and the proposals made of them."""

    def __init__(self, head: RPNHead, anchors: _anchors.Anchors, proposals: int, sampled: int) -> None:
        super().__init__()
        self.head, self.anchors, self.proposals = head, anchors, proposals
        self.matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.sampler = BalancedPositiveNegativeSampler(sampled, 0.5)

    def losses(
        self,
        objectness: Float[Tensor, "b a"],
        shifts: Float[Tensor, "b a 4"],
        anchors: Float[Tensor, "a 4"],
        truth: _weighted.Truth,
        division: _normalise.Division,
    ) -> tuple[dict[str, Tensor], _weighted.Sampled]:
        """Objectness weighted by `w_cls`, shifts by `w_box`, over a random sample of the anchors; and that sample."""
        rows = torch.stack([_weighted.assign(anchors, truth, i, self.matcher) for i in range(len(objectness))])
        image, anchor = sample(self.sampler, rows)
        hit = rows[image, anchor]
        positive = (hit >= 0).float()
        cost = functional.binary_cross_entropy_with_logits(objectness[image, anchor], positive, reduction="none")
        sampled = _weighted.Sampled(cost, shifts[image, anchor], anchors[anchor], hit, image)
        terms = _weighted.sampled_losses(sampled, truth, self.coder, division)
        return {"objectness": terms[0], "rpn_box": terms[1]}, sampled

    @torch.no_grad()
    def propose(
        self,
        objectness: Float[Tensor, "b a"],
        shifts: Float[Tensor, "b a 4"],
        anchors: Float[Tensor, "a 4"],
        per_level: Sequence[int],
        sizes: Float[Tensor, "b 2"],
    ) -> list[Float[Tensor, "p 4"]]:
        """The best proposals of every image after suppression within each level."""
        starts = [sum(per_level[:i]) for i in range(len(per_level))]
        tops = [
            part.topk(min(2 * self.proposals, part.shape[1]), dim=1)[1] + start
            for part, start in zip(torch.split(objectness, list(per_level), 1), starts, strict=True)
        ]
        index = torch.cat(tops, dim=1)
        level = torch.cat([torch.full((t.shape[1],), i, device=index.device) for i, t in enumerate(tops)])
        image = torch.arange(len(index), device=index.device)[:, None].expand_as(index).flatten()
        index, level = index.flatten(), level.expand(len(index), -1).flatten()
        boxes = _anchors.clip(self.coder.decode_single(shifts[image, index], anchors[index]), image, sizes)
        scores = objectness[image, index].sigmoid()
        whole = _anchors.has_area(boxes, 1e-3)
        boxes, scores, image, level = boxes[whole], scores[whole], image[whole], level[whole]
        kept = _anchors.best_of(
            boxes, scores, image, nms_iou=0.7, most=self.proposals, group=image * len(per_level) + level
        )
        return list(torch.split(boxes[kept], torch.bincount(image[kept], minlength=len(sizes)).tolist()))


def sample(sampler: BalancedPositiveNegativeSampler, rows: Int64[Tensor, "b a"]) -> tuple[Tensor, Tensor]:
    """Image and anchor number of a random sample per image: positives first, then negatives, as torchvision draws."""
    kinds = torch.where(rows >= 0, 1, rows + 1)  # 1 positive, 0 negative, -1 ignored
    positive, negative = sampler(list(kinds))
    both = torch.cat((torch.stack(positive).nonzero(), torch.stack(negative).nonzero()))
    return both[:, 0], both[:, 1]
