"""What an audit of a paid endpoint may spend, has spent, and will spend at most.

A *query* is a planned probe that was sent, however many requests it took: the same query under the same id. *Tokens*
are those that the endpoint reported; where it reports none, or the outcome of a request is unknown (a timeout, a lost
connection, a killed process), an estimate is charged, since it may have been billed. The estimate is a third of the
text's UTF-8 bytes and :data:`OVERHEAD` for what surrounds it: high for English, about right for Chinese.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.asking import Policy
    from verification.probe import Probe

OVERHEAD = 16
"""Tokens of a chat template and a short system prompt."""
_BYTES_PER_TOKEN = 3
_MILLION = 1_000_000


def tokens_of(text: str) -> int:
    """About how many tokens ``text`` has: rounded up, and above the mark rather than below."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


class Spending:
    """A budget that several suspects and claims share. Thread-safe.

    Args:
        queries: how many probes may be sent, or None for as many as are planned.
        tokens: how many tokens may be charged, or None.

    ``short_of`` says what ran out ("" if nothing did): "queries" or "tokens".
    """

    def __init__(self, *, queries: int | None = None, tokens: int | None = None) -> None:
        for name, limit in (("queries", queries), ("tokens", tokens)):
            if limit is not None and limit < 0:
                raise UsageError(f"got a budget of {limit} {name}, expected none below 0")
        self.short_of = ""
        self._limits = (queries, tokens)
        self._queries = self._tokens = self._reserved = 0
        self._known: set[str] = set()
        self._lock = threading.Lock()

    @property
    def queries(self) -> int:
        """Probes sent so far."""
        return self._queries

    @property
    def tokens(self) -> int:
        """Tokens charged so far."""
        return self._tokens

    def charge(self, journal: str, *, queries: int, tokens: int) -> None:
        """Counts what an earlier process spent, once for each ``journal`` (any name of it)."""
        with self._lock:
            if journal not in self._known:
                self._known.add(journal)
                self._queries += queries
                self._tokens += tokens

    def reserve(self, tokens: int, *, fresh: bool) -> bool:
        """Sets ``tokens`` aside for a request, and counts a query if it is ``fresh``; False if either is not there.

        What is missing is named in ``short_of`` only by :meth:`give_up`: it may come back from requests under way.
        """
        with self._lock:
            if self._lacking(tokens, fresh=fresh):
                return False
            self._queries += fresh
            self._reserved += tokens
            return True

    def settle(self, reserved: int, tokens: int) -> None:
        """Gives back what was set aside for a request, and charges what it took."""
        with self._lock:
            self._reserved -= reserved
            self._tokens += tokens

    def give_up(self, tokens: int, *, fresh: bool) -> None:
        """Records what a request of ``tokens`` was short of."""
        with self._lock:
            self.short_of = self._lacking(tokens, fresh=fresh)

    def _lacking(self, tokens: int, *, fresh: bool) -> str:
        queries, most = self._limits
        if fresh and queries is not None and self._queries >= queries:
            return "queries"
        if most is not None and self._tokens + self._reserved + tokens > most:
            return "tokens"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What asking will take, before the first query.

    Args:
        queries: planned probes; a sequential audit may stop long before.
        prompt_tokens, completion_tokens: estimates, the latter if every answer is as long as allowed.
        cost: of one request a query, in the currency of the prices.
        most_requests, cost_at_most: if every query needs all its retries and all of them are billed.
    """

    queries: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    most_requests: int
    cost_at_most: float


def reservation(probe: Probe, policy: Policy) -> int:
    """The tokens set aside for one request."""
    return tokens_of(probe.prompt) + OVERHEAD + policy.max_tokens


def estimate(
    probes: Sequence[Probe], policy: Policy, *, price_in: float = 0.0, price_out: float = 0.0, system: str | None = None
) -> Estimate:
    """What ``probes`` will take. Prices are for a million tokens of prompts and of answers.

    Raises:
        UsageError: nothing to ask, or a negative price.
    """
    if not probes:
        raise UsageError("got no probes, expected at least one", hint="an empty plan proves nothing")
    if not (price_in >= 0 and price_out >= 0):
        raise UsageError(f"got prices {price_in} and {price_out}, expected none below 0")
    around = OVERHEAD + tokens_of(system or "")
    asked = sum(tokens_of(probe.prompt) + around for probe in probes)
    answered = len(probes) * policy.max_tokens
    cost = (asked * price_in + answered * price_out) / _MILLION
    tries = policy.retries + 1
    return Estimate(
        queries=len(probes), prompt_tokens=asked, completion_tokens=answered, cost=cost,
        most_requests=len(probes) * tries, cost_at_most=cost * tries,
    )  # fmt: skip
