"""The section `query`: which questions are asked."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from labelwise import units
from labelwise.config.choice import Choice, MethodOf, NameOf, Step, as_list
from labelwise.config.inputs import of_images, rows_of
from labelwise.config.section import Section
from labelwise.errors import LabelwiseError


def of_frames(value: Any) -> Any:
    """A frame is an image of a video: "frame" and "frames" are other words for "image" and "images"."""
    return {"frame": "image", "frames": "images"}.get(value, value) if isinstance(value, str) else value


def _unit(name: str) -> str:
    try:
        units.find(name)
    except LabelwiseError as error:
        raise ValueError(str(error)) from None
    return name


class QueryRule(Section):
    """Which questions are asked: unit x score x selectors."""

    unit: Annotated[str, BeforeValidator(of_frames), AfterValidator(_unit), NameOf("units")] = "box"
    """What one question is about (`labelwise list units`): box, image, region (frame: an image of a video)."""
    units: tuple[Annotated[str, BeforeValidator(of_frames), AfterValidator(_unit)], ...] | None = Field(
        None, min_length=1
    )
    """Several units in one round: ["box", "image", "region"]. All their candidates are ranked together by what a second
    brings (`select = "gain_per_second"`), and the budget counts seconds; in place of `unit`; none: `unit` alone."""
    score: Annotated[Choice, MethodOf("score", "consistency")] = Choice(name="consistency")
    """How much a candidate is worth labelling (`labelwise list score`)."""
    select: Annotated[
        tuple[Annotated[Step, MethodOf("select", "balance_frequency")], ...], BeforeValidator(as_list)
    ] = (Step(name="balance_frequency"),)
    """One selector or a chain of them: each ranks what the one before it left (`labelwise list select`)."""
    threshold: float = Field(0.1, ge=0, lt=1)
    """Least confidence of a candidate box."""
    miss_rate: float | None = Field(None, gt=0, lt=1)
    """In place of `threshold`: so large a share of the proposed objects may be left out, the least sure ones. Answers,
    which tell how often a confidence is right, tell where that threshold lies."""
    aggregate: Literal["mean", "max", "sum", "random"] = "mean"
    """Lifts box scores to images and regions."""
    scales: tuple[Annotated[float, Field(gt=0, le=8)], ...] = Field((1.0, 1.5, 2.0), min_length=1)
    """Magnifications at which region candidates are looked for; the region is as large as the image at 1."""
    features: Literal["model", "frozen"] | None = None
    """What selectors that look at features see of whole images: "model": the features of the trained model; "frozen":
    those of the section `features`, centred and of unit length; none: "model"."""
    every_frames: int | None = Field(None, ge=1)
    """Of videos every so many frames one may be asked, and drawn in the first round; none: each. Tracks go on over all
    frames of the film, which are predicted only where a track needs them."""
    tau_frequency: tuple[float, float] = (0.8, 0.1)
    """Thresholds of the boxes that the frequency of classes is estimated from (000)."""

    @property
    def two_words(self) -> str | None:
        """What is wrong where one file says both `unit` and `units`, which counts; None: it says one of the two."""
        if self.units is None or not {"unit", "units"} <= self.model_fields_set:
            return None
        return (
            f"query.unit and query.units are both set, and query.units = {json.dumps(self.units)} counts: remove "
            "query.units to ask about one unit, query.unit to ask about several"
        )

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of the units that are asked about: `units`, or `unit` alone."""
        return self.units or (self.unit,)

    @property
    def one_per_image(self) -> bool:
        """Whether all questions are about whole images."""
        return self.every("ONE_PER_IMAGE")

    def every(self, constant: str) -> bool:
        """Whether a constant is true of all units (`units._contract.Unit`)."""
        return all(getattr(units.find(name), constant) for name in self.asked)

    def any(self, constant: str) -> bool:
        """Whether a constant is true of any of the units."""
        return any(getattr(units.find(name), constant) for name in self.asked)

    @property
    def calibrates(self) -> bool:
        """Whether confidences are held against answers."""
        rows = [one for step in self.select for one in rows_of("select", step.name)]
        return self.miss_rate is not None or any("answers" in one.needs for one in rows)

    @model_serializer(mode="wrap")
    def _one_word(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `unit` where `units` counts: what is written says one of the two."""
        said: dict[str, Any] = write(self)
        if self.units is not None:
            said.pop("unit", None)
        return said

    @model_validator(mode="after")
    def _units_alone_count(self) -> QueryRule:
        if self.units is not None:
            self.__dict__["unit"] = self.units[0]  # runs that ask the same are equal
        return self

    @model_validator(mode="after")
    def _fits_the_unit(self) -> QueryRule:
        said = ", ".join(map(repr, self.asked))
        if not self.one_per_image and of_images("score", self.score.name):
            raise ValueError(f'score {self.score.name!r} scores whole images; set unit = "image", not {said}')
        for step in self.select:
            if not self.one_per_image and of_images("select", step.name):
                raise ValueError(f'selector {step.name!r} picks frames; set unit = "frame", not {said}')
        if len(set(self.asked)) < len(self.asked):
            raise ValueError(f"units = {list(self.asked)}: every unit may be listed once")
        if len(self.asked) > 1:
            others = [step.name for step in self.select if not _weighs(step.name)]
            if others:
                raise ValueError(
                    f"units = {list(self.asked)} are ranked together, by what a second of each brings, of which "
                    f'selector {others[0]!r} knows nothing; set select = "gain_per_second"'
                )
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"scales = {list(self.scales)}: every scale may be listed once")
        if not self.select:
            raise ValueError("select is empty; name at least one selector")
        if self.select[-1].keep is not None:
            raise ValueError("the last selector keeps for nobody; remove keep, or name a selector after it")
        return self


def _weighs(selector: str) -> bool:
    """Whether a selector weighs what a candidate brings against the seconds that it takes."""
    return any(one.name == "look_seconds" for one in rows_of("select", selector))
