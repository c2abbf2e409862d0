"""What `check` tells of redundancy: images that look the same, and of videos with what stride tracks hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING

from rich.table import Table

from labelwise.cli.console import bar, out, plain, tell

if TYPE_CHECKING:
    from labelwise.data.recognise import Found
    from labelwise.data.redundancy import Alike
    from labelwise.tracks.stride import Support


@dataclass(frozen=True)
class Tracks:
    """With what stride tracks hold, over all splits that are videos; `support` is None where there are none, or where
    OpenCV is not installed (`lacking`).
    """

    support: Support | None = None
    seconds: float = 0.0
    lacking: bool = False

    def as_json(self) -> dict[str, object] | None:
        """For other programs; null where nothing was looked at."""
        found = self.support
        if found is None or not found.shares:
            return None
        return {
            "by": found.by,
            "largest_stride": found.largest,
            "stretches": found.stretches,
            "seconds": round(self.seconds, 1),
            "strides": [
                {"frames": one.stride, "held": held if (held := found.held(one)) is None else round(held, 3)}
                | {"boxes": one.boxes, "linked": one.linked, "spots": one.spots, "returned": one.returned}
                for one in found.shares
            ],
        }


def tracks(found: Found) -> Tracks:
    """Follows boxes and spots over stretches of every split that is of videos, by the length of the splits."""
    pools = [pool for pool in found.pools.values() if pool.clips is not None]
    if not pools:
        return Tracks()
    if find_spec("cv2") is None:
        return Tracks(lacking=True)
    from labelwise.data.image_reader import pixels_of
    from labelwise.tracks import stride

    began = perf_counter()
    parts = [max(1, round(stride.STRETCHES * len(pool) / sum(map(len, pools)))) for pool in pools]
    total = stride.Support((), 0)
    with bar("follow", sum(parts)) as advance:
        for pool, part in zip(pools, parts, strict=True):
            if pool.clips is not None:
                size, read = (pool.width_px, pool.height_px), lambda image, pool=pool: pixels_of(pool, image)
                total += stride.support(pool.clips, *size, read, pool.truth, stretches=part, progress=advance)
    return Tracks(total, perf_counter() - began)


def show(alike: Sequence[Alike], found: Tracks) -> None:
    """Both in words."""
    if any(one.looked_at > one.different or one.elsewhere for one in alike):
        table = Table(title="Images that look the same (small objects are not seen)")
        for column in ("split", "images", "looked at", "different", "like another split", "most alike"):
            table.add_column(column, overflow="fold")
        for one in alike:
            most = f"{len(one.groups[0])} like {one.groups[0][0]}" if one.groups else ""
            counts = (one.images, one.looked_at, one.different, one.elsewhere)
            table.add_row(plain(one.split), *map(str, counts), plain(most))
        out.print(table)
    elif any(one.looked_at for one in alike):
        part = any(one.looked_at < one.images for one in alike)
        tell(f"No two images look the same{', of the sample that was looked at' if part else ''}")
    if found.lacking:
        tell('With what stride tracks hold is told where OpenCV is installed: pip install "labelwise[video]"')
    if found.support is not None and found.support.shares:
        tell(in_words(found.support, found.seconds))


def in_words(found: Support, seconds: float) -> str:
    """With what stride tracks hold, in one line."""
    took = f"{found.stretches} stretches of frames, {seconds:.0f} s"
    if not found.by:
        return f"Tracks: nothing moves from frame to frame ({took})"
    held = [(one.stride, found.held(one)) for one in found.shares]
    shares = ", ".join(f"{share:.0%}" for _, share in held if share is not None)
    strides = ", ".join(str(stride) for stride, share in held if share is not None)
    what = f"{found.shares[0].boxes} boxes meet theirs" if found.by == "boxes" else "what moves is found again"
    verdict = (
        f"hold with a stride of up to {found.largest} frame{'s' if found.largest > 1 else ''}"
        if found.largest
        else "do not hold from one frame to the next, so that temporal coherence and lent boxes are of no use"
    )
    small = "" if found.by == "boxes" else "; small objects are lost earlier than the ground behind them"
    return f"Tracks {verdict}: {shares} of {what} {strides} frames later ({took}){small}"
