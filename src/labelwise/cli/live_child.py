"""The process of `live_run`: `labelwise run` on a project that is there, which ends when its standard input does.

    python -m labelwise.cli.live_child FOLDER

So it ends with the server, however that ended.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from labelwise.cli.console import open_project, out, tell
from labelwise.errors import LabelwiseError


def main(folder: Path) -> None:
    """Runs all rounds that are not done yet."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    from labelwise import loop
    from labelwise.cli.projects import write_report

    opened = open_project(folder)
    for round_number in loop.run(opened):
        out.print(f"round {round_number} is done")
    write_report([folder], folder / "report.html", None)


def _end_with_input() -> None:
    while os.read(0, 1 << 16):  # not by sys.stdin: its lock, held by this thread, would abort Python at its end
        pass
    os._exit(0)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except LabelwiseError as error:
        tell(f"The live run cannot go on: {error}")
        sys.exit(1)
