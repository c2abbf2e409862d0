"""Headers of images that are kept between two commands, and a project that is shown without reading its data."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelwise import cli, loop
from labelwise.data import clean, find, image_reader, kept_headers
from labelwise.generated import scenes
from labelwise.ledger import records
from labelwise.project import availability, glance, opening
from labelwise.project.context import Context
from labelwise.study import history
from labelwise.types import LabelwiseError, Pool

AGO_S = 60


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images of an hour ago, for the cache's sense of time: one a PNG of a palette, one turned by its EXIF."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(6):
        image = Image.fromarray(np.full((20 + i, 30, 3), 9 * i, np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 4 else 1
        image.save(folder / f"{i}.jpg", exif=exif) if i else image.convert("P").save(folder / f"{i}.png")
    return folder


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened for their header; the clock is a minute ahead of the file system's."""
    now, opened, probe = time.time_ns, [], image_reader.probe

    def counted(path: Path) -> image_reader.Header:
        opened.append(path.name)
        return probe(path)

    monkeypatch.setattr(image_reader, "probe", counted)
    monkeypatch.setattr(kept_headers.time, "time_ns", lambda: now() + AGO_S * 10**9)
    return opened


def read(data: Path, folder: Path) -> Pool:
    with kept_headers.kept_in(folder):
        return find.read(data, None, "folder")


def said(pool: Pool) -> tuple[object, ...]:
    return pool.names, pool.width_px.tolist(), pool.height_px.tolist(), pool.problems


def test_what_is_kept_is_what_the_files_say(data: Path, tmp_path: Path, opens: list[str]) -> None:
    plain = find.read(data, None, "folder")
    assert {p.kind for p in plain.problems} == {"palette image", "EXIF-rotated image"}
    opens.clear()
    first = read(data, tmp_path / "kept")
    assert sorted(opens) == sorted(plain.names)
    opens.clear()
    again = read(data, tmp_path / "kept")
    assert opens == []
    assert said(plain) == said(first) == said(again)


def test_changed_added_and_removed_images_are_noticed(data: Path, tmp_path: Path, opens: list[str]) -> None:
    read(data, tmp_path / "kept")
    opens.clear()
    times = (data / "1.jpg").stat()
    body = (data / "1.jpg").read_bytes()
    Image.fromarray(np.zeros((30, 21, 3), np.uint8)).save(data / "1.jpg")
    (data / "2.jpg").write_bytes(body[:40])
    (data / "3.jpg").unlink()
    Image.fromarray(np.zeros((7, 8, 3), np.uint8)).save(data / "6.jpg")
    # the size in bytes and the time of change are made those of before: the time of the entry tells
    with (data / "1.jpg").open("ab") as file:
        file.write(bytes(max(0, times.st_size - (data / "1.jpg").stat().st_size)))
    os.utime(data / "1.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    found = read(data, tmp_path / "kept")
    assert sorted(opens) == ["1.jpg", "2.jpg", "6.jpg"]
    assert found.names == ("0.png", "1.jpg", "4.jpg", "5.jpg", "6.jpg")
    assert (found.width_px[1], found.height_px[1]) == (21, 30)
    assert [p.where for p in found.problems if p.kind == "unreadable image"] == ["2.jpg"]
    assert said(found) == said(find.read(data, None, "folder"))


def test_what_has_just_changed_is_not_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_headers.time, "time_ns", lambda: (data / "5.jpg").stat().st_ctime_ns)
    read(data, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other", "folder", "no JSON"])
def test_a_damaged_file_counts_as_not_there(data: Path, tmp_path: Path, opens: list[str], damage: str) -> None:
    first = read(data, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    raw = kept.read_bytes()
    bad = bytearray(raw)
    bad[raw.index(b",30,") + 1] ^= 1  # a width of 20
    kept.unlink()
    if damage == "folder":
        kept.mkdir()
    else:
        content = {"cut": raw[:-9], "bit": bytes(bad), "empty": b"", "other": b"0 " + raw, "no JSON": raw + b"]"}
        kept.write_bytes(content[damage])
    opens.clear()
    assert said(read(data, tmp_path / "kept")) == said(first)
    assert len(opens) == 6
    opens.clear()
    assert said(read(data, tmp_path / "kept")) == said(first)
    assert len(opens) == (6 if damage == "folder" else 0)


def test_an_error_on_the_way_keeps_nothing(data: Path, tmp_path: Path, opens: list[str]) -> None:
    with pytest.raises(LabelwiseError, match="stopped"), kept_headers.kept_in(tmp_path / "kept"):
        clean.pool(data, (), ["1.jpg"], None)
        raise LabelwiseError("stopped")
    assert opens == ["1.jpg"]
    assert not (tmp_path / "kept").exists()


# ---- a project ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    scenes.write(folder, train=12, test=3, seed=3, size_px=96)
    return folder


@pytest.fixture
def project(drawn: Path, tmp_path: Path) -> Path:
    data = shutil.copytree(drawn, tmp_path / "data")
    folder = tmp_path / "project"
    call("init", str(folder), "--data", str(data), "--set", "budget.start_images=4")
    return folder


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def begun(project: Path) -> Context:
    context = opening.start(project, None)
    context.tell = lambda _line: None
    with context.project.lock():
        loop.begin(context)
        for name in ("predict", "score", "select", "ask"):
            loop.run_stage(context, 0, name)
    return context


def shown(project: Path) -> str:
    return call("status", "-p", str(project))


def test_a_glance_shows_what_the_whole_project_shows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert glance.look(project) is None, "it has not begun"
    context = begun(project)
    seen = glance.look(project)
    assert seen is not None
    assert seen.pool.names == context.pool.names
    assert seen.pool.classes == context.pool.classes
    assert (seen.pool.width_px == context.pool.width_px).all()
    assert history.round_result(seen, 0) == history.round_result(context, 0)
    fast = shown(project)
    with monkeypatch.context() as patched:
        patched.setattr(glance, "look", lambda _folder: None)
        assert shown(project) == fast
    assert "Next: round 0, label" in fast


@pytest.mark.parametrize("change", ["gone", "other", "touched", "setting", "earlier"])
def test_a_glance_does_not_do_where_something_is_new(project: Path, change: str) -> None:
    context = begun(project)
    path = context.pool.path(3)
    if change == "gone":
        path.unlink()
    elif change == "other":
        path.write_bytes(path.read_bytes() + b"0")
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    elif change == "setting":
        opening.start(project, None, ["data.cache_gb=1"])
    else:  # as in the ledger of an earlier labelwise
        with context.project.ledger.write() as connection:
            records.keep(connection, "data as read", None)
    assert glance.look(project) is None
    assert ("1 image gone" in shown(project)) == (change == "gone")
    context = opening.start(project, None)
    loop.begin(context)
    seen = glance.look(project)  # the run has looked at it
    assert seen is not None
    assert availability.messages(seen) == availability.messages(context)
    assert ("1 image gone" in shown(project)) == (change == "gone")


def test_init_and_the_first_run_open_an_image_once(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: list[str]
) -> None:
    data, folder = shutil.copytree(drawn, tmp_path / "data"), tmp_path / "project"
    call("init", str(folder), "--data", str(data), "--set", "budget.start_images=4")
    assert len(opens) == 15
    opens.clear()
    opening.start(folder, None)
    assert opens == []
    assert (folder.stat().st_mode & 0o077) == 0
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "elsewhere"))
    opening.start(folder, None)
    assert len(opens) == 15


def test_a_project_that_cannot_be_written_is_opened(project: Path, opens: list[str]) -> None:
    shutil.rmtree(project / "cache", ignore_errors=True)
    (project / "cache").write_text("in the way")
    assert len(opening.start(project, None).pool) + 3 == len(opens)
    assert (project / "cache").read_text() == "in the way"
