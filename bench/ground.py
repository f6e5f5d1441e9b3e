"""
What a fleet stands on: PostgreSQL, Prefect's server, an S3 server and the sandbox, each as a process, with what each counts.

Requests to Prefect's server are those of its own access log; websockets, over which events and heartbeats go, are in there once
for each connection. Operations of the storage are the requests that the S3 server tells, one line each.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from bench.measure import tree_seconds
from bench.stage import ROOT
from tests.postgres import free_port, running_postgres, running_prefect
from tests.standing import wait_for

KEY = "bench"
BUCKET = "bench"
STOP_SECONDS = 30
SETTLED_SECONDS = 4.0
"""Rows are all written when none came for so long; Prefect's server writes events and logs in batches."""

_REQUEST = re.compile(r'"(GET|POST|PUT|PATCH|DELETE|WebSocket) (/api/\S*)')
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

KINDS: tuple[tuple[str, str], ...] = (
    (r"concurrency_limits", "leases of slots"),
    (r"get_scheduled_flow_runs", "polls of workers"),
    (r"GET /api/flow_runs/ID$", "looks at a run"),
    (r"PATCH /api/artifacts/", "updates of the progress"),
    (r"/artifacts/", "artifacts made"),
    (r"/logs/", "logs"),
    (r"/flow_runs|/task_runs", "runs and their states"),
    (r"WebSocket", "websockets opened"),
)
"""What a request to Prefect's server is counted as: the first found in its method and path, else `the rest`."""

BEAT, UPDATE = "prefect.flow-run.heartbeat", "prefect.artifact.updated"
"""Events that come as long as a run lasts: it beats, and shows how far it is."""

_EVENTS = """
SELECT event, count(DISTINCT events.id) AS number, count(event_resources.id) AS more
FROM events LEFT JOIN event_resources ON events.id = event_id WHERE event = ANY($1) GROUP BY event
"""

REST = "the rest"
OURS = "?bench"
"""Requests of the bench's own are not counted."""

POLLS = "polls of workers"
UPDATES = "updates of the progress"
LEASES = "leases of slots"


@dataclass(frozen=True)
class Count:
    """
    What was counted so far: requests to Prefect's server and operations of the storage by kind, seconds of CPU by part.
    """

    at: float
    api: Counter[str]
    storage: Counter[str]
    cpu: dict[str, float]

    def since(self, before: "Count") -> "Count":
        """
        Tell what came between; *at* is the seconds that passed.
        """
        cpu = {part: seconds - before.cpu.get(part, 0.0) for part, seconds in self.cpu.items()}
        return Count(self.at - before.at, self.api - before.api, self.storage - before.storage, cpu)


@dataclass(frozen=True)
class Rows:
    """
    Rows by table, and bytes of the database; how many events that come as long as a run lasts, and the rows that these are.
    """

    tables: Counter[str]
    size: int
    lasting: Counter[str]
    lasting_rows: Counter[str]

    @property
    def total(self) -> int:
        """
        All rows.
        """
        return self.tables.total()


@dataclass(frozen=True)
class Ground:
    """
    Where all of it is; *parts* are the processes whose CPU is counted, which fleets add to.
    """

    folder: Path
    api: str
    database: str
    service: str
    storage: str
    logs: Mapping[str, Path]
    parts: dict[str, list[int]] = field(default_factory=dict)

    def count(self) -> Count:
        """
        Count.
        """
        cpu = {part: sum(map(tree_seconds, pids)) for part, pids in self.parts.items()}
        return Count(time.monotonic(), self._api(), self._storage(), cpu)

    def _api(self) -> Counter[str]:
        text = self.logs["prefect"].read_text(errors="replace")
        return Counter(kind(f"{method} {path}") for method, path in _REQUEST.findall(text) if not path.endswith(OURS))

    def _storage(self) -> Counter[str]:
        lines = [line.split(" ") for line in self.logs["s3"].read_text().splitlines() if f" /{BUCKET}" in line]
        return Counter("LIST" if "list-type" in line[-1] else line[0] for line in lines)

    def rows(self) -> Rows:
        """
        Count the rows of all tables once no more come.
        """
        before, since = Rows(Counter(), 0, Counter(), Counter()), time.monotonic()
        while time.monotonic() - since < SETTLED_SECONDS:
            now = asyncio.run(_rows(self.database))
            if now.total != before.total:
                before, since = now, time.monotonic()
            time.sleep(0.5)
        return before

    def journal(self) -> list[dict[str, Any]]:
        """
        What the service was asked to speak.
        """
        rows = httpx.get(f"{self.service}/_config/requests", timeout=30).raise_for_status().json()
        return [row for row in rows if row["path"] == "/v1/tts"]

    def terms(self, *, limit: int, latency: float) -> None:
        """
        Give the service new terms; its journal is emptied.
        """
        knobs = {"concurrency_limit": limit, "latency": latency, "training": "at-once"}
        httpx.patch(f"{self.service}/_config", json=knobs).raise_for_status()
        httpx.delete(f"{self.service}/_config/requests").raise_for_status()

    def voice(self) -> str:
        """
        Make a trained voice, and return its id.
        """
        made = httpx.post(
            f"{self.service}/model",
            data={"type": "tts", "title": "Bench", "train_mode": "fast", "visibility": "private"},
            files={"voices": (ROOT / "data" / "reference.wav").read_bytes()},
            headers={"Authorization": f"Bearer {KEY}"},
        )
        return str(made.raise_for_status().json()["_id"])

    def put(self, name: str, content: str) -> None:
        """
        Write an object.
        """
        httpx.put(f"{self.storage}/{BUCKET}/{name}", content=content.encode()).raise_for_status()

    def host(self, name: str) -> dict[str, str]:
        """
        Make the environment of a host of its own: caches, state and Prefect's home are not those of another.
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("FISH_", "NARRATE_", "PREFECT_", "AWS_"))
        }
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "DO_NOT_TRACK": "1",
            "NO_PROXY": "127.0.0.1",
            "FISH_API_KEY": KEY,
            "FISH_BASE_URL": self.service,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_STATE_HOME": str(folder / "state"),
            "AWS_ENDPOINT_URL": self.storage,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def kind(request: str) -> str:
    """
    Tell what a request to Prefect's server is counted as, by its method and path.
    """
    plain = _ID.sub("ID", request).partition("?")[0]
    return next((name for pattern, name in KINDS if re.search(pattern, plain)), REST)


async def _rows(database: str) -> Rows:
    connection = await asyncpg.connect(database)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for (name,) in names}  # noqa: S608
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
        lasting = await connection.fetch(_EVENTS, [BEAT, UPDATE])
        numbers = Counter({row["event"]: row["number"] for row in lasting})
        return Rows(Counter(tables), size, numbers, Counter({row["event"]: row["number"] + row["more"] for row in lasting}))
    finally:
        await connection.close()


@contextmanager
def ground() -> Iterator[Ground]:
    """
    Set all of it up, and clear it away.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bench-fleet-", ignore_cleanup_errors=True) as name,
        running_postgres(durable=True) as postgres,
        _sandbox(Path(name)) as (service, sandbox),
        _s3(Path(name)) as (storage, s3),
    ):
        folder = Path(name)
        home = folder / "server"
        home.mkdir()
        with running_prefect(postgres.url, home, PREFECT_SERVER_LOGGING_LEVEL="INFO") as prefect:
            yield Ground(
                folder=folder,
                api=prefect.url,
                database=postgres.url.replace("+asyncpg", ""),
                service=service,
                storage=storage,
                logs={"prefect": prefect.log, "s3": folder / "s3.log"},
                parts={"prefect": [prefect.pid], "postgres": [postgres.pid], "stand-ins": [sandbox, s3]},
            )


@contextmanager
def _sandbox(folder: Path) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "flows", "sandbox", "--port", "0", "--voice", "quick", "--state", str(folder / "account")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - asked for as a pipe
        said = process.stdout.readline()
        if not said.startswith("ready "):
            raise SystemExit("the sandbox did not start")
        yield said.split()[1], process.pid
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


@contextmanager
def _s3(folder: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3_server", str(port)], cwd=ROOT, stdout=log, stderr=subprocess.DEVNULL
        )

    def answers() -> bool | None:
        try:
            return httpx.put(f"{url}/{BUCKET}", timeout=10).is_success or None
        except httpx.TransportError:
            return None

    try:
        wait_for(answers, what="the S3 server", seconds=120, every=0.2)
        yield url, process.pid
    finally:
        process.kill()
        process.wait(STOP_SECONDS)
