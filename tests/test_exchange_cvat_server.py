"""A CVAT task of the open questions, against a stand-in of CVAT's client."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from test_web import about, ask, project
from typer.testing import CliRunner

from labelwise import cli
from labelwise.data import mirror
from labelwise.exchange import cvat_server
from labelwise.project.context import silent
from labelwise.types import LabelwiseError


class Client:
    """Keeps what a task is made of, whose files are gone afterwards."""

    def __init__(self, sent: dict[str, Any], fails: bool = False) -> None:
        self.tasks, self.sent, self.fails = self, sent, fails

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_from_data(self, *, resources: list[str], annotation_path: str, **how: Any) -> Any:
        if self.fails:
            raise ConnectionError("no such server")
        with zipfile.ZipFile(resources[0]) as archive:
            self.sent["images"] = {name: archive.read(name) for name in archive.namelist()}
        self.sent |= how | {"boxes": Path(annotation_path).read_text(encoding="utf-8")}
        return SimpleNamespace(id=31)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What came to the stand-in of `cvat_sdk`, which has the parts of it that are used."""
    kept: dict[str, Any] = {}
    sdk, tasks = ModuleType("cvat_sdk"), ModuleType("cvat_sdk.core.proxies.tasks")

    def make_client(url: str, *, credentials: tuple[str, str]) -> Client:
        kept["login"] = (url, *credentials)
        return Client(kept, fails="gone" in url)

    sdk.make_client = make_client  # type: ignore[attr-defined]
    tasks.ResourceType = SimpleNamespace(LOCAL="local")  # type: ignore[attr-defined]
    for name, module in (("cvat_sdk", sdk), ("cvat_sdk.core.proxies.tasks", tasks)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv(cvat_server.AUTH, "ann:a:b")
    return kept


def export(folder: Path, url: str = "https://cvat.example.org") -> Any:
    where = ["--to", "cvat", "--server", url, "--project", str(folder)]
    return CliRunner().invoke(cli.app, ["export", "queries", *where], env={"COLUMNS": "300"})


def test_a_task_is_made_of_the_open_questions(tmp_path: Path, sent: dict[str, Any]) -> None:
    opened = project(tmp_path)
    ask(opened, about(0, opened), about(2, opened))
    result = export(opened.project.folder)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "https://cvat.example.org/tasks/31: answer there" in result.output
    assert sent["login"] == ("https://cvat.example.org", "ann", "a:b")
    assert sent["spec"]["name"] == "small, round 1" and sent["annotation_format"] == "CVAT 1.1"
    assert [one["name"] for one in sent["spec"]["labels"]] == [*opened.pool.classes, "labelwise_region"]
    names = [opened.pool.names[0], opened.pool.names[2]]
    assert sent["images"] == {name: opened.pool.path(k).read_bytes() for k, name in zip((0, 2), names, strict=True)}
    assert all(f'name="{name}"' in sent["boxes"] for name in names) and sent["resource_type"] == "local"
    opened.project.close()


def test_what_a_model_suggests_goes_with_it(tmp_path: Path, sent: dict[str, Any]) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"pixels")
    files = {
        "labels.json": json.dumps([{"name": "cat"}]).encode(),
        "annotations.xml": b"<a/>",
        "suggested.xml": b"<s/>",
    }
    assert cvat_server.send("http://x", "a:b", "t", files, {"sub/a.png": image}) == 31
    assert sent["boxes"] == "<s/>" and sent["images"] == {"sub/a.png": b"pixels"}


FILES = {"labels.json": b"[]", "annotations.xml": b"<a/>"}


def test_images_of_an_object_store_are_sent(tmp_path: Path, sent: dict[str, Any]) -> None:
    store = pytest.importorskip("fsspec", reason="the extra s3 is not installed").filesystem("memory")
    store.pipe("/cvat/sub/a.png", b"far")
    folder = mirror.make(tmp_path, "memory://cvat", None, most_bytes=0, bar=silent)
    cvat_server.send("http://x", "a:b", "t", FILES, {"sub/a.png": folder / "sub" / "a.png"})
    assert sent["images"] == {"sub/a.png": b"far"}
    store.rm("/cvat", recursive=True)
    with pytest.raises(LabelwiseError, match=r"memory://cvat/sub/a.png: there is no such object"):
        cvat_server.send("http://x", "a:b", "t", FILES, {"sub/a.png": folder / "sub" / "a.png"})


def test_files_of_any_time_are_sent_and_faults_name_the_image(tmp_path: Path, sent: dict[str, Any]) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"old")
    os.utime(image, (0, 0))
    cvat_server.send("http://x", "a:b", "t", FILES, {"a.png": image})
    assert sent["images"] == {"a.png": b"old"}
    for name, path, says in (
        ("b.png", tmp_path / "b.png", "b.png: no such image file"),
        ("b.png", tmp_path, f"{tmp_path.name}: cannot be read"),
        ("../a.png", image, "../a.png: cannot be sent under this name"),
        ("/a.png", image, "/a.png: cannot be sent under this name"),
    ):
        with pytest.raises(LabelwiseError, match=says):
            cvat_server.send("http://x", "a:b", "t", FILES, {name: path})


def test_what_is_wrong_is_told(tmp_path: Path, sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = project(tmp_path)
    ask(opened, about(0, opened))
    folder = opened.project.folder
    with pytest.raises(LabelwiseError, match=r"ConnectionError: no such server\. Is the address right"):
        raise export(folder, "https://gone.example.org").exception
    monkeypatch.setenv(cvat_server.AUTH, "ann")
    with pytest.raises(LabelwiseError, match="set CVAT_AUTH=USER:PASSWORD"):
        raise export(folder).exception
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    with pytest.raises(LabelwiseError, match="pip install cvat-sdk"):
        raise export(folder).exception
    opened.project.close()
