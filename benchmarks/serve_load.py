"""Load on the labelling page: many annotators answer at once; nothing is answered twice, nothing acknowledged is lost.

The server is a process of its own, the annotators are processes with a real HTTP client each. With --kills the server
is killed (SIGKILL) at random moments and started again; the annotators try again, as the page does (then the times
hold the server's absence too). Without --think the annotators answer with no pause at all, as many as the machine
bears; a person needs a second or more. Each run is a row of benchmarks/results/serve_load.csv.

    python benchmarks/serve_load.py --people 50 --queries 20000
    python benchmarks/serve_load.py --people 50 --queries 20000 --think 0.5
    python benchmarks/serve_load.py --people 10 --queries 2000 --kills 20
    python benchmarks/serve_load.py --ledger 'postgresql+psycopg://me@/empty?host=/run/postgresql'
"""

from __future__ import annotations

import argparse
import csv
import datetime
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PORT = 8791
IMAGES = 2000
RESULTS = Path(__file__).parent / "results" / "serve_load.csv"
SERVER = """
import sys
from pathlib import Path
from labelwise.project import opening
from labelwise.web import server
page = server.Page(opening.start(Path(sys.argv[1]), None))
server.run(page, "127.0.0.1", int(sys.argv[2]))
"""


def make(folder: Path, queries: int, people: int, ledger_url: str | None = None) -> list[str]:
    """A project with open box queries; returns the annotators' secrets."""
    from labelwise.project import opening
    from labelwise.queue.accounts import Accounts
    from labelwise.types import Query

    (folder / "data" / "images").mkdir(parents=True)
    records = []
    for i in range(min(IMAGES, queries)):
        Image.new("RGB", (64, 48), (i % 256, 90, 90)).save(folder / "data" / "images" / f"{i}.png")
        records.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 48})
    table = {"images": records, "annotations": [], "categories": [{"id": 0, "name": "cat"}]}
    (folder / "data" / "annotations.json").write_text(json.dumps(table))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        ("" if ledger_url is None else f'ledger = "{ledger_url}"\n')
        + f'[data]\nroot = "{(folder / "data").as_posix()}"\n[predict]\nviews = ["flip"]\n[ask]\nwho = "people"\n'
        f"[budget]\nper_round = [{queries}]\n"
    )
    opened = opening.start(folder / "project", str(recipe))
    ledger, names = opened.project.ledger, opened.pool.names
    ledger.add_images(opened.pool)
    ledger.mark_started(1, "ask")
    box = (1.0, 1.0, 30.0, 30.0)
    ledger.add_queries(1, [Query(1, k, names[k % len(names)], "box", box, 0, 1.0) for k in range(queries)])
    secrets = [Accounts(ledger).invite(f"person {k}", "annotator", time.time()) for k in range(people)]
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


def annotate(secret: str, number: int, think_s: float, start: Any, out: Any) -> None:
    """Reports when it is logged in, then answers until nothing is left and reports what was acknowledged."""
    try:
        person = Annotator(secret, number)
        out.put("ready")
        start.wait()
        out.put(work(person, think_s, random.Random(number)))
    except BaseException as error:
        out.put(f"annotator {number}: {error!r}")


def work(
    person: Annotator, think_s: float, chance: random.Random
) -> tuple[list[tuple[int, str, int, bool]], list[float]]:
    """What was acknowledged, and how long each answer with its next took (ms)."""
    said: list[tuple[int, str, int, bool]] = []
    times: list[float] = []
    queue: list[dict[str, Any]] = []
    idle = 0
    while idle < 3:
        if not queue:
            queue = person.send("POST", "/api/next", {"tab": person.tab, "most": 3})[0]["queries"]
            idle = 0 if queue else idle + 1
            time.sleep(0 if queue else 0.5)
            continue
        time.sleep(chance.uniform(0.5, 1.5) * think_s)
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
    return said, times


def hear(out: Any, n: int) -> list[Any]:
    """What `n` annotators report; the first that failed ends it all."""
    found = [out.get(timeout=3600) for _ in range(n)]
    failed = [one for one in found if isinstance(one, str) and one != "ready"]
    if failed:
        raise SystemExit("\n".join(failed))
    return found


def serve(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVER, str(folder / "project"), str(PORT)])


def wait_for(server: subprocess.Popen[bytes]) -> None:
    until = time.time() + 180
    while time.time() < until and server.poll() is None:
        try:
            line = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            line.request("GET", "/enter")
            line.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def check(
    folder: Path, said: list[tuple[int, str, int, bool]], queries: int, ledger_url: str | None = None
) -> dict[str, int]:
    """Compares the ledger with what was acknowledged."""
    from labelwise.ledger.ledger import Ledger

    ledger = Ledger.open(ledger_url or folder / "project" / "ledger.sqlite")
    with ledger.read() as connection:
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


def load(folder: Path, arguments: argparse.Namespace) -> tuple[list[Any], float, float]:
    """Starts server and annotators, kills the server now and then; what they report, and the seconds: wall, its CPU."""
    secrets = make(folder, arguments.queries, arguments.people, arguments.ledger)
    server = serve(folder)
    wait_for(server)
    spawn = multiprocessing.get_context("spawn")
    out, start = spawn.Queue(), spawn.Event()
    each = [(secret, number, arguments.think, start, out) for number, secret in enumerate(secrets)]
    people = [spawn.Process(target=annotate, args=one, daemon=True) for one in each]
    for person in people:
        person.start()
    try:
        hear(out, len(people))
        begun, cpu = time.perf_counter(), cpu_s(server.pid)
        start.set()
        chance = random.Random(arguments.seed)
        for _ in range(arguments.kills):
            time.sleep(chance.uniform(0.5, 3))
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            server = serve(folder)
            wait_for(server)
        found = hear(out, len(people))
        return found, time.perf_counter() - begun, cpu_s(server.pid) - cpu
    finally:
        server.terminate()
        server.wait()


def cpu_s(pid: int) -> float:
    """The processor time of a process so far; not a number where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def keep(result: dict[str, Any]) -> None:
    """Adds a row to the results."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=RESULTS.parent
    )
    packages = ("fastapi", "starlette", "uvicorn", "pydantic", "sqlalchemy")
    result |= {"command": " ".join(["python", "benchmarks/serve_load.py", *sys.argv[1:]])}
    result |= {"commit": commit.stdout.strip(), "date": datetime.date.today().isoformat()}
    result["machine"] = f"{processor()}, {os.cpu_count()} cores, load before {LOAD_BEFORE:.1f}"
    result["versions"] = ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)])
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        table = csv.DictWriter(file, result, lineterminator="\n")
        if new:
            table.writeheader()
        table.writerow(result)


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    names = (
        [row.split(":")[1].strip() for row in info.read_text().splitlines() if row.startswith("model name")]
        if (info.exists())
        else []
    )
    return names[0] if names else platform.machine()


LOAD_BEFORE = os.getloadavg()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--think", type=float, default=0.0, help="mean pause before an answer, in seconds")
    parser.add_argument("--ledger", help="the URL of an empty database; without it an SQLite file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found, seconds, cpu = load(Path(name), arguments)
        said = [one for part, _ in found for one in part]
        checked = check(Path(name), said, arguments.queries, arguments.ledger)
    times = np.concatenate([np.array(t) for _, t in found])
    result: dict[str, Any] = {k: getattr(arguments, k) for k in ("people", "queries", "kills")}
    result |= (
        {"think_s": arguments.think, "database": (arguments.ledger or "sqlite").partition(":")[0]}
        | checked
        | {"wall_s": round(seconds, 1)}
    )
    result["answers_per_s"] = round(len(times) / seconds, 1)
    result |= {f"p{p}_ms": round(float(np.percentile(times, p)), 1) for p in (50, 95, 99)}
    result["max_ms"] = round(float(times.max()), 1)
    result["server_cpu_ms_per_answer"] = None if arguments.kills else round(1000 * cpu / len(times), 2)
    keep(result)
    print(json.dumps(result, indent=1))
    if result["lost"] or result["answered_twice"] or result["unanswered"]:
        raise SystemExit("an answer was lost, doubled or never asked for")


if __name__ == "__main__":
    main()
