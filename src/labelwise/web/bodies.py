"""What a browser sends: the bodies of its requests, checked before anything is done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labelwise import units
from labelwise.queue.lease_queue import MOST_HELD

Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Corners = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class Body(BaseModel):
    """What a browser sends; anything unknown is refused."""

    model_config = ConfigDict(extra="forbid")


def _known(verdict: str) -> str:
    if verdict not in units.verdicts():
        raise ValueError(f"expected one of {', '.join(units.verdicts())}")
    return verdict


Verdict = Annotated[str, AfterValidator(_known)]


class Window(Body):
    """A browser window, by the random name that it gave itself."""

    tab: str = Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")


class Want(Window):
    """A window that holds some queries and wants to have `most`; `alike`: of one predicted class, for a grid."""

    holding: list[Number] = Field(default=[], max_length=MOST_HELD)
    most: int = Field(3, ge=0, le=MOST_HELD)
    alike: bool = False

    def wanted(self) -> dict[str, Any]:
        """What `Leases.take` is to give."""
        return {"most": self.most, "holding": self.holding, "alike": self.alike}


class Offered(Body):
    """A box that was offered with the query; `image`: the number of the frame whose label it is; `number`: which box of
    the answer was made of it.
    """

    box: Corners
    label: Number
    origin: Literal["flow", "lent", "model"]
    image: Number
    number: Number | None = None


class Reply(Want):
    """An answer, and what the window wants next."""

    query: Number
    lease: str = Field(max_length=64)
    verdict: Verdict
    boxes: list[Corners] = Field(default=[], max_length=2000)
    labels: list[Number] = Field(default=[], max_length=2000)
    seconds: float = Field(0.0, ge=0, le=86_400, allow_inf_nan=False)
    note: str = Field("", max_length=500)
    classes: Number | None = None
    suggested: list[Offered] = Field(default=[], max_length=2000)


class Named(Body):
    """A person."""

    name: str = Field(max_length=200)


class NewClass(Named):
    """A class for the list; `none_so_far`: the owner says that what was looked over until now holds none."""

    none_so_far: bool = False
