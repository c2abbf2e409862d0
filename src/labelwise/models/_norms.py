"""Batch norms that a file has folded into its convolutions: given back statistics, so that they can train."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn


@torch.no_grad()
def unfold(part: nn.Module, run: Callable[[], object]) -> None:
    """Gives the norms of `part`, all identities, the statistics of a batch, and scale and shift that undo them.

    It computes what it did before, but its norms can train. A model that was saved after this is left alone. `run`
    sends the batch through `part`. With several processes, which saw other images, the first one's statistics count.
    """
    norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    if any(bool(cast(Tensor, m.running_mean).any()) for m in norms):
        return

    def estimate(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        weight, bias, m, v = (cast(Tensor, getattr(norm, k)) for k in ("weight", "bias", "running_mean", "running_var"))
        bias.add_(weight * mean)
        weight.mul_((variance + cast(float, norm.eps)).sqrt())
        m.copy_(mean)
        v.copy_(variance)

    hooks = [norm.register_forward_pre_hook(estimate) for norm in norms]
    run()
    for hook in hooks:
        hook.remove()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for norm in norms:
            for tensor in norm.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
