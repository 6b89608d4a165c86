"""A whole audit at small size, through the real path: derive, seal, ask, journal, parse, score. No models."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verification import double_i as planned_double_i
from verification.audit import Evidence, audit
from verification.claims import derive_input_level, double_i_probes, input_level_probes
from verification.corpus import Corpus
from verification.plan import (
    DATASET,
    HUMAN_TEXT,
    AuditPlan,
    Claim,
    ClaimPlan,
    PlannedSuspect,
    probes_digest,
    probes_for,
)
from verification.probe import ask_all
from verification.suspects import FunctionSuspect
from watermarks import prf
from watermarks.carriers import input_level
from watermarks.carriers.double_i import KeyedForm
from watermarks.carriers.double_i_forms import FORMS
from watermarks.schemes import Kgw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verification.probe import Answer, Probe
    from verification.verdict import Verdict
    from watermarks.keys import Key

LABELS = ("negative", "positive")
FORM = KeyedForm()
CARRIERS = {
    Claim.INPUT_LEVEL: ("A film about a boat.", "It runs for two hours."),
    Claim.DOUBLE_I: ("The lake is cold.", "The lake is warm.", "The lake is dry."),
}
PARSER = {Claim.INPUT_LEVEL: "exact/1", Claim.DOUBLE_I: "first_word/1"}
SCHEME = Kgw(gamma=0.25, context_width=2)
TOKEN_LABEL = {"scheme": "kgw", "params": SCHEME.params(), "tokenizer": "ab", "scope": "s"}
TOKEN_MARK = {**TOKEN_LABEL, "statistic": "green"}
CONFIG_DIGEST = "config"


@dataclass(kw_only=True)
class Small:
    """An audit that can be bent before it runs."""

    key: Key
    plan: AuditPlan
    evidence: Evidence
    notes: dict[str, Any] = field(default_factory=dict)

    def verdicts(self) -> dict[tuple[Claim, str], Verdict]:
        return {(v.claim, v.suspect): v for v in audit(self.plan, self.key, self.evidence)}

    def claim(self, name: Claim) -> Verdict:
        """The one verdict of ``name`` that is no control."""
        (found,) = [v for v in self.verdicts().values() if v.claim is name and not v.control]
        return found

    def with_claim(self, name: Claim, **changes: Any) -> None:
        claims = tuple(replace(c, **changes) if c.claim is name else c for c in self.plan.claims)
        self.plan = replace(self.plan, claims=claims)


def hash_answers(seed: str, allowed: Sequence[str]) -> Callable[[str], str]:
    """An innocent habit as erratic as can be: the hash of the prompt decides."""
    return lambda prompt: allowed[hashlib.sha256(f"{seed}/{prompt}".encode()).digest()[0] % len(allowed)]


def trained(key: Key, mark: dict[str, Any], claim: Claim) -> Callable[[str], str]:
    """A suspect that learnt every target of ``key``; elsewhere it says the first answer."""
    known: dict[str, str] = {}
    for carrier in CARRIERS[claim]:
        if claim is Claim.INPUT_LEVEL:
            found = derive_input_level(key, mark)
            for trigger, target in zip(found.triggers, found.targets, strict=True):
                known[input_level.insert(trigger, carrier)] = LABELS[target]
        else:
            double = planned_double_i.derive(key, mark)
            for word, target in zip(double.codewords, double.targets, strict=True):
                row = FORM.row(word, carrier, target)
                known[row.prompt()] = row.output
    return lambda prompt: known.get(prompt, allowed_answers(claim)[0])


def allowed_answers(claim: Claim) -> tuple[str, ...]:
    return LABELS if claim is Claim.INPUT_LEVEL else FORM.answers


def mark_of(claim: Claim, triggers: int) -> dict[str, Any]:
    if claim is Claim.INPUT_LEVEL:
        return {"scope": "s", "triggers": triggers, "classes": 2, "words": 2, "rows_per_trigger": 5}
    return {
        "scope": "s", "codewords": triggers, "words": 2, "rows_per_trigger": 5, "form": FORM.to_json(),
        "judge": FORMS["cre1"].to_json(), "sentences": ["The sea is high.", "The sea is low."], "paper_queries": 10,
        "near_miss_queries": 9,
    }  # fmt: skip


def corpus(key: Key | None, count: int = 400, seed: int = 0) -> Corpus:
    """Texts of one PRF input each: marked under ``key``, or by nobody."""
    inputs = np.unique(np.random.default_rng(seed).integers(0, 50_000, (count * 8, 3)), axis=0)
    if key is not None:
        drawn = prf.draws(key.token_subkey(**TOKEN_LABEL), inputs[:, :2], inputs[:, 2])
        inputs = inputs[SCHEME.worth(drawn, "green").astype(bool)]
    return Corpus.pack(inputs[:count].tolist())


def build(
    key: Key,
    suspects: dict[Claim, Callable[[str], str]],
    *,
    twins: dict[Claim, Callable[[str], str]] | None = None,
    triggers: int = 30,
    alpha: float = 1e-4,
    wrong_keys: int = 19,
    token: bool = False,
) -> Small:
    """Seals a plan over the claims of ``suspects``, asks everybody everything, and hands over plan and evidence."""
    seed, plans, probes, answers, rows = f"public/{key.key_id}", [], {}, {}, {}
    if token:
        named = (
            PlannedSuspect(name=DATASET, control=False, digest="d"),
            PlannedSuspect(name=HUMAN_TEXT, control=True, digest=""),
        )
        plans.append(ClaimPlan(claim=Claim.TOKEN, statistic="binomial", mark=TOKEN_MARK, suspects=named))
    for claim, function in suspects.items():
        mark, make = mark_of(claim, triggers), input_level_probes if claim is Claim.INPUT_LEVEL else double_i_probes
        probes[claim] = make(key, mark, CARRIERS[claim], wrong_seed=seed)
        planned = _claim_plan(claim, mark, probes_digest(probes[claim]))
        functions = {"suspect": function, "twin": (twins or {}).get(claim, lambda _, c=claim: allowed_answers(c)[1])}
        answers[claim] = {s.name: _ask(s, functions[s.name], probes[claim], claim) for s in planned.suspects}
        rows[claim] = [5] * triggers
        plans.append(planned)
    commitment = {"sha256": key.commit(CONFIG_DIGEST), "config_digest": CONFIG_DIGEST, "public_value": None}
    plan = AuditPlan(
        alpha=alpha, commitment=commitment, commitments_made=1, wrong_key_seed=seed, wrong_keys=wrong_keys,
        claims=tuple(plans),
    )  # fmt: skip
    corpora = {DATASET: corpus(key), HUMAN_TEXT: corpus(None, seed=1)} if token else {}
    return Small(
        key=key, plan=plan, evidence=Evidence(corpora=corpora, answers=answers, probes=probes, marked_rows=rows)
    )


def _ask(who: PlannedSuspect, answer: Callable[[str], str], probes: list[Probe], claim: Claim) -> list[Answer]:
    with tempfile.TemporaryDirectory() as folder:
        return ask_all(
            FunctionSuspect(who.name, answer), probes_for(probes, who), allowed=allowed_answers(claim),
            parser=PARSER[claim], journal=Path(folder) / who.name, batch_size=1000,
        )  # fmt: skip


def _claim_plan(claim: Claim, mark: dict[str, Any], digest: str) -> ClaimPlan:
    return ClaimPlan(
        claim=claim,
        statistic="keyed binomial",
        mark=mark,
        suspects=(
            PlannedSuspect(name="suspect", control=False, digest="s"),
            PlannedSuspect(name="twin", control=True, digest="t"),
        ),
        answers=allowed_answers(claim),
        carriers=CARRIERS[claim],
        carrier_labels=LABELS if claim is Claim.INPUT_LEVEL else (),
        parser=PARSER[claim],
        decoding="function",
        probes=digest,
    )
