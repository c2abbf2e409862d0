"""Which conversions an image file needs to be 8-bit RGB as displayed, and the one of its colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, PngImagePlugin

_ORIENTATION = 0x0112
TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each EXIF orientation asks for."""


def rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB, not turned.

    Raises:
        ValueError: 32-bit integer or floating point pixels, whose range no file declares.
    """
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
            raise ValueError(f"32-bit integer pixels from {pixels.min()} to {pixels.max()}: convert the file to 8 bit")
        return Image.fromarray(((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating point pixels: convert the file to 8 bit")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1: as stored."""
    if image.format == "JPEG" and not image.info.keys() & {"exif", "xmp"}:
        return 1  # spares the tiny files of an archive a tenth of their time
    # PngImageFile.getexif would decode the whole image to look behind the pixels; the base class does not.
    exif = Image.Image.getexif(image) if isinstance(image, PngImagePlugin.PngImageFile) else image.getexif()
    turn = exif.get(_ORIENTATION, 1)
    return turn if turn in TURN else 1


def flags(image: Image.Image, turn: int) -> tuple[str, ...]:
    """What will be converted when the image is loaded; `turn` is its orientation."""
    raw = "".join(str(tile.args) for tile in getattr(image, "tile", ()))  # such as "RGB;16B"
    found = {
        "palette": image.mode in ("P", "PA"),
        "RGBA": image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info,
        "16-bit": image.mode.startswith("I") or ";16" in raw,
        "CMYK": image.mode == "CMYK",
        "EXIF-rotated": turn > 1,
        "multi-page": image.format in ("TIFF", "GIF", "WEBP", "PNG") and getattr(image, "is_animated", False),
    }
    return tuple(name for name, yes in found.items() if yes)
