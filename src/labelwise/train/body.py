"""The convolutional body of a model: what learns at a rate of its own, and goes through torch.compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

BODIES = ("backbone.body.", "network.backbone.backbone.", "network.model.backbone.")
"""How the names of a body's parameters begin."""


@contextmanager
def compiled_body(model: nn.Module, wanted: bool, backend: str = "inductor") -> Iterator[None]:
    """As long as it is open, the body goes through torch.compile, in place: the names of its weights stay. The heads,
    which work on lists of images and boxes, stay as they are.
    """
    found = [module for name, module in model.named_modules() if wanted and f"{name}." in BODIES]
    for module in found:
        module.compile(backend=backend)
    try:
        yield
    finally:
        for module in found:
            vars(module).pop("_compiled_call_impl", None)
