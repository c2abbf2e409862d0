"""The COCO file of pictures that are drawn, as it grows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


class AnnotationFile:
    """Images and their boxes in the order in which they were drawn; `videos` are added by whoever draws some.

    >>> content = AnnotationFile(["zero"])
    >>> content.image("a.jpg", (64, 48))
    >>> content.box((1, 2, 4, 4), label=0, area_px=6)
    >>> [row["bbox"] for row in content.annotations]
    [[1, 2, 3, 2]]
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.images: list[dict[str, Any]] = []
        self.categories = [{"id": c + 1, "name": name} for c, name in enumerate(classes)]
        self.annotations: list[dict[str, Any]] = []

    def image(self, name: str, size_px: tuple[int, int], **fields: Any) -> None:
        """The next image: its file name, (width, height) and what else is known of it."""
        width, height = size_px
        row = {"id": len(self.images) + 1, "file_name": name, "width": width, "height": height}
        self.images.append(row | fields)

    def box(self, xyxy: Sequence[float], label: int, area_px: float, **fields: Any) -> None:
        """A box of the image that was added last."""
        x1, y1, x2, y2 = xyxy
        row: dict[str, Any] = {"id": len(self.annotations) + 1, "image_id": len(self.images), "category_id": label + 1}
        row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area_px, "iscrowd": 0, "segmentation": []}
        self.annotations.append(row | fields)

    def to_json(self, **lists: Any) -> str:
        """The text of the file; `lists`, such as the videos, come first."""
        own = {"images": self.images, "categories": self.categories, "annotations": self.annotations}
        return json.dumps(lists | own, separators=(",", ":"))
