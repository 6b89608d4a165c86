"""Bundles that were tampered with, each with the classes of failure that may be named for it.

Three attackers: one who only has the files; one who signs with a key of his own; and one who holds the real signing
keys (:mod:`tests.verification.insiders`), makes statement and digests fit, and is caught by recomputation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.manifest import canonical_json
from tests.verification import insiders, insiders_evidence
from tests.verification.bundles import THIEF, Case, honest
from tests.verification.sealed import Content, content_of, put, signed, verified
from verification import bundle_files as files
from verification.bundle_faults import BundleError, Failure
from verification.dsse import public_key

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A mutated bundle: what was done, its files (bytes, or what to link to), and what may be said of it."""

    name: str
    content: dict[str, Any]
    failures: frozenset[Failure]


def failure_of(mutant: Mutant, folder: Path) -> Failure | None:
    """What verification says of a mutant; None if it passes."""
    try:
        verified(put(folder, mutant.content))
    except BundleError as error:
        return error.failure
    return None


def draw(chance: random.Random, content: Content, case: Case) -> Mutant:
    """One mutant at random."""
    while True:
        name = chance.choice(list(MUTATIONS))
        made = MUTATIONS[name](chance, dict(content), case)
        if made is not None and made[0] != content:
            return Mutant(name, made[0], frozenset(made[1:]))


# ---- who only has the files -----------------------------------------------------------------------------------------


def _by_name(name: str, other: Failure = Failure.DIGEST) -> Failure:
    return Failure.SIGNATURE if name == files.STATEMENT else other


def bit_flip(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    data = bytearray(content[name])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return {**content, name: bytes(data)}, _by_name(name)


def cut(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    return {**content, name: content[name][: chance.randrange(len(content[name]))]}, _by_name(name)


def grown(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    return {**content, name: content[name] + chance.choice([b" ", b"\n", b"{}\n", b"\0"])}, _by_name(name)


def exchanged(chance: random.Random, content: Content, _: Case) -> Any:
    one, other = chance.sample(sorted(content), 2)
    changed = {**content, one: content[other], other: content[one]}
    return changed, Failure.SIGNATURE if files.STATEMENT in {one, other} else Failure.DIGEST


def dropped(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    del content[name]
    top = name in {files.STATEMENT, files.PLAN, files.OPENING, files.RESULTS}
    return content, Failure.LAYOUT if top else Failure.DIGEST


def added(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(["manifests/other.json", "answers/double_i/other.jsonl", "report.json", "timestamp.tsr"])
    return None if name in content else ({**content, name: b"{}"}, Failure.DIGEST)


def unknown(chance: random.Random, content: Content, _: Case) -> Any:
    names = ["notes.txt", "answers/double_i/x.pkl", "ledger/other.json", ".hidden", "probes/deep/x.jsonl", "plan.json~",
             "manifests/../x.json", "report.js", "answers/double_i/sub/x.jsonl"]  # fmt: skip
    name = chance.choice([each for each in names if ".." not in each])
    return {**content, name: b"x"}, Failure.LAYOUT


def linked(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    return {**content, name: chance.choice(["/etc/passwd", "plan.json", "/dev/zero", "nowhere"])}, Failure.LAYOUT


def fewer_signatures(_: random.Random, content: Content, __: Case) -> Any:
    envelope = json.loads(content[files.STATEMENT])
    envelope["signatures"] = envelope["signatures"][1:]  # the owner's stays
    return {**content, files.STATEMENT: canonical_json(envelope)}, Failure.SIGNER


def other_statement(_: random.Random, content: Content, case: Case) -> Any:
    other = content_of(honest(leaves=not isinstance(json.loads(content[files.OPENING]).get("claims"), dict)))
    return {**content, files.STATEMENT: other[files.STATEMENT]}, Failure.DIGEST


# ---- who signs with a key of his own --------------------------------------------------------------------------------


def signed_by_another(chance: random.Random, content: Content, case: Case) -> Any:
    changed = chance.choice([insiders.changed_results, insiders.raw_alone, _same])(chance, content, case)
    return signed(changed, THIEF), Failure.SIGNER


def signed_and_planned_by_another(_: random.Random, content: Content, __: Case) -> Any:
    plan = json.loads(content[files.PLAN])
    plan["signer"] = public_key(THIEF)
    return signed({**content, files.PLAN: canonical_json(plan)}, THIEF), Failure.SIGNER


def _same(_: random.Random, content: Content, __: Case) -> Content:
    return content


MUTATIONS: dict[str, Callable[[random.Random, Content, Case], Any]] = {
    each.__name__: each
    for each in (
        bit_flip, cut, grown, exchanged, dropped, added, unknown, linked, fewer_signatures, other_statement,
        signed_by_another, signed_and_planned_by_another,
        insiders.respelled, insiders.too_deep, insiders.answers_edited, insiders.read_otherwise,
        insiders.answers_invented, insiders.transcript_edited, insiders.results_edited, insiders.statement_lies,
        insiders.canaries_edited, insiders.corpus_edited, insiders.stopped_early,
        insiders_evidence.plan_edited, insiders_evidence.plan_that_is_none, insiders_evidence.other_commitment,
        insiders_evidence.opening_edited, insiders_evidence.probes_edited, insiders_evidence.release_exchanged,
        insiders_evidence.ledger_edited, insiders_evidence.stamp_edited,
    )
}  # fmt: skip
CASES: tuple[dict[str, Any], ...] = ({}, {"leaves": True}, {"token": True}, {"sequential": True}, {"stamped": True})
