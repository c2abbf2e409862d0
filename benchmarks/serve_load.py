"""Load on the labelling page: many annotators answer at once; nothing is answered twice, nothing acknowledged is lost.

The server is a process of its own, the annotators are processes with a real HTTP client each. With --kills the server
is killed (SIGKILL) at random moments and started again; the annotators try again, as the page does.

    python benchmarks/serve_load.py --people 50 --queries 20000
    python benchmarks/serve_load.py --people 10 --queries 2000 --kills 20
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PORT = 8791
SERVER = """
import sys, uvicorn
from pathlib import Path
from labelwise import context
from labelwise.web import server
page = server.Page(context.start(Path(sys.argv[1]), None))
uvicorn.run(server.create(page), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def make(folder: Path, queries: int, people: int) -> list[str]:
    """A project with open box queries; returns the annotators' secrets."""
    from labelwise import context
    from labelwise.store.people import People
    from labelwise.types import Query

    (folder / "data" / "images").mkdir(parents=True)
    records = []
    for i in range(8):
        Image.new("RGB", (64, 48), (30 * i, 90, 90)).save(folder / "data" / "images" / f"{i}.png")
        records.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 48})
    table = {"images": records, "annotations": [], "categories": [{"id": 0, "name": "cat"}]}
    (folder / "data" / "annotations.json").write_text(json.dumps(table))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'[data]\nroot = "{(folder / "data").as_posix()}"\n[predict]\nviews = ["flip"]\n[ask]\nwho = "people"\n'
        f"[budget]\nper_round = [{queries}]\n"
    )
    opened = context.start(folder / "project", str(recipe))
    ledger, names = opened.project.ledger, opened.pool.names
    ledger.add_images(opened.pool)
    ledger.mark_started(1, "ask")
    box = (1.0, 1.0, 30.0, 30.0)
    ledger.add_queries(1, [Query(1, k, names[k % len(names)], "box", box, 0, 1.0) for k in range(queries)])
    secrets = [People(ledger).invite(f"person {k}", "annotator", time.time()) for k in range(people)]
    opened.project.close()
    return secrets


class Annotator:
    """One person with one connection, that tries again when the server is away."""

    def __init__(self, secret: str, number: int) -> None:
        self.tab, self.headers = f"window-{number:04d}", {"content-type": "application/json"}
        self.line: http.client.HTTPConnection | None = None
        reply, headers = self.send("POST", "/api/enter", {"secret": secret})
        self.headers["cookie"] = headers["set-cookie"].split(";")[0]
        self.headers["x-csrf-token"] = self.send("GET", "/api/me")[0]["csrf"]
        del reply

    def send(self, verb: str, path: str, body: Any = None) -> tuple[Any, dict[str, str]]:
        until = time.time() + 120
        while True:
            try:
                if self.line is None:
                    self.line = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
                self.line.request(verb, path, None if body is None else json.dumps(body), self.headers)
                reply = self.line.getresponse()
                content = reply.read()
                if reply.status == 200:
                    return json.loads(content), {k.lower(): v for k, v in reply.getheaders()}
                raise SystemExit(f"{path}: {reply.status} {content[:200]!r}")
            except (OSError, http.client.HTTPException):
                self.line = None
                if time.time() > until:
                    raise
                time.sleep(0.05)


def annotate(secret: str, number: int, start: Any, out: Any) -> None:
    """Answers until nothing is left; reports what was acknowledged and how long each answer with its next took."""
    person, said, times = Annotator(secret, number), [], []
    start.wait()
    queue = person.send("POST", "/api/next", {"tab": person.tab, "most": 3})[0]["queries"]
    idle = 0
    while idle < 3:
        if not queue:
            time.sleep(0.5)
            idle += 1
            queue = person.send("POST", "/api/next", {"tab": person.tab, "most": 3})[0]["queries"]
            continue
        idle = 0
        query = queue.pop(0)
        verdict = ("background", "duplicate", "object")[query["query"] % 3]
        boxes = [query["box"]] if verdict == "object" else []
        body = {"tab": person.tab, "query": query["query"], "lease": query["lease"], "verdict": verdict}
        body |= {"boxes": boxes, "labels": [0] * len(boxes), "holding": [q["query"] for q in queue], "most": 3}
        begun = time.perf_counter()
        reply, _ = person.send("POST", "/api/answers", body)
        times.append(1000 * (time.perf_counter() - begun))
        said.append((query["query"], verdict, reply["answer"], reply["counts"]))
        queue += reply["queries"]
    out.put((said, times))


def serve(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVER, str(folder / "project"), str(PORT)])


def wait_for_server() -> None:
    until = time.time() + 180
    while time.time() < until:
        try:
            line = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            line.request("GET", "/enter")
            line.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def check(folder: Path, said: list[tuple[int, str, int, bool]], queries: int) -> dict[str, int]:
    """Compares the ledger with what was acknowledged."""
    from labelwise.store.ledger import Ledger

    ledger = Ledger.open(folder / "project" / "ledger.sqlite")
    with ledger._read() as connection:
        rows = connection.exec_driver_sql("SELECT id, query_id, ordinal, verdict FROM answers").all()
    by_id = {row[0]: row for row in rows}
    lost = [one for one in said if one[2] not in by_id or by_id[one[2]][1:4:2] != (one[0], one[1])]
    ledger.close()
    return {
        "acknowledged": len(said),
        "lost": len(lost),
        "stored": len(rows),
        "answered_twice": sum(row[2] > 0 for row in rows),
        "unanswered": queries - len({row[1] for row in rows}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secrets = make(folder, arguments.queries, arguments.people)
        server = serve(folder)
        wait_for_server()
        spawn = multiprocessing.get_context("spawn")
        out, start = spawn.Queue(), spawn.Event()
        people = [spawn.Process(target=annotate, args=(s, k, start, out)) for k, s in enumerate(secrets)]
        for person in people:
            person.start()
        time.sleep(3 + 0.2 * len(people))
        begun = time.perf_counter()
        start.set()
        chance = random.Random(arguments.seed)
        for _ in range(arguments.kills):
            time.sleep(chance.uniform(0.5, 3))
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            server = serve(folder)
            wait_for_server()
        found = [out.get() for _ in people]
        seconds = time.perf_counter() - begun
        for person in people:
            person.join()
        server.terminate()
        server.wait()
        times = np.concatenate([np.array(t) for _, t in found])
        result: dict[str, Any] = check(folder, [one for said, _ in found for one in said], arguments.queries)
    result |= {"people": arguments.people, "kills": arguments.kills, "seconds": round(seconds, 1)}
    result |= {f"p{p}_ms": round(float(np.percentile(times, p)), 1) for p in (50, 95, 99)}
    result |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
