"""Damages small data sets of every layout, run files and predictions, and looks at what labelwise makes of them.

    python benchmarks/fuzz.py --inputs 20000 --jobs 2
    python benchmarks/fuzz.py --inputs 500 --only coco --seed 3

Half of the inputs are damaged byte by byte (flips, cuts, copies, numbers that no file should hold), half in their
structure (a JSON value, an XML element or attribute, a cell of a table replaced, dropped, doubled, renamed; a file that
vanishes, is empty, a folder, a FIFO). Each is read in process, as `labelwise check` reads it. Right is: it is read and
every loss is told, or one `LabelwiseError`. Counted as faults: any other exception, more than 10 s, more than 2 GB, and
`silent`: fewer boxes or images than before with nothing told, where a value was damaged (not where an entry was dropped
as a whole, which nobody can see). Faults are kept in `--keep`, one folder each.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import concurrent.futures.process
import csv
import faulthandler
import functools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_layouts import Files, layouts
from fuzz_values import VALUES, bytes_damaged, places

from labelwise.data import check as data_check
from labelwise.types import LabelwiseError

LIMIT_S = 10
LIMIT_BYTES = 2 << 30
Outcome = tuple[str, str, float]
SUBJECTS = (
    *("run file", "run file, changed", "run file, opened", "predictions", "prediction files", "python calls"),
    *("page", "npz", "stored features"),
)
"""Those of `fuzz_inputs`, by name: it loads torch, and a process counts its parent's memory as its own."""


def damage(files: Files, rng: random.Random) -> tuple[Files, str, bool]:
    """A damaged copy, what was done, and whether a loss must be told."""
    names = sorted(files)
    texts = [name for name in names if not name.endswith(".jpg")]
    name = rng.choice(texts if texts and rng.random() < 0.9 else names)
    found = dict(files)
    if rng.random() < 0.5:
        found[name], how = bytes_damaged(files[name], rng)
        return found, f"{name}: {how}", False
    if name.endswith(".json"):
        return _json_value(found, name, rng)
    if name.endswith(".xml"):
        return _xml_value(found, name, rng)
    if name.endswith((".txt", ".csv", ".jsonl", ".yaml", ".names", ".data")):
        return _line(found, name, rng)
    found[name] = b""
    return found, f"{name}: empty", True


def _json_value(found: Files, name: str, rng: random.Random) -> tuple[Files, str, bool]:
    content = json.loads(found[name])
    found_at = places(content)
    if not found_at:
        return found, f"{name}: as it is", False
    node, key = rng.choice(found_at)
    how = rng.choice(("replace", "replace", "replace", "drop", "double", "rename"))
    told = how == "replace"
    if how == "replace":
        value = rng.choice(VALUES)
        told = value is not None or not isinstance(node[key], list)  # null is how some tools write an empty list
        how = f"{key!r} = {value!r:.40}"
        node[key] = value
    elif how == "drop":
        del node[key]
        how = f"drop {key!r}"
    elif how == "double" and isinstance(node, list):
        node.insert(key, node[key])
    elif isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
        how = f"rename {key!r}"
    found[name] = json.dumps(content).encode()
    return found, f"{name}: {how}", told


def _xml_value(found: Files, name: str, rng: random.Random) -> tuple[Files, str, bool]:
    root = ET.fromstring(found[name])
    parents = [(parent, child) for parent in root.iter() for child in parent]
    parent, child = rng.choice(parents)
    how = rng.choice(("text", "text", "attribute", "drop", "double", "rename"))
    value = rng.choice(("", "x", "-1", "nan", "1e999", "9" * 400, "ä", "4294967295", "../../a", "1,2", "0.5"))
    told = how in ("text", "attribute")
    if how == "text":
        child.text = value
    elif how == "attribute" and child.attrib:
        key = rng.choice(sorted(child.attrib))
        child.set(key, value)
        how, told = f"{key}={value:.20}", key not in ("outside", "frame")  # those may say that the box is gone
    elif how == "drop":
        parent.remove(child)
    elif how == "double":
        parent.append(child)
    else:
        child.tag += "x"
        told = False
    found[name] = ET.tostring(root)
    return found, f"{name}: {child.tag} {how} {value[:20] if told else ''}", told


def _line(found: Files, name: str, rng: random.Random) -> tuple[Files, str, bool]:
    lines = found[name].decode().splitlines(keepends=True)
    i = rng.randrange(len(lines))
    how = rng.choice(("cell", "cell", "cell", "drop cell", "add cell", "drop line", "double line"))
    separator = "," if lines[i].count(",") > lines[i].count(" ") else " "
    cells = lines[i].rstrip("\n").split(separator)
    value = rng.choice(("", "x", "-1", "nan", "inf", "1e999", "9" * 400, "0.5", "7", "ä", "4294967295", '"'))
    k = rng.randrange(len(cells))
    if how == "cell":
        cells[k] = value
    elif how == "drop cell":
        del cells[k]
    elif how == "add cell":
        cells.insert(k, value)
    end = "\n" if lines[i].endswith("\n") else ""
    lines[i] = {"drop line": "", "double line": lines[i] * 2}.get(how, separator.join(cells) + end)
    found[name] = "".join(lines).encode()
    return found, f"{name}: line {i + 1}, {how} {k} {value[:12]!r}", how in ("cell", "add cell", "drop cell")


def place(files: Files, root: Path, odd: str = "", rng: random.Random | None = None) -> None:
    """Writes the files; `odd`: one of them becomes something that is no file, or vanishes."""
    special = rng.choice(sorted(files)) if odd and rng is not None else ""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name != special or odd == "empty":
            path.write_bytes(b"" if name == special else content)
        elif odd == "fifo":
            os.mkfifo(path)
        elif odd == "folder":
            path.mkdir()
        elif odd == "link":
            path.symlink_to(path.with_name("nothing"))
        elif odd == "circle":
            path.symlink_to(path.parent)


class _TooLong(BaseException):
    """Raised by the alarm; no `except Exception` on the way swallows it."""


def _stop(*_: object) -> None:
    raise _TooLong


def tried(attempt: Callable[[], Any]) -> tuple[str, str, Any]:
    """(read, error or a fault; why; what came of it)."""
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(LIMIT_S)
    try:
        return "read", "", attempt()
    except LabelwiseError as error:
        return "error", str(error), None
    except _TooLong:
        return "fault: too long", "".join(traceback.format_exc()[-1500:]), None
    except MemoryError:
        return "fault: memory", traceback.format_exc()[-1500:], None
    except Exception:
        return "fault: traceback", traceback.format_exc()[-3000:], None
    finally:
        signal.alarm(0)


def judge(root: Path, before: tuple[int, int] | None, must_tell: bool) -> tuple[str, str, tuple[int, int]]:
    """(read, told, error, silent or a fault; why; images and boxes) of one data set."""
    outcome, why, report = tried(lambda: data_check.look(root, full=False))
    if report is None:
        return outcome, why, (0, 0)
    pools = report.found.pools.values()
    seen = sum(map(len, pools)), sum(found.xyxy.shape[0] for p in pools for found in (p.truth, p.crowd) if found)
    json.dumps(report.as_json())
    if before is not None and (seen[0] < before[0] or seen[1] < before[1]) and not report.problems:
        return ("silent" if must_tell else "fewer"), f"{before} images, boxes became {seen}", seen
    return ("told" if report.problems else "read"), "", seen


def one(name: str, files: Files, seed: int, before: tuple[int, int], keep: Path | None) -> Outcome:
    """Damages and judges one layout: (outcome, what was done and came of it, seconds)."""
    rng = random.Random(f"{name} {seed}")
    odd, must_tell = "", False
    if rng.random() < 0.04:
        odd = rng.choice(("empty", "fifo", "folder", "link", "circle", "gone"))
        changed, how = dict(files), odd
    else:
        changed, how, must_tell = damage(files, rng)
    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="lw-fuzz-", dir=base))
    try:
        place(changed, root, odd, rng)
        start = time.perf_counter()
        outcome, why, _ = judge(root, before, must_tell)
        seconds = time.perf_counter() - start
        if keep is not None and outcome not in ("read", "told", "error", "fewer"):
            target = keep / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(
                root, target, symlinks=True, ignore=lambda d, ns: [n for n in ns if (Path(d) / n).is_fifo()]
            )
            (target / "WHY.txt").write_text(f"{outcome}\n{how}\n{why}\n", errors="replace")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return outcome, f"{how} -> {why}", seconds


def attempted(name: str, damage_of: Callable[[random.Random], Any], seed: int, keep: Path | None) -> Outcome:
    """`one` of a subject of `fuzz_inputs`."""
    how, attempt = damage_of(random.Random(f"{name} {seed}"))
    start = time.perf_counter()
    outcome, why, _ = tried(attempt)
    seconds = time.perf_counter() - start
    if keep is not None and outcome.startswith("fault"):
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{name.replace(' ', '_')}-{seed}.txt").write_text(f"{outcome}\n{how}\n{why}\n", errors="replace")
    return outcome, f"{how} -> {why}", seconds


def baseline(files: Files) -> tuple[int, int]:
    """Images and boxes of a layout that nothing is wrong with."""
    with tempfile.TemporaryDirectory() as folder:
        place(files, Path(folder))
        outcome, why, seen = judge(Path(folder), None, False)
    if outcome != "read" and outcome != "told":
        raise LabelwiseError(f"{outcome}: {why}")
    return seen


def batch(name: str, files: Files | None, seeds: range, keep: Path | None) -> dict[str, Any]:
    """A row of the table: one layout (or subject: `files` None), many inputs."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    base = tempfile.TemporaryDirectory(prefix="lw-fuzz-")
    before = (0, 0)
    if files is None:
        from fuzz_inputs import SUBJECTS as makers

        subject = makers[name](Path(base.name))
        judged = functools.partial(attempted, name, subject, keep=keep)
    else:
        before = baseline(files)
        judged = functools.partial(one, name, files, before=before, keep=keep)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + LIMIT_BYTES, limit[1]))
    rows = []
    try:
        for seed in seeds:
            faulthandler.dump_traceback_later(3 * LIMIT_S, exit=True)  # a thread that the alarm does not reach
            rows.append(judged(seed=seed))
    finally:
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, limit)
        base.cleanup()
    outcomes = Counter(outcome for outcome, _, _ in rows)
    faults = {k: v for k, v in outcomes.items() if k.startswith("fault")}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row: dict[str, Any] = {"layout": name, "images": before[0], "boxes": before[1], "inputs": len(rows)}
    row |= {key: outcomes[key] for key in ("read", "told", "error", "fewer", "silent")}
    row |= {"faults": sum(faults.values()), "slowest_s": round(max(s for _, _, s in rows), 2), "peak_mb": peak_mb}
    return row | {"examples": "; ".join(f"{o}: {w[:200]}" for o, w, _ in rows if o.startswith(("fault", "silent")))}


def _apart(name: str, files: Files | None, seeds: range, keep: Path | None) -> dict[str, Any]:
    """`batch` in a process of its own, so that one that hangs or dies is a row of the table."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker:
        try:
            return worker.submit(batch, name, files, seeds, keep).result()
        except LabelwiseError as error:
            return {"layout": name, "inputs": 0, "faults": 1, "examples": f"as it is: {str(error)[:300]}"}
        except concurrent.futures.process.BrokenProcessPool:
            return {"layout": name, "inputs": len(seeds), "faults": 1, "examples": "the process hung or died"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="in all, in equal parts over the layouts")
    parser.add_argument("--only", default="", help="layouts whose name has this in it")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that went wrong")
    parser.add_argument("--output", type=Path, default=None, help="a CSV file")
    given = parser.parse_args(arguments)
    chosen = {name: files for name, files in (layouts() | dict.fromkeys(SUBJECTS)).items() if given.only in name}
    each = -(-given.inputs // len(chosen))
    seeds = range(given.seed, given.seed + each)
    rows = []
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as threads:
        for row in threads.map(lambda item: _apart(*item, seeds, given.keep), chosen.items()):
            rows.append(row)
            print({key: value for key, value in row.items() if value not in (0, "")}, flush=True)
    if given.output is not None:
        with given.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*max(rows, key=len), "seed", "command"], lineterminator="\n")
            writer.writeheader()
            command = " ".join(["benchmarks/fuzz.py", *(arguments or sys.argv[1:])])
            writer.writerows({**row, "seed": given.seed, "command": command} for row in rows)
    total = Counter({key: sum(int(row.get(key, 0)) for row in rows) for key in ("inputs", "silent", "faults")})
    print(dict(total))
    return 1 if total["faults"] or total["silent"] else 0


if __name__ == "__main__":
    sys.exit(main())
