"""Open-vocabulary detectors of Hugging Face `transformers`, which are given the names of the classes: boxes from the
first minute, of objects that nobody has labelled yet.

    model = load("IDEA-Research/grounding-dino-tiny", project.pool.classes)
    predictions = project.predict(model)

Grounding DINO reads all names as one sentence, `red cell. white cell.`: a class is as likely as the likeliest of its
words. OWL-ViT and OWLv2 compare every box with every name. Either way each class has a probability of its own; the
largest is the confidence, and all divided by their sum the distribution.

Source: Liu et al., Grounding DINO, arXiv 2303.05499; Minderer et al., OWLv2, arXiv 2306.09683; their models in
`transformers`, which the extra `transformers` installs.
Fails when: a name is no word that people write under photos ("class 3", "FOD-17"): give classes names that say what is
seen. A class name of several sentences is not told apart.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labelwise.errors import LabelwiseError
from labelwise.predict.passes import Model

SENTENCE = ("grounding-dino", "mm-grounding-dino")
"""Models that read all names as one text."""
SQUARE, PLAIN = "owlv2", "owlvit"
"""Models that compare with each name: boxes are shares of the image filled up to a square, or of the image."""
MIN_SCORE = 0.01


def load(name: str, classes: Sequence[str], *, device: str = "cpu", min_score: float = MIN_SCORE) -> Model:
    """A detector as `Project.predict` and `predict.proposals` take it.

    Args:
        name: of the model on the hub, or a folder that `save_pretrained` wrote, of model and processor.
        classes: their names.
        device: where it runs.
        min_score: boxes of lower confidence are dropped.

    Raises:
        LabelwiseError: transformers is not installed; the hub cannot be reached, or has no such detector.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise LabelwiseError(
            f"hf:{name} needs transformers, which is not installed: pip install 'labelwise[transformers]'"
        ) from None
    source = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        processor = transformers.AutoProcessor.from_pretrained(source)
        net = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(source)
    except Exception as error:  # a network fails in many ways
        raise LabelwiseError(
            f"hf:{name}: cannot be loaded ({type(error).__name__}: {error}). Expected an open-vocabulary detector such "
            "as IDEA-Research/grounding-dino-tiny or google/owlv2-base-patch16; where there is no network, a folder "
            "that `save_pretrained` wrote, of model and processor"
        ) from error
    return OpenVocabulary(net, processor, classes, device=device, min_score=min_score)


class OpenVocabulary:
    """Images float [3, h, w] in 0..1 to boxes with their distribution over the classes.

    Args:
        model: Grounding DINO, OWL-ViT or OWLv2.
        processor: its processor.
        classes: their names.
        device: where it runs.
        min_score: boxes of lower confidence are dropped.
    """

    def __init__(
        self, model: Any, processor: Any, classes: Sequence[str], *, device: str = "cpu", min_score: float = MIN_SCORE
    ) -> None:
        self.kind = str(model.config.model_type)
        if self.kind not in (*SENTENCE, SQUARE, PLAIN):
            raise LabelwiseError(
                f"{type(model).__name__}: expected {', '.join((*SENTENCE, SQUARE, PLAIN))}, not {self.kind}"
            )
        self.model, self.processor, self.device = model.eval().to(device), processor, device
        self.names, self.min_score = [name.replace("_", " ").strip() for name in classes], min_score
        self.words = self._words(int(model.config.max_text_len)) if self.kind in SENTENCE else None

    @torch.inference_mode()
    def __call__(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        text: Any = [self.names if self.words is None else sentence(self.names)[0]] * len(images)
        shown = [image.cpu() for image in images]
        given = self.processor(images=shown, text=text, return_tensors="pt", do_rescale=False).to(self.device)
        said = self.model(**given)
        logits = said.logits.float()
        if self.words is not None:
            logits = _of_words(logits, self.words)
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        return [self._found(boxes, row, *size) for boxes, row, size in zip(said.pred_boxes, logits, sizes, strict=True)]

    def _found(
        self, shares: Float[Tensor, "q 4"], logits: Float[Tensor, "q c"], high: int, wide: int
    ) -> dict[str, Tensor]:
        centre, half = shares[:, :2].float(), shares[:, 2:].float() / 2
        scale = (max(high, wide), max(high, wide)) if self.kind == SQUARE else (wide, high)
        boxes = torch.cat((centre - half, centre + half), 1) * shares.new_tensor(scale * 2)
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor((wide, high) * 2))
        every = logits.sigmoid()
        scores = every.amax(1)
        kept = (scores >= self.min_score) & (boxes[:, 2:] - boxes[:, :2] > 0.01).all(1)
        probs = every / every.sum(1, keepdim=True).clamp(min=1e-12)
        found = {"boxes": boxes, "scores": scores, "probs": probs, "features": boxes[:, :0]}
        return {key: column[kept] for key, column in found.items()}

    def _words(self, length: int) -> Bool[Tensor, "c t"]:
        """Which tokens of the sentence are of which class."""
        text, spans = sentence(self.names)
        offsets = self.processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"][:length]
        words = torch.zeros(len(spans), length, dtype=torch.bool, device=self.device)
        for row, (first, last) in enumerate(spans):
            for token, (begin, end) in enumerate(offsets):
                words[row, token] = begin < last and end > first
        if not words.any(1).all():
            cut = self.names[int((~words.any(1)).nonzero()[0])]
            raise LabelwiseError(
                f"the names of the classes are too long for this model: {cut!r} lies beyond its {length} words. Take "
                "shorter names, or OWLv2, which reads one name at a time"
            )
        return words


def sentence(names: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The names as one text, and where each stands in it.

    >>> sentence(["Red cell", "WBC"])
    ('red cell. wbc.', [(0, 8), (10, 13)])
    """
    text, spans = "", list[tuple[int, int]]()
    for name in names:
        text += " " if text else ""
        spans.append((len(text), len(text) + len(name)))
        text += name.lower() + "."
    return text, spans


def _of_words(logits: Float[Tensor, "b q t"], words: Bool[Tensor, "c t"]) -> Float[Tensor, "b q c"]:
    """Of every class the largest logit of its words.

    >>> words = torch.tensor([[True, True, False], [False, False, True]])
    >>> _of_words(torch.tensor([[[1.0, 3.0, 2.0]]]), words).tolist()
    [[[3.0, 2.0]]]
    """
    return torch.stack([logits[..., own].amax(2) for own in words], 2)
