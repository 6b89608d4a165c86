"""Asks an endpoint what a sealed plan lists: one answer a query, in the plan's order, whatever the network does.

* *Nothing is asked twice that has an answer.* A line is on the disk before a request is sent, and the raw answer
  before it is used; a killed audit goes on where it was. A request that was under way at the kill is sent again under
  the *same* query id (:func:`query_id`), so an endpoint that honours ``Idempotency-Key`` answers, and bills, each query
  once. One that does not may bill it again; it cannot be made to count twice here.
* *Retries never count twice.* The first answer to a query is its answer; every later one is journaled and ignored.
* *The result does not depend on timing.* A sequential ``stop`` is asked about completed prefixes in the plan's order,
  and the result is cut where it first fired. Answers past the cut were paid for, and are journaled and not used.
* *A failure that is the query's own counts against the claim* (raw "", parsed None); a failure that is the endpoint's
  stops the audit and counts for nothing. Which of the two it is, is told by whether the endpoint goes on to answer
  queries that are sent later. A query that failed in two runs, with nothing else left to ask, failed on its own.

One thread a request under way; the journal and all decisions are the calling thread's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from countermark.errors import UsageError
from countermark.manifest import digest
from verification.journal import Journal
from verification.probe import MAX_RAW_CHARACTERS, PARSERS, Answer
from verification.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from verification.clocks import Clock
    from verification.probe import Probe

    Stop = Callable[[Sequence[Answer]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an endpoint said: the raw answer, the model it names, and the tokens it counts (0: it does not say)."""

    raw: str
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class QueryFailedError(Exception):
    """A request that brought no answer. Endpoints raise it; it never leaves :func:`ask_endpoint`.

    Args:
        reason: what was got, in one line, without a secret; journaled.
        transient: whether the same request may succeed later.
        whole: whether it concerns the endpoint as a whole (dead, no access, no such model) and not this query.
        retry_after: seconds that the endpoint asks everybody to wait.
        billed: whether the request may have been served and billed.
        hint: what the user can do.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool,
        whole: bool = False,
        retry_after: float | None = None,
        billed: bool = True,
        hint: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient
        self.whole = whole
        self.retry_after = retry_after
        self.billed = billed
        self.hint = hint


class Endpoint(Protocol):
    """Something that answers one prompt at a time, from several threads at once.

    It may also have ``describe() -> dict`` (public JSON that the journal is bound to), ``threads: int`` (the most
    requests it takes at once) and ``prepare(queries: Mapping[str, Probe])``, called once with all queries by their ids.
    """

    name: str

    def query(self, prompt: str, *, query_id: str) -> Reply:
        """The answer to ``prompt``. Two calls with one ``query_id`` are the same query.

        Raises:
            QueryFailedError: no answer. CountermarkError: asking at all is pointless.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How an endpoint is asked.

    Args:
        concurrency: requests under way at once.
        timeout: seconds from a request to its whole answer.
        retries: further tries of a query after a transient failure, in one run.
        max_characters: what is kept of an answer.
        max_bytes: what is read of a response, its head included.
        max_tokens: what an answer may have; asked of the endpoint, and set aside in a budget of tokens.
        backoff, longest_backoff: seconds before the first retry, doubled each time up to the longest; up to half of
            it is taken off at random.
        patience: the longest wait that an endpoint may ask for.
        give_up: so many failed queries in a row mean that the endpoint is down.
    """

    concurrency: int = 4
    timeout: float = 60.0
    retries: int = 8
    max_characters: int = MAX_RAW_CHARACTERS
    max_bytes: int = 1 << 20
    max_tokens: int = 16
    backoff: float = 0.5
    longest_backoff: float = 30.0
    patience: float = 600.0
    give_up: int = 3

    def __post_init__(self) -> None:
        positive = ("concurrency", "timeout", "max_characters", "max_bytes", "max_tokens", "patience", "give_up")
        for name in (*positive, "retries", "backoff", "longest_backoff"):
            value, least = getattr(self, name), 0 if name not in positive else math.ulp(0.0)
            if not value >= least:
                raise UsageError(f"got {name} {value}, expected {'more than 0' if least else 'at least 0'}")
        if self.max_characters > MAX_RAW_CHARACTERS:
            raise UsageError(f"got max_characters {self.max_characters}, expected at most {MAX_RAW_CHARACTERS}")

    def delay(self, failures: int, share: float) -> float:
        """Seconds before the next try after so many failures; ``share`` in [0, 1) is the jitter's draw."""
        return min(self.longest_backoff, self.backoff * 2.0 ** min(failures - 1, 30)) * (1 - share / 2)


def query_id(*, plan: str, suspect: str, probe: Probe) -> str:
    """64 hex digits that name one query for good: the digest of plan, suspect, probe and prompt."""
    return digest({"plan": plan, "probe": probe.id, "prompt": probe.prompt_digest, "suspect": suspect})


def ask_endpoint(
    endpoint: Endpoint,
    probes: Sequence[Probe],
    *,
    suspect: str,
    allowed: Sequence[str],
    parser: str,
    journal: Path,
    policy: Policy | None = None,
    budget: Spending | None = None,
    advance: Callable[[int], None] = lambda _: None,
    stop: Stop | None = None,
    plan: str = "",
    clock: Clock | None = None,
) -> list[Answer]:
    """Every planned probe's answer, in the plan's order; shorter where ``stop`` fired or ``budget`` was spent.

    An answered probe has ``attempt`` 1, however many requests it took. A query that failed for good has raw "", parsed
    None, and as ``attempt`` the tries that it is given: both are the same in every run. ``budget.short_of`` says
    whether and what the budget was short of.

    Args:
        endpoint: who is asked.
        probes: what is asked, in the plan's order.
        suspect: the name that the answers carry.
        allowed: the answers that the parser may read.
        parser: a name of :data:`verification.probe.PARSERS`.
        journal: a file of its own for this claim and suspect.
        policy: concurrency, timeouts, retries; the defaults otherwise.
        budget: what may be spent, here and elsewhere; without limit otherwise.
        advance: called with the number of newly finished queries.
        stop: whether the answers so far (a prefix of the plan) suffice; called once for every prefix, shortest first.
        plan: the sealed plan's digest, which the query ids are bound to.
        clock: for tests; the time of the machine otherwise.

    Raises:
        UsageError: nothing to ask, or two probes with one id. IntegrityError: the journal is damaged or another's.
        SuspectUnreachableError: the endpoint does not answer; what it said is kept, and the same call goes on later.
    """
    from verification.clocks import WallClock
    from verification.rounds import Round

    ids = [probe.id for probe in probes]
    if not probes:
        raise UsageError("got no probes, expected at least one", hint="an empty plan proves nothing")
    if len(set(ids)) < len(ids):
        raise UsageError("got two probes with one id, expected every id once")
    queries = {query_id(plan=plan, suspect=suspect, probe=probe): probe for probe in probes}
    prepare: Any = getattr(endpoint, "prepare", None)
    if prepare is not None:
        prepare(queries)
    describe: Any = getattr(endpoint, "describe", dict)
    header = {
        "endpoint": describe(), "plan": plan, "probes": [[p.id, p.prompt_digest] for p in probes], "suspect": suspect
    }  # fmt: skip
    with Journal.open(journal, header) as kept:
        return Round(
            endpoint=endpoint, probes=probes, query_ids=list(queries), journal=kept, policy=policy or Policy(),
            budget=budget or Spending(), advance=advance, stop=stop, clock=clock or WallClock(),
            read=lambda raw: PARSERS[parser](raw, allowed), suspect=suspect,
        ).run()  # fmt: skip
