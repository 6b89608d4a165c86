"""What the tests of asking share: probes, a counting endpoint, one call with everything set."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from verification.asking import Policy, QueryFailedError, Reply, ask_endpoint
from verification.clocks import VirtualClock
from verification.probe import Probe

ALLOWED = ("No", "Yes")
DROPPED = QueryFailedError("dropped", transient=True)
DOWN = QueryFailedError("no connection", transient=True, whole=True, billed=False)


@contextmanager
def memory():
    """A folder in memory where there is one: fsync on a busy disk takes longer than all that these tests do."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def probes_of(count, arm="keyed"):
    return [Probe(id=f"{arm}-{i}", arm=arm, index=i, carrier=0, prompt=f"prompt {i}") for i in range(count)]


PROBES = probes_of(20)


def says(prompt):
    return f"{'Yes' if int(prompt.split()[-1]) % 3 else 'No'}, {prompt}"


class Counting:
    """Answers, counts calls by query id and prompt, and fails as ``fail(prompt, nth)`` says (an exception or None)."""

    def __init__(self, fail=lambda _prompt, _nth: None, answer=says, model="m"):
        self.name = "counting"
        self.asked = Counter()
        self.ids = {}
        self.order = []
        self._fail, self._answer, self._model = fail, answer, model
        self._lock = threading.Lock()

    def query(self, prompt, *, query_id):
        with self._lock:
            self.asked[prompt] += 1
            self.ids.setdefault(prompt, set()).add(query_id)
            self.order.append(prompt)
            nth = self.asked[prompt]
        error = self._fail(prompt, nth)
        if error is not None:
            raise error
        return Reply(raw=self._answer(prompt), model=self._model, prompt_tokens=5, completion_tokens=2)


def ask(endpoint, journal, probes=PROBES, **more):
    """One call; a virtual clock and two threads unless told otherwise."""
    policy = more.pop("policy", None) or Policy(concurrency=more.pop("concurrency", 2), retries=more.pop("retries", 8))
    settings = {"suspect": "s", "allowed": ALLOWED, "parser": "first_word/1", "clock": VirtualClock(), **more}
    return ask_endpoint(endpoint, probes, journal=journal, policy=policy, **settings)
