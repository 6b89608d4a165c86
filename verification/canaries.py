"""Did the suspect change while it was asked? Prompts free of any key, asked at start, middle and end.

At greedy decoding a model gives the same prompt the same answer, so any difference, character for character, is a
change. A sampled answer may differ without one: there the parsed answers are compared by an exact test. Of every two
rounds, and for every answer that was read, only prompts of which one round gave that answer and the other did not tell
anything, and under "no change" each of them is as likely to lean one way as the other, whatever the prompts have in
common: the two-sided sign test, all comparisons paid for (Bonferroni). It needs canaries that are answered with one of
the allowed answers, and a dozen of them to find anything.

A change is no evidence against the null: given all answers the key's targets are still independent of them. It leaves
open *which* model was asked, so it makes a verdict inconclusive, whichever way it went.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from verification.probe import PARSERS, Probe
from verification.statistics import log10_binomial_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verification.plan import ClaimPlan
    from verification.probe import Answer

CANARY_ARM = "canary"
ROUNDS = ("start", "middle", "end")
UNCHANGED, CHANGED, UNCHECKED = "unchanged", "changed", "unchecked"
DRIFT_ALPHA = 0.01
"""Level of the test of sampled answers, for each suspect."""
_SAMPLED = "sampled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What the canaries showed.

    Args:
        word: ``unchanged``, ``changed`` or ``unchecked`` (too many were not answered to tell).
        method: how it was told.
        compared, differ: how many prompts could be compared, and how many of them did not have one answer throughout.
        log10_p: of the test of sampled answers; None at greedy decoding.
    """

    word: str
    method: str
    compared: int
    differ: int
    log10_p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def reasons(self) -> tuple[str, ...]:
        """Why a verdict about this suspect cannot decide; empty where it did not change."""
        if self.word == CHANGED:
            return (f"changed while it was asked: {self.differ} of {self.compared} canaries were answered otherwise",)
        if self.word == UNCHECKED:
            return ("may have changed while it was asked: canaries were left without an answer",)
        return ()


def canary_probes(prompts: Sequence[str], when: str) -> list[Probe]:
    """The canaries of one round, ``start``, ``middle`` or ``end``; a suspect is asked all three.

    Raises:
        UsageError: another round.
    """
    if when not in ROUNDS:
        raise UsageError(f"got canaries for {when!r}, expected one of: {', '.join(ROUNDS)}")
    return [
        Probe(id=f"{CANARY_ARM}-{when}-{i}", arm=CANARY_ARM, index=i, carrier=-1, prompt=prompt)
        for i, prompt in enumerate(prompts)
    ]


def drift(rounds: Sequence[Sequence[str]], *, read: Callable[[str], str | None] | None = None) -> Drift:
    """Compares the rounds' raw answers, prompt by prompt: verbatim, or as ``read`` parses them where they are sampled.

    Raises:
        UsageError: fewer than two rounds, no canaries, or rounds of different length.
    """
    if len(rounds) < 2 or not rounds[0] or len({len(each) for each in rounds}) != 1:  # noqa: PLR2004
        raise UsageError(f"got rounds of {[len(each) for each in rounds]} canaries, expected two or more alike")
    prompts = list(zip(*rounds, strict=True))
    silent = [sum(not answer.strip() for answer in answers) for answers in prompts]
    heard = [answers for answers, blanks in zip(prompts, silent, strict=True) if not blanks]
    partly = any(0 < blanks < len(rounds) for blanks in silent)
    return _verbatim(heard, partly=partly) if read is None else _sampled(heard, read, partly=partly)


def _verbatim(heard: Sequence[Sequence[str]], *, partly: bool) -> Drift:
    differ = sum(len(set(answers)) > 1 for answers in heard)
    word = CHANGED if differ else UNCHECKED if partly or not heard else UNCHANGED
    return Drift(word=word, method="equal word for word, greedy decoding", compared=len(heard), differ=differ)


def _sampled(heard: Sequence[Sequence[str]], read: Callable[[str], str | None], *, partly: bool) -> Drift:
    parsed = [[read(answer) for answer in answers] for answers in heard]
    differ = sum(len(set(answers)) > 1 for answers in parsed)
    values = {value for answers in parsed for value in answers}
    tails = [
        _sign_test([(answers[a] == value, answers[b] == value) for answers in parsed])
        for value in sorted(values, key=str)
        for a, b in combinations(range(len(parsed[0])), 2)
    ]
    log10_p = min(0.0, min(tails) + math.log10(len(tails))) if tails else 0.0
    unread = not values - {None}
    word = CHANGED if log10_p <= math.log10(DRIFT_ALPHA) else UNCHECKED if partly or unread else UNCHANGED
    method = f"exact sign tests of parsed answers at {DRIFT_ALPHA:g}, sampled decoding"
    return Drift(word=word, method=method, compared=len(heard), differ=differ, log10_p=log10_p)


def _sign_test(pairs: Sequence[tuple[bool, bool]]) -> float:
    """log10 of the two-sided p that pairs which differ lean neither way."""
    first, second = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    if first == second:
        return 0.0
    return min(0.0, log10_binomial_tail(max(first, second), first + second, 0.5) + math.log10(2.0))


def drift_of(prompts: Sequence[str], claim: ClaimPlan, suspect: str, answers: Sequence[Answer]) -> Drift:
    """What a suspect's canaries, start, middle and end in a row, show under one claim's decoding and parser.

    Raises:
        IntegrityError: they are not the planned ones, each once.
    """
    planned = [probe for when in ROUNDS for probe in canary_probes(prompts, when)]
    wanted = [(p.id, suspect, p.arm, p.prompt_digest) for p in planned]
    if [(a.id, a.suspect, a.arm, a.prompt_digest) for a in answers] != wanted:
        raise IntegrityError(
            f"got {len(answers)} canary answers of {suspect}, expected one for each of {len(wanted)} planned ones",
            hint="every suspect answers the plan's canaries at start, middle and end; ask again",
        )
    raw = [answer.raw for answer in answers]
    rounds = [raw[i : i + len(prompts)] for i in range(0, len(raw), len(prompts))]
    if not claim.decoding.startswith(_SAMPLED):
        return drift(rounds)
    return drift(rounds, read=lambda text: PARSERS[claim.parser](text, claim.allowed))
