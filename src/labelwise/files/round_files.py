"""The files of a round: where they are, which stage writes which, and whether they are still what was written.

A stage that is done keeps the size and the CRC-32 of every file that it wrote (3 GB/s: nobody forges them, disks and
hands damage them).
"""

from __future__ import annotations

import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

Sums = dict[str, tuple[int, int]]
"""Size in bytes and CRC-32 of every file, by its name in the round's folder."""

WRITES = {
    "predict": ("predictions*", "predicted.parquet", "labelled_probability.parquet"),
    "score": ("scores.parquet", "errors.parquet", "links.parquet"),
    "select": ("picks.parquet",),
    "ask": ("waiting.json", "live-*"),
    "label": ("targets.safetensors",),
    "train": ("checkpoint*.safetensors", "history*.npy", "pseudo_labels.parquet", "training*.safetensors"),
    "evaluate": ("metrics.json",),
}
"""What each stage writes into the round's folder; the first of these it always writes (round 0 predicts nothing)."""

STAGES = tuple(WRITES)
"""The names of the stages, in their order."""


@dataclass(frozen=True)
class RoundFolder:
    """Where the files of a round are."""

    path: Path

    def predictions(self, scale: float = 1.0) -> Path:
        """The folder of the detections at a magnification."""
        return self.path / ("predictions" if scale == 1 else f"predictions-{scale:g}")

    @property
    def predicted(self) -> Path:
        """Of videos, the images that the model looked at."""
        return self.path / "predicted.parquet"

    @property
    def labelled_probability(self) -> Path:
        """Of every image, how far it looks labelled (VAAL)."""
        return self.path / "labelled_probability.parquet"

    @property
    def scores(self) -> Path:
        """The candidates and what each is worth."""
        return self.path / "scores.parquet"

    @property
    def errors(self) -> Path:
        """Detections and candidates of videos, and which of them are wrong."""
        return self.path / "errors.parquet"

    @property
    def links(self) -> Path:
        """Which rows of `errors` are one object."""
        return self.path / "links.parquet"

    @property
    def picks(self) -> Path:
        """The ranking."""
        return self.path / "picks.parquet"

    @property
    def waiting(self) -> Path:
        """Since when the round waits for people."""
        return self.path / "waiting.json"

    def live(self, number: int) -> Path:
        """The folder of an update while the round asks: two take turns, so that one can be read while it is made."""
        return self.path / f"live-{number % 2}"

    @property
    def targets(self) -> Path:
        """What the model trains on."""
        return self.path / "targets.safetensors"

    def checkpoint(self, member: str = "") -> Path:
        """The weights of the model, or of another member of its ensemble."""
        return self.path / f"checkpoint{member}.safetensors"

    def training(self, member: str = "") -> Path:
        """A training that is not finished."""
        return self.path / f"training{member}.safetensors"

    @property
    def history(self) -> Path:
        """What a training recorded of every image, epoch by epoch."""
        return self.path / "history.npy"

    @property
    def pseudo_labels(self) -> Path:
        """Of a round with a teacher: the images that it lent a class, and which."""
        return self.path / "pseudo_labels.parquet"

    @property
    def metrics(self) -> Path:
        """What the model reaches on the test images."""
        return self.path / "metrics.json"


def files_of(folder: Path, stage: str) -> list[Path]:
    """The files of a stage that are there, in the order of their names."""
    found = [path for pattern in WRITES.get(stage, ()) for path in folder.glob(pattern)]
    inside = [path for one in found if one.is_dir() for path in one.rglob("*") if path.is_file()]
    return sorted(path for path in [*found, *inside] if path.is_file())


def sums(folder: Path, stage: str) -> Sums:
    """Size and CRC-32 of what a stage has written."""
    files = files_of(folder, stage)
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, crc(path)) for path in files}


def crc(path: Path) -> int:
    """The CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def damage(folder: Path, stage: str, expected: Sums | None, most_bytes: float) -> tuple[dict[str, str], int]:
    """What is wrong with a stage's files, by their names, and how many bytes were read to find out.

    Sizes are compared always, content while less than `most_bytes` are read. With nothing `expected` (an earlier
    labelwise kept no sums) the stage's first file must be there.
    """
    there = {path.relative_to(folder).as_posix(): path for path in files_of(folder, stage)}
    if expected is None:
        main = WRITES[stage][0]
        return ({} if any(folder.glob(main)) else {main: "is missing"}), 0
    wrong = dict.fromkeys(sorted(set(there) - set(expected)), "does not belong there")
    read = 0
    for name, (size, value) in expected.items():
        path = there.get(name)
        if path is None:
            wrong[name] = "is missing"
            continue
        try:
            if path.stat().st_size != size:
                wrong[name] = f"has {path.stat().st_size} of its {size} bytes"
            elif read + size <= most_bytes:
                read += size
                if crc(path) != value:
                    wrong[name] = "is damaged"
        except OSError as error:
            wrong[name] = f"cannot be read ({error.strerror or error})"
    return wrong, read


def remove(folder: Path, stage: str) -> None:
    """Removes what a stage wrote, so that it is written anew."""
    for pattern in WRITES[stage]:
        for path in sorted(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def again(path: Path) -> str:
    """What to do about a file that is lost or damaged: the command that writes it again, where it is a round's."""
    for folder in path.parents:
        if folder.parent.name == "rounds" and re.fullmatch(r"\d{3,}", folder.name):
            name = path.relative_to(folder).parts[0]
            stages = [stage for stage, patterns in WRITES.items() if any(Path(name).match(p) for p in patterns)]
            if stages:
                return f"`labelwise redo {int(folder.name)} {stages[0]} -p {folder.parent.parent}` writes it again"
    return "run the stage that writes it again"
