"""The command line: one command per stage, and demo, init, check, config, run, compare, status, list, report and more.

A file here holds the commands of one kind. Exit codes: 0 done, 1 failed with a message, 2 wrong usage.
"""

from __future__ import annotations

import importlib
import sys

from labelwise.cli.console import app as app
from labelwise.cli.console import err, plain
from labelwise.errors import LabelwiseError

for kind in (
    "demo",
    "runs",
    "projects",
    "settings",
    "data",
    "review",
    "side_by_side",
    "studies",
    "unavailable",
    "web",
    "transfer",
    "doors",
    "weights",
):
    importlib.import_module(f"labelwise.cli.{kind}")  # adds its commands to `app`, in this order


def main() -> None:
    """Entry point: turns errors that a user can act on into one message and exit code 1."""
    try:
        app(standalone_mode=True)
    except LabelwiseError as error:
        _fail(error)
    except Exception as error:  # a damaged ledger can say anything
        from labelwise.cli import health

        damage = health.explains(error)
        if damage is None:
            raise
        _fail(damage)


def _fail(error: LabelwiseError) -> None:
    err.print(f"[bold red]error:[/] {plain(error)}", highlight=False, soft_wrap=True)
    sys.exit(1)
