"""Sets labelwise up on a machine that has nothing but Python >= 3.11 and a package index, then runs it.

python3 start.py demo     all the set-up, then the main job: data, two ways to ask side by side, report
python3 start.py test     lint, types and tests
python3 start.py COMMAND  any labelwise command (see `python3 start.py --help`)
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "-n", "2", "--dist", "worksteal"),
)


def uv() -> str:
    """The uv on this machine, or one in a small environment of its own (.uv/)."""
    found = shutil.which("uv")
    if found:
        return found
    folder = HERE / ".uv"
    binary = folder / ("Scripts/uv.exe" if sys.platform == "win32" else "bin/uv")
    if not binary.exists():
        print("labelwise: fetching uv, which does the rest of the set-up", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        python = binary.with_name("python.exe" if sys.platform == "win32" else "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    return str(binary)


def main() -> int:
    """Runs the command in the locked environment; its exit code is ours."""
    if sys.version_info < (3, 11):
        print(f"labelwise needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try python3.11 start.py ...")
        return 1
    arguments = sys.argv[1:] or ["--help"]
    binary = uv()
    if arguments == ["test"]:
        chosen = ["--locked", "--all-extras", "--group", "docs"]
        # byte code once for all: tests start labelwise some hundred times, and torch without it takes 8 s each time
        commands = [[binary, "sync", *chosen, "--compile-bytecode"]]
        commands += [[binary, "run", *chosen, *check] for check in CHECKS]
    else:
        commands = [[binary, "run", "--locked", "labelwise", *arguments]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    cwd = HERE if arguments == ["test"] else Path.cwd()
    for command in commands:
        command[2:2] = ["--project", str(HERE)]
        code = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
