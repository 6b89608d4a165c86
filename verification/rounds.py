"""One run of :func:`verification.asking.ask_endpoint`: sends, retries, journals, decides what a failure means.

Every decision is the calling thread's; the threads only carry a request to the endpoint and its outcome back.
"""

from __future__ import annotations

import heapq
import queue
import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import CountermarkError, SuspectUnreachableError
from verification.asking import QueryFailedError, Reply
from verification.failures import Failures
from verification.probe import Answer
from verification.spending import reservation, tokens_of
from verification.transcripts import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verification.asking import Endpoint, Policy, Stop
    from verification.clocks import Clock
    from verification.journal import Journal
    from verification.probe import Probe
    from verification.spending import Spending

MAX_MODEL_CHARACTERS = 200
MAX_REASON_CHARACTERS = 300
MAX_TOKENS = 1_000_000_000
"""What a single answer can be charged, whatever its endpoint reports."""
GRACE = 5.0
"""Seconds after the timeout at which an endpoint that does not keep it is left alone."""


@dataclass(slots=True, kw_only=True)
class _Flight:
    """A request under way."""

    number: int
    index: int
    reserved: int
    deadline: float
    abandoned: bool = False


@dataclass(kw_only=True)
class Round:
    """One run; see :func:`verification.asking.ask_endpoint` for what goes in."""

    endpoint: Endpoint
    probes: Sequence[Probe]
    query_ids: Sequence[str]
    journal: Journal
    policy: Policy
    budget: Spending
    advance: Callable[[int], None]
    stop: Stop | None
    clock: Clock
    read: Callable[[str], str | None]
    suspect: str

    def __post_init__(self) -> None:
        self._kept = replay([line.body for line in self.journal.lines], [probe.id for probe in self.probes])
        self._fresh = deque(i for i, probe in enumerate(self.probes) if not self._kept.final(probe.id))
        self._retries: list[tuple[float, int]] = []
        self._flights: dict[int, _Flight] = {}
        self._held = Failures(self.policy, answered=bool(self._kept.answers))
        self._first_sent: dict[int, int] = {}
        self._tries: dict[int, int] = {}
        self._results: queue.SimpleQueue[tuple[int, Reply | BaseException]] = queue.SimpleQueue()
        self._sent = sum(self._kept.requests.values())
        self._prefix: list[Answer] = []
        self._stopped = self._halted = False
        self._starved: tuple[int, bool] | None = None
        self._gate = 0.0
        self._jitter = random.Random()  # noqa: S311 - when to try again, not a secret
        self._threads = min(self.policy.concurrency, getattr(self.endpoint, "threads", self.policy.concurrency))

    def run(self) -> list[Answer]:
        """The answers."""
        self.budget.charge(self.query_ids[0], queries=len(self._kept.requests), tokens=self._kept.tokens)
        if len(self._fresh) < len(self.probes):
            self.advance(len(self.probes) - len(self._fresh))
        try:
            self._ask()
        except CountermarkError:
            self._drain()  # what is under way is paid for
            raise
        reason = "stop" if self._stopped else "complete" if len(self._prefix) == len(self.probes) else "budget"
        if (self._kept.used, self._kept.ended) != (len(self._prefix), reason):
            self.journal.append({"kind": "end", "reason": reason, "used": len(self._prefix)})
        return self._prefix

    def _ask(self) -> None:
        while True:
            self._extend()
            if self._stopped or len(self._prefix) == len(self.probes):
                self._drain()
                return
            if not self._held.down:
                self._send()
            if self._working() or (not self._held.down and self._upcoming() is not None):
                self._wait()
            elif self._starved is not None and not self._held.down:
                reserved, fresh = self._starved
                self.budget.give_up(reserved, fresh=fresh)
                return
            else:
                self._judge()

    def _upcoming(self) -> float | None:
        """When something may be sent that may not be sent now; None for never."""
        at = self._retries[0][0] if self._retries else self._gate if self._fresh else 0.0
        at = max(at, self._gate)
        return at if at > self.clock.now() else None

    def _extend(self) -> None:
        """Lengthens the completed prefix, one answer at a time: what the stop is asked about."""
        while not self._stopped and len(self._prefix) < len(self.probes):
            probe = self.probes[len(self._prefix)]
            if not self._kept.final(probe.id):
                return
            body = self._kept.answers.get(probe.id)
            raw = body["raw"] if body else ""
            attempt = 1 if body else self._kept.lost[probe.id]["attempt"]
            answer = Answer(
                id=probe.id, suspect=self.suspect, arm=probe.arm, prompt_digest=probe.prompt_digest, raw=raw,
                parsed=self.read(raw), attempt=attempt,
            )  # fmt: skip
            self._prefix.append(answer)
            self._stopped = self.stop is not None and self.stop(self._prefix)

    def _send(self) -> None:
        """Sends what may go now: retries that are due, then the next of the plan."""
        self._starved = None
        while self._working() < self._threads and self.clock.now() >= self._gate:
            retry = bool(self._retries) and self._retries[0][0] <= self.clock.now()
            if not retry and not self._may_go_ahead():
                return
            index = self._retries[0][1] if retry else self._fresh[0]
            probe = self.probes[index]
            reserved, fresh = reservation(probe, self.policy), probe.id not in self._kept.requests
            if not self.budget.reserve(reserved, fresh=fresh):
                self._starved = (reserved, fresh)
                return
            if retry:
                heapq.heappop(self._retries)
            else:
                self._fresh.popleft()
            self._launch(index, reserved)

    def _may_go_ahead(self) -> bool:
        """Whether the next of the plan may be sent.

        Until the endpoint has answered once, one query goes at a time; under a stop, none further ahead than threads
        can work.
        """
        if not self._fresh or (not self._kept.answers and (self._working() or self._retries)):
            return False
        ahead = self._fresh[0] - len(self._prefix) - len(self._held)
        return self.stop is None or ahead < self._threads

    def _launch(self, index: int, reserved: int) -> None:
        probe, number = self.probes[index], self._sent
        self._sent += 1
        self.journal.append({"kind": "sent", "probe": probe.id, "request": number, "reserved": reserved})
        self._kept.requests[probe.id] += 1
        self._first_sent.setdefault(index, number)
        deadline = self.clock.now() + self.policy.timeout + GRACE
        self._flights[number] = _Flight(number=number, index=index, reserved=reserved, deadline=deadline)

        def fly() -> None:
            try:
                outcome: Reply | BaseException = self.endpoint.query(probe.prompt, query_id=self.query_ids[index])
            except BaseException as error:  # noqa: BLE001 - carried to the thread that decides
                outcome = error
            self._results.put((number, outcome))

        threading.Thread(target=fly, daemon=True, name=f"query-{number}").start()

    def _working(self) -> int:
        return sum(not flight.abandoned for flight in self._flights.values())

    def _wait(self) -> None:
        """Waits for one outcome, or until something is due; leaves alone who does not keep the timeout."""
        times = [flight.deadline for flight in self._flights.values() if not flight.abandoned]
        upcoming = self._upcoming()
        if upcoming is not None and len(times) < self._threads and not (self._halted or self._held.down):
            times.append(upcoming)
        found = self.clock.receive(self._results, until=min(times, default=None), busy=bool(self._working()))
        if found is not None:
            self._take(*found)
        now = self.clock.now()
        for flight in [f for f in self._flights.values() if not f.abandoned and f.deadline <= now]:
            flight.abandoned = True
            self._failed(flight, QueryFailedError("no answer and no failure in time", transient=True))

    def _take(self, number: int, outcome: Reply | BaseException) -> None:
        flight = self._flights.pop(number)
        if isinstance(outcome, Reply):
            self._answered(flight, outcome)
        elif not isinstance(outcome, QueryFailedError):
            raise outcome
        elif not flight.abandoned:
            self._failed(flight, outcome)

    def _answered(self, flight: _Flight, reply: Reply) -> None:
        """The first answer is kept, whichever request it came to; the journal has it before anything else does."""
        probe = self.probes[flight.index]
        reported = reply.prompt_tokens + reply.completion_tokens
        tokens = reported or flight.reserved - self.policy.max_tokens + tokens_of(reply.raw)
        tokens = 0 if flight.abandoned else max(0, min(MAX_TOKENS, tokens))  # charged when it was abandoned
        common = {"probe": probe.id, "request": flight.number, "tokens": tokens}
        late = self._kept.final(probe.id)
        body = {
            **common, "kind": "answer", "raw": _utf8(reply.raw, self.policy.max_characters),
            "model": _utf8(reply.model, MAX_MODEL_CHARACTERS), "characters": len(reply.raw),
        }  # fmt: skip
        self.journal.append({**body, "kind": "late"} if late else body)
        if not flight.abandoned:
            self.budget.settle(flight.reserved, tokens)
        if not late:
            self._kept.answers[probe.id] = body
            self._retries = [each for each in self._retries if each[1] != flight.index]
            heapq.heapify(self._retries)
            self.advance(1)
        for index in self._held.answered(flight.index, flight.number):
            self._lose(index, self._held.drop(index))

    def _failed(self, flight: _Flight, error: QueryFailedError) -> None:
        tokens = flight.reserved if error.billed else 0
        probe = self.probes[flight.index]
        self.journal.append(
            {
                "kind": "failure", "probe": probe.id, "reason": _utf8(error.reason, MAX_REASON_CHARACTERS),
                "request": flight.number, "tokens": tokens, "transient": error.transient,
            }
        )  # fmt: skip
        self.budget.settle(flight.reserved, tokens)
        if self._kept.final(probe.id):
            return
        if error.retry_after is not None:
            if error.retry_after > self.policy.patience:
                raise self._unreachable(error, f"; it asks to wait {error.retry_after:.0f} s")
            self._gate = max(self._gate, self.clock.now() + error.retry_after)
        tries = self._tries[flight.index] = self._tries.get(flight.index, 0) + 1
        if self._held.again(error, tries):
            due = self.clock.now() + max(error.retry_after or 0.0, self.policy.delay(tries, self._jitter.random()))
            heapq.heappush(self._retries, (due, flight.index))
        elif self._held.pointless(error):
            raise self._unreachable(error)
        elif self._held.hold(flight.index, error, first=self._first_sent[flight.index], newest=self._sent - 1):
            self._lose(flight.index, error)
        else:
            self.journal.append({"kind": "exhausted", "probe": probe.id})

    def _lose(self, index: int, error: QueryFailedError) -> None:
        """Declares a query failed for good: it counts against the claim."""
        probe = self.probes[index]
        attempt = self.policy.retries + 1 if error.transient else 1
        body = {"kind": "lost", "probe": probe.id, "attempt": attempt}
        self.journal.append(body)
        self._kept.lost[probe.id] = body
        self.advance(1)

    def _judge(self) -> None:
        """Nothing answers any more: the endpoint is down, unless these failed in an earlier run and none is left."""
        held = {self.probes[i].id for i in self._held}
        alone = all(self._kept.final(probe.id) or probe.id in held for probe in self.probes)
        if not (alone and self._kept.answers and held <= self._kept.exhausted):
            raise self._unreachable(self._held.last, f"; {len(held)} queries failed, and none after them was answered")
        for index in self._held:
            self._lose(index, self._held.drop(index))

    def _drain(self) -> None:
        """Takes what is still under way: it is paid for, and journaled."""
        self._halted = True
        while self._working():
            try:
                self._wait()
            except CountermarkError:
                continue  # the first error is the one that is reported

    def _unreachable(self, error: QueryFailedError, more: str = "") -> SuspectUnreachableError:
        return SuspectUnreachableError(
            f"got no answer of {self.suspect}: {_utf8(error.reason, MAX_REASON_CHARACTERS)}{more}; expected one",
            hint=error.hint or "what it said is kept: mend the endpoint or wait, and run the same command again",
        )


def _utf8(text: str, most: int) -> str:
    """At most so many characters, without what UTF-8 cannot say."""
    return text[:most].encode("utf-8", "replace").decode()
