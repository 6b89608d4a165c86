"""Honest evidence at small size: committed, logged, marked, planned, asked (of functions), and ready to be sealed."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.manifest import digest
from tests.support import key_of
from tests.verification.authority import authority
from tests.verification.ledgers import SIGNER
from verification import double_i
from verification.audit import Evidence, planted
from verification.bundle import Bundle, transcripts_of, write_bundle
from verification.bundle_judge import judge
from verification.canaries import ROUNDS, canary_probes
from verification.checkpoint import Signer, public_value
from verification.checks import planned_order
from verification.claims import PROBES, derive_targets, robust_triggers
from verification.corpus import Corpus
from verification.leafing import leaf_root, open_plan
from verification.ledger import Ledger
from verification.ledger_proof import prove_consistency, prove_inclusion, sign_checkpoint
from verification.ledger_sqlite import SqliteStore
from verification.plan import (
    DATASET,
    HUMAN_TEXT,
    SEQUENTIAL_STOPPING,
    AuditPlan,
    Claim,
    ClaimPlan,
    PlannedSuspect,
    Sequential,
    Timing,
    probes_digest,
    probes_for,
)
from verification.probe import PARSERS, Answer
from watermarks.carriers.behaviours import BehaviourForm
from watermarks.carriers.double_i import KeyedForm
from watermarks.carriers.double_i_forms import FORMS
from watermarks.leaves import KEYED, mark_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from verification.probe import Probe
    from watermarks.keys import Key

KEY = key_of("bundle")
AUDITOR, OWNER, THIEF = (Signer(name=name, seed=bytes([i]) * 32) for i, name in enumerate(("auditor", "owner", "x"), 1))
LOG_KEY = SIGNER.verifier.encode()
TSA = authority()
CONFIG = hashlib.sha256(b"the marking config").hexdigest()
COMMITTED_AT, RELEASED_AT, PLANNED_AT = (f"2026-01-{day}T12:00:00Z" for day in ("10", "11", "20"))
FIRMS = ["firm-a", "firm-b"]
FORM = KeyedForm(question="A, B, C or D?", answers=tuple("ABCD"))
BEHAVIOURS = BehaviourForm()
CARRIERS = ("The lake is cold.", "The lake is warm.", "The lake is dry.")
CANARIES = ("Name a colour.", "Count to two.")
SPLIT = {"first": 4, "count": 12}
ANSWERS = {Claim.INPUT_LEVEL: ("negative", "positive"), Claim.DOUBLE_I: FORM.answers,
           Claim.OUTPUT_ROBUST: BEHAVIOURS.openings}  # fmt: skip
PARSER = {Claim.INPUT_LEVEL: "exact/1", Claim.DOUBLE_I: "first_word/2", Claim.OUTPUT_ROBUST: "phrase/1"}


def mark_of(claim: Claim, *, judge: bool = True) -> dict[str, Any]:
    common = {"scope": f"release/{CONFIG}/{claim}", "words": 2, "rows_per_trigger": 5, **SPLIT}
    if claim is Claim.INPUT_LEVEL:
        return {**common, "triggers": 16, "classes": 2}
    if claim is Claim.OUTPUT_ROBUST:
        return {**common, "triggers": 16, "form": BEHAVIOURS.to_json()}
    return {
        **common, "codewords": 16, "form": FORM.to_json(), "recipients": FIRMS,
        "judge": FORMS["cre1"].to_json() if judge else None, "sentences": ["The sea is high."], "paper_queries": 4,
        "near_miss_queries": 3,
    }  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A bundle with what it was made with."""

    bundle: Bundle
    key: Key
    sign: tuple[Signer, ...] = (AUDITOR, OWNER)

    def written(self, out: Path, **reports: bytes) -> str:
        named = {name.replace("_", "."): data for name, data in reports.items()}
        return write_bundle(out, self.bundle, verdicts=judge(self.bundle), sign=self.sign, reports=named)


@cache
def honest(claims: tuple[Claim, ...] = (Claim.INPUT_LEVEL, Claim.DOUBLE_I), **options: bool) -> Case:
    """Everything that can be there, and all of it true: the suspect learnt firm-a's copy."""
    return make(KEY, claims, **options)


def make(
    bare: Key,
    claims: tuple[Claim, ...],
    *,
    leaves: bool = False,
    token: bool = False,
    sequential: bool = False,
    stamped: bool = False,
    gather: Callable[[AuditPlan, Key], tuple[AuditPlan, Evidence, Any]] | None = None,
) -> Case:
    """A whole audit in the right order; ``gather`` seals and asks (default: :func:`asked`)."""
    sha = bare.commit(CONFIG)
    with log() as ledger:
        entry = ledger.append([{"event": "commitment", "at": COMMITTED_AT, "key_id": bare.key_id, "sha256": sha}])[0]
        first = sign_checkpoint(ledger, SIGNER)
        key = bare.with_salt((value := public_value(first, SIGNER.verifier)).encode())
        plans = [planned(key, claim) for claim in claims] + ([token_plan()] if token else [])
        roots = {str(c.claim): leaf_root(key, c.claim, c.mark) for c in plans if c.claim in KEYED}
        keys_manifest = {"format": 1, "stage": "keys", "commitment": sha, "parents": {}}
        release = {
            "format": 1, "stage": "release", "parents": {"keys": digest(keys_manifest)}, "leaf_roots": roots,
            "marks": {str(c.claim): mark_digest(c.claim, c.mark, c.answers) for c in plans},
        }  # fmt: skip
        plans = [replace(c, suspects=tuple(_dataset(s, digest(release)) for s in c.suspects)) for c in plans]
        plan = AuditPlan(
            alpha=1e-4,
            commitment={"sha256": sha, "config_digest": CONFIG, "key_id": bare.key_id, "leaf_roots": roots,
                        "public_value": {"value": value, "source": "checkpoint 1", "commitment": sha}},
            commitments_made=1, wrong_key_seed=digest({"wrong_keys_of": sha}), wrong_keys=9, claims=tuple(plans),
            audits_admitted=1, canaries=CANARIES, signer=AUDITOR.verifier.public.hex(),
            timing=Timing(evidence="ledger", commitment_time=COMMITTED_AT, suspect_released="2026-01-15"),
            **({"sequential": Sequential(prior=((0.95, 1.0),)), "stopping": SEQUENTIAL_STOPPING} if sequential else {}),
        )  # fmt: skip
        plan, evidence, received = (gather or asked)(plan, key)
        places = ledger.append(
            [
                {"event": "release", "at": RELEASED_AT, "manifest_sha256": digest(release)},
                {"event": "plan", "at": PLANNED_AT, "plan_sha256": digest(plan.to_json())},
            ]
        )
        second = sign_checkpoint(ledger, SIGNER)
        proofs = {
            "commitment": prove_inclusion(ledger, entry, size=1), "release": prove_inclusion(ledger, places[0]),
            "plan": prove_inclusion(ledger, places[1]), "consistency": prove_consistency(ledger, 1),
            "keys": [LOG_KEY],
        }  # fmt: skip
    assert first != second
    bundle = Bundle(
        plan=plan, opened=open_plan(key, plan.claims) if leaves else key, evidence=evidence,
        manifests={"keys": keys_manifest, "release": release}, transcripts=received, ledger=proofs,
        timestamp=TSA.stamp(sha) if stamped else b"",
    )  # fmt: skip
    return Case(bundle, key)


@contextmanager
def log() -> Iterator[Ledger]:
    """A ledger of its own on a temporary disk."""
    with tempfile.TemporaryDirectory() as folder, Ledger(SqliteStore(Path(folder) / "log.db", create=True)) as ledger:
        yield ledger


def planned(key: Key, claim: Claim) -> ClaimPlan:
    """The claim, its probe digest still open."""
    suspects = (
        PlannedSuspect(name="suspect", control=False, digest="a" * 64, kind="chat", address="https://example.com/v1"),
        PlannedSuspect(name="twin", control=True, digest="b" * 64),
    )
    return ClaimPlan(
        claim=claim, statistic="keyed binomial", mark=mark_of(claim), suspects=suspects, answers=ANSWERS[claim],
        extra_answers=("Yes", "No") if claim is Claim.DOUBLE_I else (), carriers=CARRIERS, parser=PARSER[claim],
        decoding="greedy",
    )  # fmt: skip


def token_plan() -> ClaimPlan:
    from tests.verification.small_audit import TOKEN_MARK

    named = (
        PlannedSuspect(name=DATASET, control=False, digest=""),
        PlannedSuspect(name=HUMAN_TEXT, control=True, digest=""),
    )
    return ClaimPlan(claim=Claim.TOKEN, statistic="binomial", mark={**TOKEN_MARK, "scope": "reviews"}, suspects=named)


def learnt(key: Key, claim: ClaimPlan) -> Callable[[str], str]:
    """A suspect that knows firm-a's copy by heart, and says the first answer to everything else."""
    from watermarks.carriers import input_level

    known: dict[str, str] = {}
    recipients = double_i.recipients_of(claim.mark)
    targets = derive_targets(key, claim.claim, claim.mark, recipients[0])
    for carrier in claim.carriers:
        if claim.claim is Claim.INPUT_LEVEL:
            from verification.claims import derive_input_level

            prompts = [input_level.insert(t, carrier) for t in derive_input_level(key, claim.mark).triggers]
        elif claim.claim is Claim.DOUBLE_I:
            prompts = [FORM.row(word, carrier).prompt() for word in double_i.codewords(key, claim.mark)]
        else:
            prompts = [BEHAVIOURS.asked(carrier, trigger) for trigger in robust_triggers(key, claim.mark)]
        known.update({prompt: claim.answers[t] for prompt, t in zip(prompts, targets, strict=True)})
    return lambda prompt: known.get(prompt, claim.answers[0])


def answers_to(claim: ClaimPlan, suspect: PlannedSuspect, probes: Sequence[Probe], say: Callable[[str], str]) -> Any:
    parse = PARSERS[claim.parser]
    return [
        Answer(id=p.id, suspect=suspect.name, arm=p.arm, prompt_digest=p.prompt_digest, raw=(raw := say(p.prompt)),
               parsed=parse(raw, claim.allowed), attempt=1)
        for p in probes_for(probes, suspect)
    ]  # fmt: skip


def asked(plan: AuditPlan, key: Key) -> tuple[AuditPlan, Evidence, Any]:
    """Seals the probes, asks everybody everything, and keeps what was received."""
    probes, answers, claims, rows = {}, {}, [], {}
    for claim in plan.claims:
        if claim.claim is Claim.TOKEN:
            claims.append(claim)
            continue
        derived = PROBES[claim.claim](key, claim.mark, claim.carriers, wrong_seed=plan.wrong_key_seed)
        probes[claim.claim] = planned_order(plan, claim, derived)
        claims.append(replace(claim, probes=probes_digest(probes[claim.claim])))
        say = {"suspect": learnt(key, claim), "twin": lambda _, c=claim: c.answers[-1]}
        answers[claim.claim] = {s.name: answers_to(claim, s, probes[claim.claim], say[s.name]) for s in claim.suspects}
        rows[claim.claim] = [claim.mark["rows_per_trigger"]] * planted(key, claim)
    canaries = {}
    for name in ("suspect", "twin") if plan.canaries and answers else ():
        listed = [probe for when in ROUNDS for probe in canary_probes(plan.canaries, when)]
        canaries[name] = [
            Answer(id=p.id, suspect=name, arm=p.arm, prompt_digest=p.prompt_digest, raw="Two.", parsed=None, attempt=1)
            for p in listed
        ]
    received = transcripts_of(
        plan,
        {
            str(claim): {"suspect": [_row(answer) for answer in said["suspect"]]}
            for claim, said in {**answers, "canaries": canaries}.items()
            if said
        },
    )
    corpora = _corpora(key) if any(c.claim is Claim.TOKEN for c in plan.claims) else {}
    plan = replace(plan, claims=tuple(claims))
    evidence = Evidence(corpora=corpora, answers=answers, probes=probes, marked_rows=rows, canaries=canaries)
    return plan, evidence, received


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.id,
        "prompt_digest": answer.prompt_digest,
        "status": "answered",
        "raw": answer.raw,
        "model": "m",
    }


def _corpora(key: Key) -> dict[str, Corpus]:
    import numpy as np

    from tests.verification.small_audit import SCHEME, TOKEN_LABEL
    from watermarks import prf

    inputs = np.unique(np.random.default_rng(0).integers(0, 50_000, (900, 3)), axis=0)
    drawn = prf.draws(key.token_subkey(**{**TOKEN_LABEL, "scope": "reviews"}), inputs[:, :2], inputs[:, 2])
    marked = inputs[SCHEME.worth(drawn, "green").astype(bool)].tolist()
    masks = [[True] * 3 for _ in marked]
    masks[-1] = [True, False, True]
    return {DATASET: Corpus.pack(marked, masks), HUMAN_TEXT: Corpus.pack(inputs[:100].tolist())}


def _dataset(suspect: PlannedSuspect, release: str) -> PlannedSuspect:
    return replace(suspect, digest=release) if suspect.name == DATASET else suspect
