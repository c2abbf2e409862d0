"""Image files as displayed: every mode and orientation, headers, broken files, and the store of resized copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.data.image_reader import Images, load, probe
from labelwise.types import LabelwiseError, Pool

WIDE = np.zeros((4, 6, 3), np.uint8)
WIDE[:2, :3] = [200, 0, 0]
WIDE[:2, 3:] = [0, 200, 0]
WIDE[2:, :3] = [0, 0, 200]


def pool_of(root: Path, *names: str) -> Pool:
    sizes = [probe(root / name)[:2] for name in names]
    width, height = np.array(sizes, np.int64).reshape(-1, 2).T.copy()
    return Pool(root, (), names, width, height)


@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_orientation_is_shown_as_a_viewer_shows_it(tmp_path: Path, suffix: str, turn: int) -> None:
    big = WIDE.repeat(16, axis=0).repeat(16, axis=1)
    # EXIF 2.32, tag 0x0112: where the 0th row and the 0th column of the stored image are on the display
    stored = {1: big, 2: big[:, ::-1], 3: big[::-1, ::-1], 4: big[::-1]}
    stored |= {5: big.transpose(1, 0, 2), 6: np.rot90(big), 7: big[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(big, -1)}
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored[turn])).save(path, exif=exif, quality=100)
    header = probe(path)
    assert header[:2] == (96, 64)
    assert ("EXIF-rotated" in header.flags) == (turn > 1)
    shown = load(path)
    assert shown.shape == (64, 96, 3)
    assert np.abs(shown.astype(int) - big).mean() < 4
    small, _ = Images(pool_of(tmp_path, path.name), 24)[0]  # the JPEG is decoded at half size here
    assert np.abs(small.transpose(1, 2, 0)[2:6, 2:10].astype(int) - [200, 0, 0]).max() < 12


def test_modes_become_8_bit_rgb(tmp_path: Path) -> None:
    def seen(image: Image.Image, **options: object) -> tuple[np.ndarray, tuple[str, ...]]:
        image.save(tmp_path / "a.png", **options)
        return load(tmp_path / "a.png")[0, 0], probe(tmp_path / "a.png").flags

    grey16 = Image.fromarray(np.full((2, 2), 40000, np.uint16))
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    pixel, flags = seen(grey16)
    assert pixel.tolist() == [156, 156, 156] and flags == ("16-bit",)  # 40000 / 257 = 155.6, not 255
    pixel, flags = seen(palette)
    assert pixel.tolist() == [10, 20, 30] and flags == ("palette",)
    pixel, flags = seen(palette, transparency=1)
    assert pixel.tolist() == [255, 255, 255] and flags == ("palette", "RGBA")
    pixel, flags = seen(Image.new("RGBA", (2, 2), (200, 100, 0, 51)))
    assert pixel.tolist() == [244, 224, 204] and flags == ("RGBA",)  # one fifth over white
    pixel, flags = seen(Image.new("LA", (2, 2), (0, 0)))
    assert pixel.tolist() == [255, 255, 255] and flags == ("RGBA",)
    pixel, flags = seen(Image.new("L", (2, 2), 77))
    assert pixel.tolist() == [77, 77, 77] and flags == ()
    pixel, flags = seen(Image.new("1", (2, 2), 1))
    assert pixel.tolist() == [255, 255, 255] and flags == ()


def test_16_bit_colour_and_cmyk_are_told(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    row = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HHH", 65535, 32768, 0)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + row + chunk(b"IEND", b""))
    assert probe(tmp_path / "a.png").flags == ("16-bit",)
    assert load(tmp_path / "a.png")[0, 0].tolist() == [255, 128, 0]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "b.jpg", quality=100)
    assert probe(tmp_path / "b.jpg").flags == ("CMYK",)
    assert np.abs(load(tmp_path / "b.jpg")[0, 0].astype(int) - [255, 0, 0]).max() < 8


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(LabelwiseError, match=r"a\.tiff.*convert the file to 8 bit"):
        load(tmp_path / "a.tiff")


def test_broken_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "good.jpg")
    content = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    assert probe(tmp_path / "cut.jpg")[:2] == (64, 64), "the header of a truncated file is good"
    for name in ("cut.jpg", "text.jpg", "empty.png"):
        with pytest.raises(LabelwiseError, match=name):
            load(tmp_path / name)
    with pytest.raises(LabelwiseError, match="no such image file"):
        probe(tmp_path / "absent.jpg")


def test_store_resizes_keeps_and_reports(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, (width, height) in {"a.png": (100, 37), "b.png": (20, 50), "c.jpg": (64, 64)}.items():
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(tmp_path / name)
    pool = pool_of(tmp_path, "a.png", "b.png", "c.jpg")
    (tmp_path / "c.jpg").write_bytes((tmp_path / "c.jpg").read_bytes()[:700])
    store = Images(pool, 50)
    steps: list[int] = []
    failures = store.warm(range(3), steps.append)
    assert [image for image, _ in failures] == [2] and "c.jpg" in failures[0][1] and steps == [1, 1, 1]
    pixels, scale = store[0]
    assert pixels.shape == (3, 18, 50) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert scale.dtype == np.float32 and scale == pytest.approx([0.5, 18 / 37])
    assert store[0][0] is pixels, "decoded once"
    assert store[1][0].shape == (3, 50, 20)
    with pytest.raises(LabelwiseError, match=r"c\.jpg"):
        store[2]
    tight = Images(pool, 50, cache_bytes=3 * 18 * 50)
    assert tight[0][0] is tight[0][0] and tight[1][0] is not tight[1][0], "the second does not fit any more"
    assert np.array_equal(tight[1][0], store[1][0])


def test_reduced_decoding_is_as_good_as_full(tmp_path: Path) -> None:
    y, x = np.mgrid[:768, :1024]
    smooth = np.stack([127 + 120 * np.sin(x / 40), 127 + 120 * np.cos(y / 30), (x + y) / 8], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    fast, _ = Images(pool_of(tmp_path, "a.jpg"), 128)[0]
    full = Image.fromarray(load(tmp_path / "a.jpg")).resize((128, 96), Image.Resampling.BILINEAR)
    assert load(tmp_path / "a.jpg", at_least_px=256).shape == (192, 256, 3)
    assert np.abs(fast.transpose(1, 2, 0).astype(int) - np.asarray(full)).mean() < 2


def test_a_file_that_changed_under_the_pool_is_an_error(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    pool = pool_of(tmp_path, "a.png")
    Image.new("RGB", (50, 30)).save(tmp_path / "a.png")
    with pytest.raises(LabelwiseError, match=r"a\.png.*50x30.*40x30"):
        Images(pool, 20)[0]
