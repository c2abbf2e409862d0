"""CPU seconds (user + system) of commands that should start at once, warm byte code: the median of several.

    uv run python benchmarks/start_up.py

Prints and writes benchmarks/results/start_up.csv: command, CPU seconds (median, least, most), the bar.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import kill

from labelwise import loop
from labelwise.project import opening

RESULTS = Path(__file__).parent / "results" / "start_up.csv"
LABELWISE = [sys.executable, "-m", "labelwise"]
WARM = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def project(folder: Path) -> Path:
    """A small project with one round done."""
    opened = opening.start(folder, "demo", kill.SMALL)
    with opened.project.lock():
        loop.begin(opened)
        for stage in loop.STAGES:
            loop.run_stage(opened, 0, stage)
    return folder


def cpu_s(*arguments: str) -> float:
    """CPU seconds of one command to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*LABELWISE, *arguments], capture_output=True, check=False, env=WARM)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def serve_cpu_s(folder: Path, port: int) -> float:
    """CPU seconds of `serve` up to its first reply."""
    command = [*LABELWISE, "serve", "-p", str(folder), "--port", str(port), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=WARM)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                break
            except OSError:
                time.sleep(0.02)
        ticks = re.split(r"\) ", Path(f"/proc/{server.pid}/stat").read_text())[1].split()
        return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    lines = ["command,cpu_s_median,cpu_s_least,cpu_s_most,bar_s,commit,machine,python"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = project(Path(scratch) / "p")
        cases = {
            "--help": (0.5, lambda: cpu_s("--help")),
            "--version": (0.5, lambda: cpu_s("--version")),
            "list": (0.5, lambda: cpu_s("list")),
            "status of a project": (1.0, lambda: cpu_s("status", "-p", str(folder))),
            "status of a wrong path": (0.5, lambda: cpu_s("status", "-p", str(folder / "nowhere"))),
            "serve to its first reply": (1.5, lambda: serve_cpu_s(folder, 18765)),
        }
        for name, (bar, measure) in cases.items():
            measure()  # writes the byte code
            found = [measure() for _ in range(given.repeat)]
            figures = ",".join(f"{v:.2f}" for v in (statistics.median(found), min(found), max(found)))
            about = f"{commit.stdout.strip()},{platform.machine()} {os.cpu_count()} cores,{platform.python_version()}"
            lines.append(f"{name},{figures},{bar},{about}")
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
