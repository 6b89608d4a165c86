"""Output-level marks under a plan: what is asked, what the key re-derives, and the sign-flip evidence of free texts.

A plan's ``mark`` holds for ``output_weak`` the ``scope``, the ``lexicon``'s pairs and the ``baseline`` counts of the
unmarked source; for ``output_steganographic`` the ``scope`` and the ``baseline`` units; for ``output_robust`` what
:mod:`watermarks.carriers.behaviours` derives from. Baselines are fixed before any key draws a coin: one fitted to the
coins would make any text lean their way. So every probe's id names the mark's digest, and with it the plan binds the
baseline; that it was counted on the source which the commitment names is for those to check who have the source.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError
from countermark.manifest import digest
from verification.findings import UNTOUCHED, finding, ranking
from verification.opening import needs_key
from verification.plan import WRONG_KEY_ARM, Claim, PlannedSuspect
from verification.probe import Probe
from verification.signflip import MOST_UNITS, Excess, PairExcess, sign_flip, statistic_of
from verification.statistics import Interval, log10_calibrated_e
from verification.verdict import Decision, Verdict
from watermarks.carriers import initials, lexical
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.opening import Opened
    from verification.plan import AuditPlan, ClaimPlan
    from verification.probe import Answer
    from watermarks.carriers.initials import Unit

TEXT_ARM = "text"
BASELINE = (
    "assumes that the baseline was counted on the source that the commitment names, and the questions taken from it or "
    "from the held-out rows, without looking at the key"
)
_PRIOR = 0.5
"""Added to every baseline count, so that no share is 0 or 1."""


def text_probes(mark: Mapping[str, Any], questions: Sequence[str]) -> list[Probe]:
    """Every question once; what is scored is all that is answered. No key is in what is asked."""
    bound = digest(dict(mark))[:16]
    return [
        Probe(id=f"{TEXT_ARM}-{bound}-{i}", arm=TEXT_ARM, index=i, carrier=i, prompt=question)
        for i, question in enumerate(questions)
    ]


def lexicon_of(mark: Mapping[str, Any]) -> lexical.Lexicon:
    """The lexicon of a plan's mark."""
    return _lexicon(tuple(tuple((a, b) for a, b in pair) for pair in mark["lexicon"]))


@lru_cache(maxsize=4)
def _lexicon(pairs: tuple[tuple[tuple[str, str], ...], ...]) -> lexical.Lexicon:
    return lexical.Lexicon(pairs=pairs)  # compiles a long expression; every suspect of a claim has the same


def lexical_excesses(mark: Mapping[str, Any], texts: Sequence[str]) -> list[Excess]:
    """How far ``texts`` lean to each pair's second expression, beyond the baseline."""
    return [
        PairExcess(count=second, of=first + second, expected=(b + _PRIOR) / (a + b + 2 * _PRIOR))
        for (first, second), (a, b) in zip(lexicon_of(mark).counts(texts), mark["baseline"], strict=True)
    ]


def initial_units(mark: Mapping[str, Any]) -> list[Unit]:
    """The units that are scored: the commonest of the baseline, chosen without the key."""
    return [(place, letter) for place, letter, _ in mark["baseline"][:MOST_UNITS]]


def initial_excesses(mark: Mapping[str, Any], texts: Sequence[str]) -> list[Excess]:
    """How far sentences of ``texts`` lean to each unit's letter, beyond the baseline."""
    found = initials.count(texts)
    sentences: Counter[int] = Counter()
    usual: Counter[int] = Counter()
    letters: Counter[int] = Counter()
    for (place, _), count in found.items():
        sentences[place] += count
    for place, _, count in mark["baseline"]:
        usual[place] += count
        letters[place] += 1
    return [
        Excess(
            count=found[place, letter],
            of=sentences[place],
            expected=(count + _PRIOR) / (usual[place] + _PRIOR * (letters[place] + 1)),
        )
        for place, letter, count in mark["baseline"][:MOST_UNITS]
    ]


def excesses(claim: Claim, mark: Mapping[str, Any], texts: Sequence[str]) -> list[Excess]:
    """What the texts do in every unit of the claim: no key enters."""
    return lexical_excesses(mark, texts) if claim is Claim.OUTPUT_WEAK else initial_excesses(mark, texts)


def coins(claim: Claim, mark: Mapping[str, Any], key: Opened) -> list[int]:
    """The key's coin for every unit of the claim; leaves hold none."""
    own = needs_key(key, claim)
    if claim is Claim.OUTPUT_WEAK:
        return list(lexical.derive_coins(own, scope=mark["scope"], pairs=len(mark["lexicon"])))
    return initials.derive_coins(own, initial_units(mark), scope=mark["scope"])


def text_findings(
    plan: AuditPlan, claim: ClaimPlan, key: Opened, answers: Mapping[str, Sequence[Answer]]
) -> list[Verdict]:
    """One finding a suspect, and one for a wrong key's coins on its texts.

    Where no unit occurs in the texts there are no trials: that finding decides nothing, and neither does its claim.
    """
    findings = []
    for suspect in claim.suspects:
        found = excesses(claim.claim, claim.mark, [answer.raw for answer in answers[suspect.name]])
        findings.append(_text_finding(plan, claim, suspect, found, key))
        if not suspect.control:
            other = PlannedSuspect(name=f"{suspect.name}/{WRONG_KEY_ARM}", control=True, digest=suspect.digest)
            findings.append(_text_finding(plan, claim, other, found, wrong_key(plan.wrong_key_seed, 0)))
    return findings


def _text_finding(
    plan: AuditPlan, claim: ClaimPlan, suspect: PlannedSuspect, found: Sequence[Excess], key: Opened
) -> Verdict:
    try:
        result = sign_flip(found, coins(claim.claim, claim.mark, key))
    except InconclusiveError:
        return _nothing(plan, claim, suspect)
    base = finding(
        plan, claim, suspect.name, result.agree, result.units, 0.5, control=suspect.control,
        queries=len(claim.carriers),
    )  # fmt: skip
    paid = 0.0 if suspect.control else math.log10(plan.paid)
    raw = min(0.0, result.log10_p + paid)
    verdict = replace(
        base, log10_p=raw, log10_p_holm=raw, log10_floor=result.log10_floor,
        log10_e=log10_calibrated_e(result.log10_p) - paid, assumptions=(*base.assumptions, UNTOUCHED, BASELINE),
    )  # fmt: skip
    if suspect.control:
        return verdict
    others = [
        statistic_of(found, coins(claim.claim, claim.mark, wrong_key(plan.wrong_key_seed, i)))
        for i in range(1, plan.wrong_keys + 1)
    ]
    return replace(verdict, wrong_keys=ranking(result.statistic, others))


def _nothing(plan: AuditPlan, claim: ClaimPlan, suspect: PlannedSuspect) -> Verdict:
    """No unit has any weight: p is 1, and so is the smallest p that could be reached."""
    return Verdict(
        claim=claim.claim, suspect=suspect.name, control=suspect.control, decision=Decision.INCONCLUSIVE,
        method=claim.statistic, alpha=plan.alpha, queries=len(claim.carriers), log10_p=0.0, log10_p_holm=0.0,
        log10_floor=0.0, successes=0, trials=0, chance=0.5, effect=Interval(value=0.0, low=0.0, high=1.0, level=0.95),
        assumptions=(UNTOUCHED, BASELINE),
    )  # fmt: skip
