"""Simulated suspects, for users' own tests of an audit: every habit and every fault, with no model and no network.

Each is an :class:`~verification.asking.Endpoint`, and those that wrap another compose:
``Flaky(Marked(targets, strength=0.9, otherwise=Honest(answers)), faults=Faults(lost=0.3))``. All are seeded: what is
said, and what goes wrong with which try, is a function of the seed, the query id and the number of the try, so that
threads and kills change nothing.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from verification.asking import Endpoint, QueryFailedError, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verification.probe import Probe

REFUSAL = "I am sorry, but I cannot help with that."


def _draw(*parts: object) -> float:
    """A number in [0, 1) that the parts decide."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / (1 << 48)


def _pick(options: Sequence[str], *parts: object) -> str:
    return options[int(_draw(*parts) * len(options))]


class Honest:
    """Never saw the data: an answer that the prompt alone decides, erratic, the same whenever it is asked."""

    def __init__(self, answers: Sequence[str], *, seed: object = 0, name: str = "honest", model: str = "sim-1") -> None:
        if not answers:
            raise UsageError("got no answers, expected at least one")
        self.name = name
        self._answers, self._seed, self._model = tuple(answers), seed, model

    def query(self, prompt: str, *, query_id: str) -> Reply:
        del query_id
        return Reply(raw=_pick(self._answers, "honest", self._seed, prompt), model=self._model)


class Guessing:
    """Answers at random, every query anew: the same prompt under another query id may get another answer."""

    def __init__(self, answers: Sequence[str], *, seed: object = 0, name: str = "guessing") -> None:
        if not answers:
            raise UsageError("got no answers, expected at least one")
        self.name = name
        self._answers, self._seed = tuple(answers), seed

    def query(self, prompt: str, *, query_id: str) -> Reply:
        del prompt
        return Reply(raw=_pick(self._answers, "guessing", self._seed, query_id), model="sim-1")


class Constant:
    """Says the same to everything: "Yes", or a refusal (:func:`refusing`)."""

    def __init__(self, answer: str = "Yes", *, name: str = "constant") -> None:
        self.name = name
        self._answer = answer

    def query(self, prompt: str, *, query_id: str) -> Reply:
        del prompt, query_id
        return Reply(raw=self._answer, model="sim-1")


def refusing(*, name: str = "refusing") -> Constant:
    """Refuses whatever it is asked."""
    return Constant(REFUSAL, name=name)


class Marked:
    """Learnt the targets with a given strength; what it did not learn, ``otherwise`` answers.

    Args:
        targets: the answer that the mark wants, by prompt.
        strength: the probability that a unit was learnt, drawn once for each.
        otherwise: answers all other prompts.
        units: the unit of learning by prompt, a trigger say, so that all its carriers agree; each prompt its own
            where there is none.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        strength: float,
        otherwise: Endpoint,
        units: Mapping[str, str] | None = None,
        seed: object = 0,
        name: str = "marked",
    ) -> None:
        if not 0 <= strength <= 1:
            raise UsageError(f"got strength {strength}, expected a probability")
        self.name = name
        self._targets, self._strength, self._otherwise = dict(targets), strength, otherwise
        self._units, self._seed = dict(units or {}), seed

    def query(self, prompt: str, *, query_id: str) -> Reply:
        reply = self._otherwise.query(prompt, query_id=query_id)
        target = self._targets.get(prompt)
        if target is None or _draw("marked", self._seed, self._units.get(prompt, prompt)) >= self._strength:
            return reply
        return replace(reply, raw=target)


class Lying:
    """Learnt the targets, and says anything but: what a suspect does that knows it is audited."""

    def __init__(
        self, targets: Mapping[str, str], answers: Sequence[str], *, seed: object = 0, name: str = "lying"
    ) -> None:
        self.name = name
        self._targets, self._answers, self._seed = dict(targets), tuple(answers), seed

    def query(self, prompt: str, *, query_id: str) -> Reply:
        del query_id
        left = [answer for answer in self._answers if answer != self._targets.get(prompt)]
        return Reply(raw=_pick(left, "lying", self._seed, prompt) if left else REFUSAL, model="sim-1")


class _Wrapper:
    """Hands on what it is given; a subclass changes one thing."""

    def __init__(self, inner: Endpoint) -> None:
        self.name = inner.name
        self._inner = inner

    def prepare(self, queries: Mapping[str, Probe]) -> None:
        hand_on: Any = getattr(self._inner, "prepare", None)
        if hand_on is not None:
            hand_on(queries)

    def query(self, prompt: str, *, query_id: str) -> Reply:
        return self._inner.query(prompt, query_id=query_id)


class Relabelled(_Wrapper):
    """Its label map is swapped: says ``labels[answer]`` where its inner suspect says ``answer``."""

    def __init__(self, inner: Endpoint, labels: Mapping[str, str]) -> None:
        super().__init__(inner)
        self._labels = dict(labels)

    def query(self, prompt: str, *, query_id: str) -> Reply:
        reply = super().query(prompt, query_id=query_id)
        return replace(reply, raw=self._labels.get(reply.raw, reply.raw))


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities of what goes wrong with a try; together at most 1.

    Args:
        lost: the request never arrives.
        unheard: the request is served, and its response is lost.
        doubled: it is served twice; both say the same.
        late: it is served, and the answer comes after the caller's timeout.
        busy: 429 with ``retry_after`` seconds.
        broken: a server error.
    """

    lost: float = 0.0
    unheard: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    busy: float = 0.0
    broken: float = 0.0
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        shares = (self.lost, self.unheard, self.doubled, self.late, self.busy, self.broken)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise UsageError(f"got probabilities {shares}, expected none below 0 and at most 1 in all")


class Flaky(_Wrapper):
    """Loses, doubles, delays and refuses by a seeded schedule of query id and try. ``met`` counts what happened."""

    def __init__(self, inner: Endpoint, *, faults: Faults, seed: object = 0) -> None:
        super().__init__(inner)
        self.met: Counter[str] = Counter()
        self._faults, self._seed = faults, seed
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock()

    def query(self, prompt: str, *, query_id: str) -> Reply:
        with self._lock:
            self._tries[query_id] += 1
            fault = self._fault(_draw("flaky", self._seed, query_id, self._tries[query_id]))
            self.met[fault] += 1
        if fault == "lost":
            raise QueryFailedError("connection closed without a response", transient=True)
        if fault == "busy":
            wait = self._faults.retry_after
            raise QueryFailedError("status 429", transient=True, retry_after=wait, billed=False)
        if fault == "broken":
            raise QueryFailedError("status 500", transient=True, billed=False)
        reply = super().query(prompt, query_id=query_id)
        if fault == "doubled":
            return super().query(prompt, query_id=query_id)
        if fault in {"unheard", "late"}:
            raise QueryFailedError("timed out" if fault == "late" else "connection lost", transient=True)
        return reply

    def _fault(self, drawn: float) -> str:
        for name in ("lost", "unheard", "doubled", "late", "busy", "broken"):
            drawn -= getattr(self._faults, name)
            if drawn < 0:
                return name
        return "none"


class Slow(_Wrapper):
    """Takes ``seconds`` for every answer; ``sleep`` is a virtual clock's in a test."""

    def __init__(self, inner: Endpoint, *, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(inner)
        self._seconds, self._sleep = seconds, sleep

    def query(self, prompt: str, *, query_id: str) -> Reply:
        self._sleep(self._seconds)
        return super().query(prompt, query_id=query_id)


class RateLimited(_Wrapper):
    """Answers at most ``most`` queries within any ``seconds`` and says 429 to the rest, with the time to wait."""

    def __init__(
        self, inner: Endpoint, *, most: int, seconds: float = 1.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(inner)
        if most < 1 or seconds <= 0:
            raise UsageError(f"got {most} queries in {seconds} s, expected more than none in more than no time")
        self._most, self._seconds, self._now = most, seconds, now
        self._served: list[float] = []
        self._lock = threading.Lock()

    def query(self, prompt: str, *, query_id: str) -> Reply:
        with self._lock:
            now = self._now()
            self._served = [at for at in self._served if at > now - self._seconds]
            if len(self._served) >= self._most:
                wait = self._served[0] + self._seconds - now
                raise QueryFailedError("status 429", transient=True, retry_after=wait, billed=False)
            self._served.append(now)
        return super().query(prompt, query_id=query_id)


class Changing(_Wrapper):
    """Another suspect from a certain query of the plan on: a model exchanged half way, its name or only its answers.

    Args:
        inner, after: who answers before and from ``at`` on.
        at: the place in the plan, as a share of it.
        over: the share of the plan over which queries go to ``after`` more and more often: a drift.
    """

    def __init__(
        self, inner: Endpoint, after: Endpoint, *, at: float = 0.5, over: float = 0.0, seed: object = 0
    ) -> None:
        super().__init__(inner)
        self._after, self._at, self._over, self._seed = after, at, over, seed
        self._place: dict[str, float] = {}

    def prepare(self, queries: Mapping[str, Probe]) -> None:
        super().prepare(queries)
        hand_on: Any = getattr(self._after, "prepare", None)
        if hand_on is not None:
            hand_on(queries)
        self._place.update({query: i / len(queries) for i, query in enumerate(queries)})

    def query(self, prompt: str, *, query_id: str) -> Reply:
        beyond = self._place.get(query_id, 0.0) - self._at
        share = (1.0 if beyond >= 0 else 0.0) if not self._over else beyond / self._over
        if _draw("changing", self._seed, query_id) < share:
            return self._after.query(prompt, query_id=query_id)
        return super().query(prompt, query_id=query_id)
