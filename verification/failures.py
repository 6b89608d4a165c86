"""Whose failure is it: the query's own, which counts against the claim, or the endpoint's, which counts for nothing?

A query whose tries are used up is *held*. If the endpoint then answers a request that was sent later, it was alive, and
the failure is the query's own. If too many are held in a row, or nothing is left to ask, it is taken for dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verification.asking import Policy, QueryFailedError

FIRST_TRIES = 3
"""Tries of a query at an endpoint that cannot be reached and never answered anything: more would not mend a typo."""


class Failures:
    """The held queries of one run. Requests are numbered in the order of sending, over all runs of a journal."""

    def __init__(self, policy: Policy, *, answered: bool) -> None:
        self._policy = policy
        self._answered = answered
        self._latest = -1
        self._held: dict[int, tuple[int, QueryFailedError]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._held))

    @property
    def down(self) -> bool:
        """Whether so many are held that nothing more should be sent."""
        return len(self._held) >= self._policy.give_up

    @property
    def last(self) -> QueryFailedError:
        """The newest failure that is held."""
        return list(self._held.values())[-1][1]

    def again(self, error: QueryFailedError, tries: int) -> bool:
        """Whether a query that failed so many times is to be tried once more."""
        most = self._policy.retries + 1
        if error.whole and not self._answered:
            most = min(most, FIRST_TRIES)
        return error.transient and tries < most

    def pointless(self, error: QueryFailedError) -> bool:
        """Whether a failure that is not to be tried again says that asking anything is: nothing ever worked."""
        return error.whole and not self._answered

    def hold(self, index: int, error: QueryFailedError, *, first: int, newest: int) -> bool:
        """Holds a query whose requests began with number ``first``; True if it is already known for its own failure.

        ``newest`` is the number of the newest request: what is asked for with an expired key must not be called alive
        by an answer to a request from before it expired.
        """
        refused = not error.transient and not error.whole and self._answered  # it works, and wants not this query
        since = newest if error.whole else first
        if refused or since < self._latest:
            return True
        self._held[index] = (since, error)
        return False

    def answered(self, index: int, number: int) -> list[int]:
        """Takes note of an answer to request ``number`` of a query; gives the queries that it shows to be lost."""
        self._answered = True
        self._latest = max(self._latest, number)
        self._held.pop(index, None)
        return [i for i, (since, _) in self._held.items() if since < self._latest]

    def drop(self, index: int) -> QueryFailedError:
        """Lets a held query go, and gives its failure."""
        return self._held.pop(index)[1]
