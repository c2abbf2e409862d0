"""How models look at the pool, and who proposes boxes before there is one: the section `predict` of run.toml."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from labelwise.config.choice import Choice, MethodOf
from labelwise.config.section import Section

SUFFIXES = (".pth", ".pt", ".safetensors")
"""How names of files of weights end."""


class Predict(Section):
    """The one pass over the pool per view."""

    views: tuple[Annotated[Choice, MethodOf("predict/views")], ...] = ()
    """Augmentations under which the pool is predicted again, of predict/views (`labelwise list predict/views`)."""
    batch_size: int = Field(16, ge=1)
    """Images per step."""
    min_score: float = Field(0.05, ge=0, lt=1)
    """Least confidence of a predicted box that is kept."""
    precision: Literal["fp32", "bf16"] | None = None
    """Of numbers within a detector that is trained, in the pool and in the test: bf16 is faster on a GPU; none: fp32.
    Last layers compute in fp32 in either case (of RT-DETR and D-FINE those of the classes); features are what the layer
    before says, with the 8 bits of bf16."""
    shard_images: int = Field(512, ge=1)
    """Images per file of predictions."""
    engine: Literal["here", "ray"] = "here"
    """Where models look at the images of the pool: "here" in this process; "ray": by actors of Ray, on all cores and
    GPUs of this machine or of the cluster at RAY_ADDRESS (extra `ray`). What they say is the same."""
    proposals: str | None = None
    """Who finds boxes before there is a model: `yolox_nano` (`labelwise weights yolox_nano` fetches it) or a file of
    its weights; hf:NAME or hf:FOLDER, an open-vocabulary detector that is given the names of the classes (Grounding
    DINO, OWLv2; extra `transformers`); project:FOLDER, the detector that another project trained last;
    MODULE.FUNCTION, a function of yours (`adapters.callable`); none: nobody. Images of the first round then come with
    boxes, and the rounds after it ask about the surest of them."""
    proposal_rounds: int = Field(1, ge=1)
    """In so many rounds after the first, and until a model is trained, boxes are those of `proposals`; then the
    model's."""
    proposals_px: int = Field(416, ge=32, le=4096)
    """The longest side at which YOLOX-nano looks for them; larger finds smaller objects and takes longer."""
    proposals_most: int = Field(30, ge=1, le=300)
    """So many proposed boxes of an image are kept, the surest first."""

    @property
    def proposes_classes(self) -> bool:
        """Whether `proposals` tells classes apart; YOLOX-nano tells objects from background alone."""
        name = self.proposals or ""
        if name.startswith(("hf:", "project:")):
            return True
        return "." in name and all(map(str.isidentifier, name.split("."))) and Path(name).suffix not in SUFFIXES

    def unfit(self, wanted: Collection[str], *, classifies: bool, tracks: bool) -> list[str]:
        """What does not go with `proposals`, whose boxes are not the model's. `wanted`: outputs of the model."""
        if self.proposals is None or not (wanted or classifies or tracks):
            return []
        if classifies:
            return ["predict.proposals are boxes; a classifier has none: remove it"]
        return [
            f"predict.proposals gives boxes and how sure they are, not {', '.join(sorted(wanted)) or 'tracks'}, which "
            'a score, selector or label policy looks at; take others, such as query.select = ["top"], or remove it'
        ]
