"""Answer files with a fault each, over every format: they are taken in, or refused with a word, and never half.

`python tests/test_exchange_mutations.py 5000 1` runs so many with that seed, and prints what came of them.
"""

from __future__ import annotations

import json
import random
import sys
import time
import traceback
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from test_exchange import PEOPLE, PROJECT, Reply, choice, pool, query
from test_exchange import write as write_queries

from labelwise.exchange import cvat
from labelwise.generated import scenes
from labelwise.ledger.ledger import Ledger
from labelwise.project import opening
from labelwise.project.context import Context
from labelwise.stages import interchange
from labelwise.types import LabelwiseError, Query
from labelwise.types.disk import to_json

MOST_S = 10.0
ODD = (
    *(None, True, False, 0, -1, 1, 2**31, 10**400, 1e308, -1e308, 5e-324, 0.5, "", " ", "1", "-0", "nan", "open"),
    *("known", "accept", "complete", "skip", "a\0b", "\ud800", "käfer", "猫", "%s%20", "'\"<&>", "../../x", "x" * 5000),
    *([], {}, [[]], [None], {"a": 1}, [1, 2, 3, 4], ["open"], [[[[[[1]]]]]], {"id": {"id": 1}}, 4294967295, 10**18),
)
BYTES = (b"", b"\0", b"\xff", b"{", b"]", b"<", b"&", b"\xed\xa0\x80", b"\r", b"1e999", b"NaN", b"-", b'"', b"\\u0000")
WHOLE = (
    b"",
    b"[" * 100_000,
    b'{"answers":' * 50_000,
    b"<a>" * 100_000,
    b"<a>" * 20_000 + b"</a>" * 20_000,
    b"[1e999]",
    b"null",
    b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>',
    '<!DOCTYPE a [<!ENTITY b "bb">]><annotations>&b;</annotations>'.encode("utf-16"),
    b"PK\x03\x04" + bytes(300),
)


# ---- faults -------------------------------------------------------------------------------------------------------


def places(node: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of everything in a JSON value."""
    found, stack = [], [node]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            stack.append(holder[key])
    return found


def in_json(content: bytes, rng: random.Random) -> bytes:
    root = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not (found := places(root)):
            break
        holder, key = rng.choice(found)
        how = rng.randrange(6)
        if how < 3:
            holder[key] = rng.choice(ODD)
        elif how == 3:
            del holder[key]
        elif how == 4 and isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), json.loads(json.dumps(holder[key])))
        elif isinstance(holder, dict):
            holder[rng.choice(("id", "query", "answer", "x", "bbox", "é"))] = holder.pop(key)
        else:
            rng.shuffle(holder)
    return json.dumps(root).encode()


def in_xml(content: bytes, rng: random.Random) -> bytes:
    root = ET.fromstring(content)
    texts = [value for value in ODD if isinstance(value, str) and value.isprintable()]
    texts += ["-5", "1e999", "1_0", "99999999999999999999", "640.4,1;2", "inf"]
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        parents = [(parent, child) for parent in root.iter() for child in parent]
        if not parents:
            break
        parent, child = rng.choice(parents)
        how = rng.randrange(6)
        if how < 2 and child.attrib:
            child.set(rng.choice(list(child.attrib)), rng.choice(texts))
        elif how == 2 and child.attrib:
            del child.attrib[rng.choice(list(child.attrib))]
        elif how == 3:
            parent.remove(child)
        elif how == 4:
            rng.choice(parents)[0].append(ET.fromstring(ET.tostring(child)))
        elif rng.random() < 0.5:
            child.text = rng.choice(texts)
        else:
            child.tag = rng.choice(("box", "polygon", "ellipse", "mask", "tag", "image", "track", "attribute"))
    return ET.tostring(root)


def in_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(max(len(content), 1))
    how = rng.randrange(6)
    if how == 0:
        return content[:at]
    if how == 1:
        return content[:at] + rng.choice(BYTES) + content[at + rng.randrange(4) :]
    if how == 2:
        return content.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-16-le")), "replace")
    if how == 3:
        return content[:at] + content[rng.randrange(max(len(content), 1)) :]
    if how == 4:
        return content.replace(b"0", rng.choice(BYTES), rng.randrange(1, 9))
    return rng.choice(WHOLE)


def fault(content: bytes, rng: random.Random) -> bytes:
    structured = in_xml if content.lstrip()[:1] == b"<" else in_json
    return in_bytes(content, rng) if rng.random() < 0.3 else structured(content, rng)


# ---- files and their importers ------------------------------------------------------------------------------------


def project(folder: Path) -> Context:
    """A project that knows two boxes of an image, and asks two boxes, a region and two images, of it and others."""
    scenes.write(folder / "d", train=6, test=1, size_px=96, digits=(2, 4), scale=(0.2, 0.4))
    made = opening.start(folder / "p", "starter", [f"data.root={folder / 'd'}", 'data.pool_split="train"'])
    ledger, names = made.project.ledger, made.pool.names
    ledger.add_images(made.pool)
    ledger.add_queries(0, [Query(0, 0, names[0], "image")])
    one, two = ((12.0, 20.0, 30.0, 40.0), made.pool.classes[3]), ((50.0, 20.0, 90.0, 40.5), made.pool.classes[1])
    asked = ledger.queries(0)
    back = PEOPLE["json"](interchange.query_files(made, "json", asked), {asked[0].id: Reply("complete", (one, two))})
    assert interchange.take_in(made, back, "json").written == 1
    boxes = [(10.5, 50.0, 30.0, 70.0), (10.5, 20.0, 30.0, 40.0)]
    ledger.add_queries(1, [Query(1, k, names[k], "box", box, 3, 0.5, {"entropy": 0.5}) for k, box in enumerate(boxes)])
    ledger.add_queries(2, [Query(2, 0, names[0], "region", (0, 0, 48, 80))])
    ledger.add_queries(3, [Query(3, 0, names[0], "image"), Query(3, 1, names[2], "image")])
    return made


def answered(made: Context) -> dict[str, bytes]:
    """A file of each tool for each round, by tool and round."""
    found = {}
    one = ((12.0, 50.0, 30.0, 70.0), made.pool.classes[3])
    for number, words in ((1, ("accept", "reject")), (2, ("complete",)), (3, ("complete", "skip"))):
        asked = interchange.open_queries(made, number)
        said = {
            query.id or 0: Reply(word, (one,) if word in ("accept", "complete") else ())
            for query, word in zip(asked, words, strict=True)
        }
        for tool, person in PEOPLE.items():
            files = interchange.query_files(made, tool, asked)
            more = {"size": (96, 96)} if tool == "label_studio" else {}
            found[f"{tool} {number}"] = person(files, said, **more)
    task = json.loads(found["label_studio 1"])
    task[0]["annotations"].append({"completed_by": 2, "was_cancelled": True, "result": []})
    task[1]["annotations"].append({"completed_by": 3, "result": [choice("verdict", "duplicate")]})
    found["label_studio several"] = json.dumps(task).encode()
    return found


@contextmanager
def nothing_written() -> Iterator[None]:
    """Whatever is written to a ledger is rolled back."""

    class Undo(Exception):
        pass

    real = Ledger.write

    @contextmanager
    def write(self: Ledger) -> Iterator[sa.Connection]:
        try:
            with real(self) as connection:
                yield connection
                raise Undo
        except Undo:
            pass

    Ledger.write = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ledger.write = real  # type: ignore[method-assign]


def in_video() -> tuple[bytes, Callable[[bytes], object]]:
    """A file of tracks, and what reads it."""
    images = pool(4, clips=True)
    queries = [query(0, "image"), query(1, "box", (10, 20, 30, 40)), query(2, "box", (5, 5, 9, 9), label=0)]
    content = write_queries("cvat", queries, images)["000_v0.xml"].replace(b">open<", b">complete<")
    return content, lambda damaged: cvat.read(damaged, queries, images, PROJECT, unanswered={0, 1, 2})


def run(made: Context, n: int, seed: int) -> tuple[Counter[str], list[str]]:
    """What came of n files, and every file that was no labelwise error, or took too long, or lost an answer."""
    files, rng, counts, bad = answered(made), random.Random(seed), Counter[str](), list[str]()
    tracks, read_tracks = in_video()
    names, written = [*files, "cvat video"], state(made)
    for k in range(n):
        name = names[k % len(names)]
        damaged = fault(tracks if name == "cvat video" else files[name], rng)
        tool, how = name.split()[0], {"partial": rng.random() < 0.4, "second_opinions": rng.random() < 0.2}
        began = time.monotonic()
        try:
            if name == "cvat video":
                read_tracks(damaged)
                counts["read"] += 1
            else:
                interchange.tool_of(damaged) if rng.random() < 0.1 else None
                taken = interchange.take_in(made, damaged, tool, **how)
                told = len(taken.problems) + taken.n_open
                number = int(name.split()[1]) if name.split()[1].isdigit() else 1
                asked = len(interchange.open_queries(made, number))
                refused = any(problem.handling == interchange.REFUSED for problem in taken.problems)
                counts["refused" if refused else "recorded" if taken.written else "nothing"] += 1
                to_json([problem.what for problem in taken.problems]).encode()
                lost = not refused and taken.written + taken.known + told < asked
                if lost or (refused and taken.written):
                    bad.append(f"{name} seed {seed} file {k}: {asked} answers, {taken}")
        except LabelwiseError as error:
            counts["error"] += 1
            if not str(error):
                bad.append(f"{name} seed {seed} file {k}: an error without a word")
        except Exception:
            bad.append(f"{name} seed {seed} file {k}: {damaged[:300]!r}\n{traceback.format_exc()[-1500:]}")
        if time.monotonic() - began > MOST_S:
            bad.append(f"{name} seed {seed} file {k}: {time.monotonic() - began:.1f} s")
    if state(made) != written:
        bad.append("the ledger changed")
    return counts, bad


def state(made: Context) -> list[int]:
    """How many rows each table of the ledger has."""
    with made.project.ledger.read() as connection:
        names = sa.inspect(connection).get_table_names()
        return [connection.execute(sa.text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names]


def test_a_file_with_a_fault_is_read_or_refused_and_no_answer_is_lost(tmp_path: Path) -> None:
    made = project(tmp_path)
    with nothing_written():
        counts, bad = run(made, 400, seed=19)
    made.project.close()
    assert bad == [], "\n\n".join(bad[:5])
    assert min(counts["recorded"], counts["refused"], counts["error"]) > 20, counts


def test_a_refused_file_has_written_nothing(tmp_path: Path) -> None:
    """Without the net of the other test."""
    made = project(tmp_path)
    rng, before, refused = random.Random(3), state(made), 0
    for content in list(answered(made).values()) * 4:
        damaged = fault(content, rng)
        try:
            taken = interchange.take_in(made, damaged, interchange.tool_of(damaged))
        except LabelwiseError:
            taken = None
        if taken is None or not taken.written:
            refused += 1
            assert state(made) == before
        before = state(made)
    made.project.close()
    assert refused > 10


if __name__ == "__main__":
    import resource
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        opened = project(Path(place))
        started = time.monotonic()
        with nothing_written():
            came, wrong = run(opened, int(sys.argv[1]), int(sys.argv[2]))
        opened.project.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = f"{dict(came)}; {len(wrong)} wrong; {time.monotonic() - started:.0f} s; peak {peak:.0f} MB\n"
    sys.stdout.write("\n\n".join([report, *wrong[:10]]))
