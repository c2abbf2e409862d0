"""Whether the two files of the frozen detector are at hand: in the cache, or in `weights` under $LABELWISE_DATA.

Nothing is fetched and no network is built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from labelwise import weights
from labelwise.config.features import Features
from labelwise.errors import LabelwiseError

OBJECTS, BODY = "yolox_nano", "mobilenet_v2"
"""Names, as `labelwise weights` lists them, of what proposes objects and of what looks at their crops."""

SIZE_PX = 128
"""Side at which whole images are looked at, where nothing says another."""

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {OBJECTS: ("yolox_nano.pth", "yolox_nano_coco.safetensors"), BODY: ("mobilenet_v2-b0353104.pth",)}
)
"""What these files are called under $LABELWISE_DATA."""


def at_hand(name: str) -> Path | None:
    """The file of that name; None: it is not here."""
    places = [Path(os.environ.get("LABELWISE_DATA", ".")) / "weights" / file for file in FILES[name]]
    found = [weights.cached(weights.find(name)), *(one for one in places if one.is_file())]
    return next((one.resolve() for one in found if one is not None), None)


def needed_body() -> Features:
    """The section `features` of frozen features of whole images.

    Raises:
        LabelwiseError: the file is missing; it says the command that fetches it.
    """
    here = at_hand(BODY)
    if here is None:
        raise LabelwiseError(
            f"frozen features need {weights.find(BODY).file}, neither in the cache ({weights.folder()}) nor in "
            f"`weights` under $LABELWISE_DATA. Fetch it with `labelwise weights {BODY}`"
        )
    return Features(body=BODY, weights=str(here), size_px=SIZE_PX)


def needed() -> Features:
    """The section `features` of a frozen detector with the files that are at hand; all columns are kept.

    Raises:
        LabelwiseError: a file is missing; it says which, and the command that fetches it.
    """
    here = {name: at_hand(name) for name in FILES}
    missing = [name for name, path in here.items() if path is None]
    if missing:
        files = " and ".join(weights.find(name).file for name in missing)
        commands = " and ".join(f"`labelwise weights {name}`" for name in missing)
        raise LabelwiseError(
            f"the frozen detector needs {files}, neither in the cache ({weights.folder()}) nor in `weights` under "
            f"$LABELWISE_DATA. Fetch with {commands} (where there is no network: --from FILE-OR-FOLDER-OR-URL)"
        )
    return Features(body=BODY, weights=str(here[BODY]), objects=str(here[OBJECTS]))
