"""The command line: help with an example for each command, exit codes, messages that say what to do."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

import labelwise
from labelwise import cli
from labelwise.cli import console
from labelwise.generated import scenes
from labelwise.loop import STAGES
from labelwise.types import LabelwiseError

COMMANDS = sorted(get_command(cli.app).commands)  # type: ignore[attr-defined]


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def foreground() -> Iterator[None]:
    """As in a terminal: whoever runs the tests in the background has the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_is_heard_at_the_next_progress_though_a_library_lost_it(tmp_path: Path) -> None:
    went_on = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(LabelwiseError, match=r"stopped\..*labelwise run --project"), console.resumable(tmp_path):
        with console.bar("a stage", 2) as advance:
            advance(1)
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            went_on.append("lost")
            advance(1)
        went_on.append("not heard")
    assert went_on == ["lost"] and signal.getsignal(signal.SIGINT) is before
    with console.bar("another stage", 1) as advance:
        advance(1)


def test_a_run_in_the_background_stays_deaf_to_ctrl_c(tmp_path: Path) -> None:
    """A shell starts `labelwise run &` with the signal ignored; Ctrl-C is meant for the one in the foreground."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with console.resumable(tmp_path):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").split() == ["labelwise", labelwise.__version__]


def test_every_command_of_the_design_is_there() -> None:
    whole = {"demo", "init", "check", "run", "compare", "status", "list", "report"}
    assert whole | {
        "advise",
        "balance",
        "pretrain",
        "serve",
        "add-class",
        "convert",
        "mcp",
        "serve-ml",
        "export",
        "import",
        "config",
        "redo",
        "images",
        "review",
        "weights",
    } | set(STAGES) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    assert re.search(rf"Example: labelwise {command}", re.sub(r"\s+", " ", call(command, "--help")))


def test_wrong_usage_exits_with_2() -> None:
    assert CliRunner().invoke(cli.app, ["run", "--nonsense"]).exit_code == 2


def test_a_failure_prints_what_to_do_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["labelwise", "status", "--project", "nowhere"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "labelwise init nowhere" in capsys.readouterr().err.replace("\n", " ")


def test_check_tables_what_is_wrong_in_a_data_set(tmp_path: Path) -> None:
    scenes.write(tmp_path / "d", train=3, test=1, size_px=96, digits=(2, 4), scale=(0.2, 0.4))
    (tmp_path / "d" / "train" / "00000.jpg").unlink()
    Image.fromarray(np.zeros((96, 96, 4), np.uint8)).save(tmp_path / "d" / "train" / "00001.jpg", format="PNG")
    shown = call("check", str(tmp_path / "d"))
    assert "missing image" in shown
    assert "RGBA" in shown
    assert "00000.jpg" in shown


def test_init_writes_a_config_and_a_second_one_writes_it_anew(tmp_path: Path) -> None:
    scenes.write(tmp_path / "d", train=4, test=1, size_px=96, digits=(2, 4), scale=(0.2, 0.4))
    shown = call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"), "--set", "seed=3")
    assert "4 images in the pool" in shown
    assert "seed = 3" in (tmp_path / "p" / "run.toml").read_text()
    call("init", str(tmp_path / "p"), "--data", str(tmp_path / "d"), "--set", "seed=4")
    assert "seed = 4" in (tmp_path / "p" / "run.toml").read_text()
    assert "round 0, predict" in call("status", "--project", str(tmp_path / "p"))


def test_list_shows_methods_settings_and_recipes() -> None:
    assert "beta=1.3" in call("list", "score")
    assert "bccd" in call("list", "recipes")
    with pytest.raises(LabelwiseError, match="Did you mean 'score'"):
        call("list", "scor")
