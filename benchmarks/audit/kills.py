"""kill -9 during an audit of an endpoint over HTTP: nothing answered is asked again, and the transcript is the same.

A process audits a local server through the ``openai`` client, is killed at a random moment and started again, until the
audit is done; then the next one begins. The server is another process's thread: it counts requests and answers by
idempotency key, and lives through every kill.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.audit import COMMAND
from benchmarks.rows import row
from countermark.manifest import digest
from tests.servers import OpenAIServer
from verification.asking import Policy, ask_endpoint, query_id
from verification.endpoints import ChatEndpoint
from verification.journal import read_journal
from verification.probe import Probe
from verification.transcripts import transcript

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rows import Row

KILLS = 200
PROBES = 120
DELAY = 0.01
SPREAD = 0.3
"""Seconds after its first new answer within which a process is killed …"""
EARLY, START = 0.2, 1.5
"""… but for this share of the kills, which fall into so many seconds from its start."""
_TAG, _PLAN = "worker", "plan of the kills"


@dataclass
class Tally:
    """What the trials found: all but the first three must stay 0."""

    kills: int = 0
    audits: int = 0
    queries: int = 0
    repeated: int = 0
    """Answered queries (their answer was in the journal at the kill) that were sent again."""
    computed_twice: int = 0
    """Queries that an endpoint which honours idempotency keys answered, and would bill, twice."""
    missing: int = 0
    other: int = 0
    """Audits whose transcript is not that of an audit without kills."""
    in_flight: int = 0
    """Queries that were under way at a kill and sent again under their own key: what no client can avoid."""


def probes() -> list[Probe]:
    """What is asked."""
    return [Probe(id=f"keyed-{i}", arm="keyed", index=i, carrier=0, prompt=f"prompt {i}") for i in range(PROBES)]


def says(prompt: str) -> str:
    """What the server answers."""
    return f"{'Yes' if int(prompt.rsplit(maxsplit=1)[-1]) % 3 else 'No'}, it is {prompt}."


def work(url: str, journal: Path, said: Callable[[int], None]) -> None:
    """One audit, from wherever the journal is; ``said`` is told how many answers are new."""
    policy = Policy(concurrency=4, timeout=20.0)
    endpoint = ChatEndpoint("suspect", url, model="served", policy=policy)
    ask_endpoint(
        endpoint, probes(), suspect="suspect", allowed=("No", "Yes"), parser="first_word/1", journal=journal,
        policy=policy, plan=_PLAN, advance=said,
    )  # fmt: skip


def run(folder: Path, kills: int, seed: int) -> Tally:
    """Audits killed again and again, until there were so many kills and the last audit is done."""
    tally, chance = Tally(), random.Random(seed)  # noqa: S311 - when to kill
    with OpenAIServer(says, delay=DELAY) as server:
        work(server.url, folder / "undisturbed", lambda _: None)
    expected = digest(transcript(folder / "undisturbed"))
    while tally.kills < kills:
        path = folder / f"audit-{tally.audits}"
        with OpenAIServer(says, delay=DELAY) as server:
            _audit(server, path, tally, kills, chance)
            tally.audits += 1
            tally.queries += len(server.arrived)
            tally.computed_twice += sum(count > 1 for count in server.computed.values())
        found = transcript(path)
        tally.missing += PROBES - len(found)
        tally.other += digest(found) != expected
    return tally


def _audit(server: OpenAIServer, path: Path, tally: Tally, kills: int, chance: random.Random) -> None:
    """One audit to its end, its process killed as long as there are kills left."""
    names = {query_id(plan=_PLAN, suspect="suspect", probe=probe): probe.id for probe in probes()}
    while True:
        before = Counter(server.arrived)
        answered = _answered(path)
        killed = _killed(server.url, path, chance if tally.kills < kills else None)
        tally.kills += killed
        again = Counter(server.arrived) - before
        tally.repeated += sum(count for key, count in again.items() if names[key] in answered)
        tally.in_flight += sum(1 for key in again if before[key] and names[key] not in answered)
        if not killed:
            return


def _answered(path: Path) -> set[str]:
    if not path.exists() or not path.stat().st_size:
        return set()
    return {line.body["probe"] for line in read_journal(path) if line.body["kind"] == "answer"}


def _killed(url: str, path: Path, chance: random.Random | None) -> bool:
    """Starts a process; kills it at a random moment, if ``chance`` is given. False if it was done before."""
    command = [sys.executable, "-m", "benchmarks.audit.kills", _TAG, url, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout  # noqa: S101 - for the type checker
    with process.stdout:
        if chance is not None:
            early = chance.random() < EARLY
            for _ in range(0 if early else 2):  # what the journal held, then a new answer
                process.stdout.readline()
            time.sleep(chance.random() * (START if early else SPREAD))
            process.send_signal(signal.SIGKILL)
        process.stdout.read()
    status = process.wait(120)
    if status not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"got an audit that ended with status {status}, expected 0 or a kill")
    return status != 0


def rows(kills: int = KILLS) -> list[Row]:
    """The table."""
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="countermark-kills-"))
    try:
        tally = run(folder, kills, seed=7)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    common = {"trials": tally.kills, "seconds": time.monotonic() - started, "command": f"{COMMAND} kills"}
    none = ("==", 0.0)
    return [
        row("kill -9 during an audit over HTTP: kills", tally.kills, bar=(">=", kills), **common),
        row("kill -9: audits finished", tally.audits, **common),
        row("kill -9: answered queries sent again", tally.repeated, bar=none, **common),
        row("kill -9: queries that the server answered twice", tally.computed_twice, bar=none, **common),
        row("kill -9: queries without an answer", tally.missing, bar=none, **common),
        row("kill -9: transcripts unlike that of an audit without kills", tally.other, bar=none, **common),
        row("kill -9: queries under way at a kill, sent again under their own key", tally.in_flight, **common),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == [_TAG]:
        work(sys.argv[2], Path(sys.argv[3]), lambda count: print(count, flush=True))
