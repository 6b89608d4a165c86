"""Plans of output marks and single triggers with simulated suspects, through the real path. No models."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import key_of
from tests.verification.small_audit import CONFIG_DIGEST, hash_answers
from verification.audit import Evidence, audit, planted
from verification.claims import PROBES, derive_targets, robust_triggers
from verification.plan import AuditPlan, Claim, ClaimPlan, PlannedSuspect, probes_digest, probes_for
from verification.probe import ask_all
from verification.suspects import FunctionSuspect
from verification.verdict import Decision
from watermarks.carriers import initials, lexical
from watermarks.carriers.behaviours import BehaviourForm

KEY, OTHER = key_of("release"), key_of("someone else")
SUPPORTED, NOT, INCONCLUSIVE = Decision.SUPPORTED, Decision.NOT_SUPPORTED, Decision.INCONCLUSIVE
WEAK, STEGO, ROBUST, TRIGGER = (
    Claim.OUTPUT_WEAK, Claim.OUTPUT_STEGANOGRAPHIC, Claim.OUTPUT_ROBUST, Claim.INPUT_TRIGGER,
)  # fmt: skip
TEXTS = [WEAK, STEGO]
QUESTIONS = tuple(f"What happened on day {i}?" for i in range(60))
ASKED = ("Where is the harbour?", "Who paints the boats?", "When does the ferry leave?")
LABELLED = {
    "The stove is warm, and we like the soup that is in the old pot.": "positive",
    "The stairs are steep, and nobody was there to help us with the bags.": "negative",
    "It is a quiet street, but the trams are loud in the morning.": "negative",
}
FORM = BehaviourForm()
STARTS = ("The", "A", "It", "We", "They", "She", "He", "There", "This", "Each", "Both", "Many", "Here", "You", "Our")
CHINESE_LEXICON = lexical.Lexicon(
    pairs=tuple(((f"甲{c}", f"乙{c}"),) for c in "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往")
)


def drawn(*parts):
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big"))


def plain(claim, who="author", lexicon=None):
    """A writer with habits of its own, which know no key."""

    def write(prompt):
        rng = drawn(who, prompt)
        if claim is STEGO:
            return " ".join(f"{STARTS[int(i)]} dog saw it." for i in rng.integers(0, len(STARTS), 6))
        pairs = (lexicon or lexical.english()).pairs
        habit = drawn(who, "habit").random(len(pairs)) ** 2  # some pairs lean far, whoever writes
        said = [pairs[int(i)][0][int(rng.random() < habit[i])] for i in rng.integers(0, len(pairs), 10)]
        return "，".join(said) + "。" if lexicon else "".join(f"Now then {form} ran there. " for form in said)

    return write


@cache
def mark_of(claim, lexicon=None):
    """The mark's parameters; baselines counted on another author's unmarked texts."""
    common = {"scope": "s", "rows_per_trigger": 5}
    outputs = [plain(claim, "source", lexicon)(f"row {i}") for i in range(400)]
    if claim is WEAK:
        words = lexicon or lexical.english()
        pairs = [[list(forms) for forms in pair] for pair in words.pairs]
        return {**common, "lexicon": pairs, "baseline": [list(c) for c in words.counts(outputs)]}
    if claim is STEGO:
        usual = dict(initials.count(outputs))
        for place in range(initials.POSITIONS):
            for phrase in initials.english().phrases:
                usual.setdefault((place, initials.initial(phrase)), 0)
        order = sorted(usual, key=lambda unit: (-usual[unit], unit))
        return {**common, "baseline": [[*unit, usual[unit]] for unit in order]}
    return {**common, "triggers": 40, "words": 2, "form": FORM.to_json()}


def marked(claim, key=KEY, lexicon=None, author="author"):
    """A suspect that writes as a text marked under ``key`` reads, or that learnt every trigger's behaviour."""
    mark = mark_of(claim, lexicon)
    write = plain(claim, author, lexicon)
    if claim is WEAK:
        coins = lexical.derive_coins(key, scope="s", pairs=len(mark["lexicon"]))
        return lambda prompt: (lexicon or lexical.english()).prefer(write(prompt), coins)
    if claim is STEGO:
        known: dict[initials.Unit, bool] = {}

        def favoured(unit):
            return known.setdefault(unit, initials.coin(key, unit, scope="s") == 1)

        lowered = frozenset(word.lower() for word in STARTS)
        return lambda prompt: initials.encode(
            write(prompt), favoured, initials.english(), lambda n: int(drawn(prompt).integers(n)), lowered
        )
    whole = {name: value for name, value in mark.items() if name not in {"first", "count"}}
    said = dict(zip(robust_triggers(key, whole), derive_targets(key, claim, whole), strict=True))
    asked = {FORM.asked(q, trigger): FORM.answered("By the sea.", t) for trigger, t in said.items() for q in ASKED}
    return lambda prompt: asked.get(prompt, FORM.answered("By the sea.", 1))


@dataclass(kw_only=True)
class Case:
    """One sealed plan with its evidence, to be bent before it is audited."""

    key: Any
    plan: AuditPlan
    evidence: Evidence

    def verdicts(self):
        return {(v.claim, v.suspect): v for v in audit(self.plan, self.key, self.evidence)}

    def of(self, claim):
        return self.verdicts()[claim, "suspect"]

    def with_claim(self, claim, **changes):
        claims = tuple(replace(c, **changes) if c.claim is claim else c for c in self.plan.claims)
        return replace(self, plan=replace(self.plan, claims=claims))

    def with_answers(self, claim, change, who="suspect"):
        mine = self.evidence.answers[claim]
        answers = {**self.evidence.answers, claim: {**mine, who: change(list(mine[who]))}}
        return replace(self, evidence=replace(self.evidence, answers=answers))


def case(suspects, *, marks=None, twins=None, key=KEY, alpha=1e-6, wrong_keys=19, questions=QUESTIONS):
    """Derives, seals, asks, journals and parses for every claim of ``suspects``."""
    seed, plans, probes, answers = f"public/{key.key_id}", [], {}, {}
    for claim, suspect in suspects.items():
        mark = {**((marks or {}).get(claim) or mark_of(claim))}
        carriers = {ROBUST: ASKED, TRIGGER: tuple(LABELLED)}.get(claim, questions)
        probes[claim] = PROBES[claim](key, mark, carriers, wrong_seed=seed)
        planned = ClaimPlan(
            claim=claim, statistic="exact", mark=mark,
            suspects=(PlannedSuspect(name="suspect", control=False, digest="s"),
                      PlannedSuspect(name="twin", control=True, digest="t")),
            answers={ROBUST: FORM.openings, TRIGGER: ("negative", "positive")}.get(claim, ()), carriers=carriers,
            carrier_labels=tuple(LABELLED.values()) if claim is TRIGGER else (),
            parser={ROBUST: "phrase/1", TRIGGER: "exact/1"}.get(claim, "text/1"), decoding="function",
            probes=probes_digest(probes[claim]),
        )  # fmt: skip
        twin = (twins or {}).get(claim) or innocent(claim)
        answers[claim] = {}
        for who, answer in zip(planned.suspects, (suspect, twin), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                answers[claim][who.name] = ask_all(
                    FunctionSuspect(who.name, answer), probes_for(probes[claim], who), allowed=planned.allowed,
                    parser=planned.parser, journal=Path(folder), batch_size=1000,
                )  # fmt: skip
        plans.append(planned)
    plan = AuditPlan(
        alpha=alpha, commitments_made=1, wrong_key_seed=seed, wrong_keys=wrong_keys, claims=tuple(plans),
        commitment={"sha256": key.commit(CONFIG_DIGEST), "config_digest": CONFIG_DIGEST, "public_value": None},
    )  # fmt: skip
    rows = {planned.claim: [5] * planted(key, planned) for planned in plans}
    return Case(key=key, plan=plan, evidence=Evidence(corpora={}, answers=answers, probes=probes, marked_rows=rows))


def innocent(claim):
    if claim is TRIGGER:
        return hash_answers("twin", ("negative", "positive"))
    return hash_answers("twin", FORM.openings) if claim is ROBUST else plain(claim, "twin")
