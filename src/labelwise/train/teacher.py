"""An online teacher: the average of the weights so far labels the partly known images of every batch anew.

Before every step the teacher predicts the images of the batch that nobody wholly looked over, as they are (the weak
view); the student is trained on the changed image (the strong view) with what these detections become. The pseudo
boxes that the image came with, and its `doubt`, give way to the teacher's. What is known stays: that is for `Decide`.
After every step the teacher's weights and norms move towards the student's by 1 - decay.

Source: Mean Teacher (Tarvainen and Valpola, NeurIPS 2017); weak and strong view: Unbiased Teacher (Liu et al., ICLR
2021). The average is torch's `AveragedModel`.
Differs from the paper: images are known in part, so the teacher speaks only of what is open; it begins with the model
of the round before, so that there is no burn-in.
Fails when: the teacher confirms its own errors: the sure boxes of an image become more from step to step. Their number
is counted (`sure`), and `find_drift` tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelwise.types import Detections, offsets_of

DRIFT_FACTOR, DRIFT_LEAST = 1.5, 1.0
"""The sure boxes of an image have grown if they are so many times and so many more than at first."""
FIRST_STEP = "the first model of a run has no teacher"
AT_ONCE = 8
"""Images that the teacher looks at at once: of a batch with mosaic there are four times as many."""


@dataclass(frozen=True, slots=True)
class Plain:
    """An entry of the training set as it is: image, target in its pixels, and where it lies in the pool's image.

    `origin`, `scale`: a point of the pool's image is at (point - origin) * scale, both [4] for a box.
    """

    image: int
    pixels: UInt8[np.ndarray, "3 h w"]
    target: dict[str, Tensor]
    origin: Float32[Tensor, " 4"]
    scale: Float32[Tensor, " 4"]


Decision = tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"], Float32[np.ndarray, " k"], Bool[np.ndarray, " n"]]
"""Rows of the pseudo labels, their weights (classification, localisation), and which detections are open."""


class Decide(Protocol):
    """What a teacher's detections become; what it remembers from batch to batch is kept with the training."""

    def __call__(self, images: Int64[np.ndarray, " b"], found: Detections) -> Decision:
        """Pool numbers of b images, and the n detections on them in pixels of the pool's images."""

    def tensors(self) -> dict[str, np.ndarray]: ...

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """The opposite of `tensors`; of nothing: as before the first batch."""


@dataclass
class Teacher:
    """The teacher of one training; `begin` before its first step."""

    decide: Decide
    decay: float = 0.97
    average: AveragedModel | None = None
    sure: list[tuple[int, int]] = field(default_factory=list)
    """Per step with such images: sure pseudo boxes (they weigh on the class), and images that the teacher was shown."""

    def begin(self, model: nn.Module) -> None:
        """Takes the weights of a model that is to be trained."""
        mean = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(model, multi_avg_fn=mean, use_buffers=True)
        self.average.n_averaged.fill_(1)  # at 0 its first step takes the student's weights as they are
        self.average.eval()
        self.decide.load({})  # a second training (`train.members`) does not remember the first one's batches
        self.sure = []

    def follow(self, model: nn.Module) -> None:
        """After a step of the student."""
        assert self.average is not None, FIRST_STEP
        self.average.update_parameters(model)

    def label(self, entries: Sequence[Plain]) -> None:
        """Puts what the teacher sees in the place of the entries' pseudo boxes and doubt; counts the step if any."""
        if not entries:  # a batch, or what one of several processes has of it, may be wholly looked over
            return
        found = self._detect(entries)
        rows, w_cls, w_box, is_open = self.decide(np.array([one.image for one in entries], np.int64), found)
        order = np.argsort(rows, kind="stable")
        rows, w_cls, w_box = rows[order], w_cls[order], w_box[order]
        spans = np.searchsorted(rows, found.offsets)
        for i, one in enumerate(entries):
            mine, here = slice(spans[i], spans[i + 1]), slice(found.offsets[i], found.offsets[i + 1])
            _replace(one, found, rows[mine], w_cls[mine], w_box[mine])
            if "doubt" in one.target:
                doubt = np.arange(here.start, here.stop)[is_open[here]]
                one.target["doubt"] = _inside(one, found.boxes[doubt])
                one.target["doubt_scores"] = torch.from_numpy(found.scores[doubt])
        self.sure.append((int((w_cls > 0).sum()), len(entries)))

    def _detect(self, entries: Sequence[Plain]) -> Detections:
        """What the teacher sees in the plain images, in pixels of the pool's images."""
        assert self.average is not None, FIRST_STEP
        device = next(self.average.parameters()).device
        images = [torch.from_numpy(one.pixels.astype(np.float32)).div_(255).to(device) for one in entries]
        with torch.inference_mode():
            said = [one for k in range(0, len(images), AT_ONCE) for one in self.average(images[k : k + AT_ONCE])]
        columns = {name: torch.cat([one[name] for one in said]).float().cpu() for name in ("boxes", "scores", "probs")}
        count = [len(one["boxes"]) for one in said]
        scale = torch.stack([one.scale for one in entries]).repeat_interleave(torch.tensor(count), 0)
        origin = torch.stack([one.origin for one in entries]).repeat_interleave(torch.tensor(count), 0)
        boxes = (columns["boxes"] / scale + origin).numpy()
        image = np.repeat(np.arange(len(entries)), count)
        probs, scores = columns["probs"].numpy(), columns["scores"].numpy()
        return Detections(offsets_of(image, len(entries)), boxes, probs, scores, probs[:, :0])

    # ------------------------------------------------------------------------------------- kept with a training

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it."""
        assert self.average is not None, FIRST_STEP
        kept = {name: value.detach().cpu().numpy() for name, value in self.average.state_dict().items()}
        decided = {f"decide.{name}": value for name, value in self.decide.tensors().items()}
        return kept | decided | {"sure": np.array(self.sure, np.int64).reshape(-1, 2)}

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """The opposite of `tensors`, after `begin`."""
        assert self.average is not None, FIRST_STEP
        decided = {name.removeprefix("decide."): v for name, v in tensors.items() if name.startswith("decide.")}
        own = {name: v for name, v in tensors.items() if name != "sure" and not name.startswith("decide.")}
        self.average.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in own.items()})
        self.decide.load(decided)
        self.sure = [(int(boxes), int(images)) for boxes, images in tensors["sure"]]

    def facts(self) -> dict[str, Any]:
        """Sure boxes an image in the first and in the last tenth of the steps; nothing where it was never asked."""
        few = max(1, len(self.sure) // 10)
        first, last = (np.sum(part, axis=0) for part in (self.sure[:few], self.sure[-few:]))
        if not self.sure:
            return {}
        return {name: round(float(n[0] / max(n[1], 1)), 2) for name, n in (("sure_first", first), ("sure_last", last))}


def find_drift(facts: Mapping[str, Any]) -> str | None:
    """What shows that a teacher confirms itself; None where nothing does.

    >>> find_drift({"sure_first": 14.0, "sure_last": 25.0})
    'the sure boxes of the teacher have grown from 14.0 to 25.0 an image'
    >>> find_drift({"sure_first": 0.2, "sure_last": 0.5}) is None
    True
    """
    first, last = facts.get("sure_first", 0.0), facts.get("sure_last", 0.0)
    grown = last >= DRIFT_FACTOR * first and last - first >= DRIFT_LEAST
    return f"the sure boxes of the teacher have grown from {first:.1f} to {last:.1f} an image" if grown else None


def _replace(one: Plain, found: Detections, rows: np.ndarray, w_cls: np.ndarray, w_box: np.ndarray) -> None:
    """The pseudo boxes of an entry are these rows of the detections."""
    target, known = one.target, ~one.target["pseudo"]
    new = {
        "boxes": _inside(one, found.boxes[rows]),
        "labels": torch.from_numpy(found.probs[rows].argmax(1).astype(np.int64)),
        "w_cls": torch.from_numpy(w_cls),
        "w_box": torch.from_numpy(w_box),
        "pseudo": torch.ones(len(rows), dtype=torch.bool),
    }
    for name, value in new.items():
        target[name] = torch.cat((target[name][known], value))


def _inside(one: Plain, boxes: np.ndarray) -> Float32[Tensor, "k 4"]:
    """Boxes of the pool's image in pixels of the entry's."""
    return (torch.from_numpy(boxes) - one.origin) * one.scale
