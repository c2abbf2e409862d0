"""Packs what `gpu.sh` needs on a machine with a GPU and without a network, into the git-ignored folder `.gpu`.

    LABELWISE_DATA=data python benchmarks/gpu_pack.py

Writes wheels of labelwise and of the packages that such a machine may lack (`WHEELS`, for Python 3.12 on x86-64
Linux), bccd, CIFAR-10, the weights (MobileNetV2's in half precision, without its classes), and the commit. Ends with
the size beside the working tree's, and with the command to run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
MOST_MIB = 64
"""Working tree and `.gpu` together."""
WHEELS = (
    *("annotated-types", "faster-coco-eval", "lightning-fabric", "pydantic", "pydantic-core", "sqlalchemy", "tomli-w"),
    *("typing-extensions", "typing-inspection"),
)
"""Of what `pyproject.toml` names, and what that needs in turn, each in the version that is installed here."""
WEIGHTS = ("yolox_nano_coco.safetensors", "shufflenet_v2_x1_0_nanodet_coco_backbone.pth")
BODY = "mobilenet_v2-b0353104.pth"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def wheels(target: Path) -> None:
    """The packages in the versions of this environment, and labelwise itself as it stands here."""
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else ["uv", "tool", "run", "pip"]
    for name in WHEELS:
        # SQLAlchemy's wheel without machine code is half as large
        platforms = () if name == "sqlalchemy" else tuple(f"--platform={one}" for one in PLATFORMS)
        options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "-q"]
        options += platforms or ["--platform=any"]
        command = [*pip, "download", *options, "-d", str(target), f"{name}=={version(name)}"]
        subprocess.run(command, check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(target), str(ROOT)], check=True)


def weights(source: Path, target: Path) -> None:
    """Files of weights; the largest, of which features are made, in half precision and without its classes."""
    target.mkdir(parents=True)
    for name in WEIGHTS:
        shutil.copyfile(source / name, target / name)
    state = torch.load(source / BODY, map_location="cpu", weights_only=True)
    body = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    torch.save({key: v.half() if v.is_floating_point() else v for key, v in body.items()}, target / BODY)


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def size_of(paths: list[Path]) -> int:
    """Bytes of files."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LABELWISE_DATA", "data")))
    given = parser.parse_args()
    target = ROOT / ".gpu"
    shutil.rmtree(target, ignore_errors=True)
    (target / "wheels").mkdir(parents=True)
    wheels(target / "wheels")
    shutil.copytree(given.data / "bccd/BCCD", target / "data/bccd/BCCD")
    weights(given.data / "weights", target / "data/weights")
    (target / "data/cifar10").mkdir()
    shutil.copyfile(given.data / "cifar10/cifar10_jpg.tar.xz", target / "data/cifar10/cifar10_jpg.tar.xz")
    (target / "commit.txt").write_text(said("git", "describe", "--always", "--dirty"), encoding="utf-8")
    own = size_of(list(target.rglob("*")))
    tracked = said("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    tree = size_of([ROOT / name for name in tracked if name])
    mib = (own + tree) / 2**20
    print(f".gpu {own / 2**20:.1f} MiB, working tree {tree / 2**20:.1f} MiB, together {mib:.1f} of {MOST_MIB} MiB")
    if mib > MOST_MIB:
        raise SystemExit("too large: leave something out")
    print('carry [".gpu"], command:  OUT="$OUT" bash benchmarks/gpu.sh')


if __name__ == "__main__":
    main()
