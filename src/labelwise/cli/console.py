"""What all commands share: the app, its options, progress bars, Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

import labelwise
from labelwise.errors import LabelwiseError, no_project

if TYPE_CHECKING:
    from labelwise.project.context import Context

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Decides **what to label next** and trains on what came back. Start with `labelwise demo`.",
)
out, err = Console(), Console(stderr=True)

ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="The project folder.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Overrides one setting: key.sub=value (repeat).")
]


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"labelwise {labelwise.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Options of the command line as a whole; the help text is the app's."""


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", style="dim")


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with rate and time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(description, total=total or None)  # 0: nobody knows how many

        def advance(n: int) -> None:
            progress.update(task, advance=n)
            _stop_if_pressed()

        _stop_if_pressed()
        yield advance


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Turns Ctrl-C into a message that says how to go on; the stage in progress is rolled back by the ledger.

    Python's exception may be lost in a library's callback, so the key is remembered, and heard at the next progress.
    """

    def press(number: int, _frame: object) -> None:
        _pressed.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    hears = threading.current_thread() is threading.main_thread() and before is not signal.SIG_IGN  # as after `nohup`
    if hears:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    except KeyboardInterrupt:
        raise LabelwiseError(
            f"stopped. Everything before the stage in progress is kept; `labelwise run --project {folder}` continues"
        ) from None
    finally:
        _pressed.clear()
        if hears:
            signal.signal(signal.SIGINT, before)


_pressed: list[int] = []
"""Signals of Ctrl-C that are not answered yet."""


def _stop_if_pressed() -> None:
    if _pressed:
        raise KeyboardInterrupt


def tell(line: str) -> None:
    """Says one line, whatever is in it."""
    out.print(line, markup=False, highlight=False, soft_wrap=True)


def plain(text: object) -> str:
    """Text that the console prints as it is: its brackets are no markup."""
    return str(text).replace("[", "\\[")


def require_project(folder: Path) -> None:
    """A wrong path is an error before anything heavy is loaded."""
    if not (folder / "run.toml").exists():
        raise no_project(folder)


def open_project(folder: Path, settings: Sequence[str] = ()) -> Context:
    """Opens the project in `folder`; `settings` change its run.toml."""
    require_project(folder)
    from labelwise.project import opening

    opened = opening.start(folder, None, settings, bar)
    opened.tell = tell
    return opened
