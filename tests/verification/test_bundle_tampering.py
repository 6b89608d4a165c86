"""Bundles that were tampered with: rejected, and by the class of what was done, whoever holds which key."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from countermark.manifest import canonical_json, digest
from tests.verification.bundles import KEY, LOG_KEY, honest, log
from tests.verification.ledgers import SIGNER
from tests.verification.mutants import CASES, MUTATIONS, Mutant, draw, failure_of
from tests.verification.sealed import content_of, put, signed, verified
from verification.bundle_faults import BundleError, Failure
from verification.bundle_judge import judge
from verification.ledger_proof import prove_inclusion, sign_checkpoint


@pytest.fixture(scope="module")
def bases():
    return [(honest(**kind), content_of(honest(**kind))) for kind in CASES]


@pytest.fixture(scope="module")
def whole():
    return content_of(honest())


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_kind_of_tampering_is_named(tmp_path, bases, name):
    case, content = bases[{"corpus_edited": 2, "opening_edited": 1, "stopped_early": 3}.get(name, 0)]
    chance = random.Random(name)
    made = None
    while made is None or made[0] == content:
        made = MUTATIONS[name](chance, dict(content), case)
    mutant = Mutant(name, made[0], frozenset(made[1:]))
    assert failure_of(mutant, tmp_path) in mutant.failures


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_mutated_bundles_are_rejected_with_the_right_class(tmp_path, bases, part):
    for number in range(60):
        chance = random.Random(f"{part}/{number}")
        case, content = bases[number % len(bases)]
        mutant = draw(chance, content, case)
        assert failure_of(mutant, tmp_path / str(number)) in mutant.failures, (mutant.name, part, number)


def _json_edit(name, change):
    def edit(content):
        body = json.loads(content[name])
        change(body)
        return {**content, name: canonical_json(body)}

    return edit


def _line_edit(name, change):
    def edit(content):
        lines = [json.loads(line) for line in content[name].splitlines()]
        change(lines)
        return {**content, name: b"".join(canonical_json(line) + b"\n" for line in lines)}

    return edit


def _without(*names):
    return lambda content: {name: data for name, data in content.items() if name not in names}


RELEASE, KEYS, RECEIVED = "manifests/release.json", "manifests/keys.json", "transcripts/suspect.jsonl"
UNLOGGED = "ledger/release.json"
ELSE = {"commitment": "0" * 64}
SINGLE = {
    "a transcript with another answer": (_line_edit(RECEIVED, lambda a: a[3].update(raw="?")), Failure.TRANSCRIPT),
    "a transcript with an answer more": (_line_edit(RECEIVED, lambda a: a.append(a[0])), Failure.TRANSCRIPT),
    "a transcript for another claim": (_line_edit(RECEIVED, lambda a: a[0].update(claim="x")), Failure.TRANSCRIPT),
    "a failure that said something": (_line_edit(RECEIVED, lambda a: a[0].update(status="failed")), Failure.TRANSCRIPT),
    "keys of another commitment": (_json_edit(KEYS, lambda a: a.update(commitment="0" * 64)), Failure.RELEASE),
    "keys that the release does not name": (_json_edit(KEYS, lambda a: a.update(more=1)), Failure.RELEASE),
    "keys of another commitment, which the release names": (
        lambda c: _json_edit(RELEASE, lambda a: a.update(parents={"keys": digest({**json.loads(c[KEYS]), **ELSE})}))(
            _json_edit(KEYS, lambda a: a.update(ELSE))(_without(UNLOGGED)(c))
        ),
        Failure.RELEASE,
    ),
    "a release without parents": (
        lambda c: _json_edit(RELEASE, lambda a: a.update(parents={}))(_without(UNLOGGED)(c)), Failure.RELEASE,
    ),
    "other marks": (
        lambda c: _json_edit(RELEASE, lambda a: a["marks"].update(double_i="0" * 64))(_without(UNLOGGED)(c)),
        Failure.RELEASE,
    ),
    "a plan that pays for fewer audits than the release admits": (
        lambda c: _json_edit(RELEASE, lambda a: a.update(audits=2))(_without(UNLOGGED)(c)), Failure.RELEASE,
    ),
    "audits that are no number": (
        lambda c: _json_edit(RELEASE, lambda a: a.update(audits=True))(_without(UNLOGGED)(c)), Failure.RELEASE,
    ),
    "other leaf roots": (
        lambda c: _json_edit(RELEASE, lambda a: a["leaf_roots"].update(double_i="0" * 64))(_without(UNLOGGED)(c)),
        Failure.RELEASE,
    ),
    "a row too few": (_json_edit("marked_rows.json", lambda a: a["double_i"].pop()), Failure.RELEASE),
    "rows of no claim": (_json_edit("marked_rows.json", lambda a: a.update(token=[])), Failure.RELEASE),
    "checkpoints that nothing joins": (_without("ledger/consistency.json"), Failure.LEDGER),
    "no key of the log": (_without("ledger/keys.json"), Failure.LEDGER),
    "proofs of nothing": (_without("ledger/commitment.json", UNLOGGED, "ledger/plan.json"), Failure.LEDGER),
    "no proof of the commitment": (_without("ledger/commitment.json"), Failure.TIME),
    "no log at all": (
        lambda c: {name: data for name, data in c.items() if not name.startswith("ledger/")}, Failure.TIME,
    ),
    "an opened leaf of another claim": (_json_edit("opening.json", lambda a: a.update(kind="leaves")), Failure.OPENING),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_one_thing_that_does_not_fit_though_everything_is_signed(tmp_path, whole, name):
    edit, failure = SINGLE[name]
    folder = put(tmp_path, signed(edit(dict(whole))))
    with pytest.raises(BundleError) as caught:
        verified(folder)
    assert caught.value.failure is failure


def test_a_log_that_knows_the_release_before_the_commitment_shows_nothing():
    """A commitment that was logged after what it should have come before was made for it."""
    bundle = honest().bundle
    with log() as ledger:
        release = {"event": "release", "at": "2026-01-11T12:00:00Z", "manifest_sha256": bundle.release_digest}
        sha = bundle.plan.commitment["sha256"]
        late = {"event": "commitment", "at": "2026-01-12T12:00:00Z", "key_id": KEY.key_id, "sha256": sha}
        ledger.append([release, late])
        sign_checkpoint(ledger, SIGNER)
        proofs = {"release": prove_inclusion(ledger, 0), "commitment": prove_inclusion(ledger, 1), "keys": [LOG_KEY]}
    with pytest.raises(BundleError, match="the other order") as caught:
        judge(replace(bundle, plan=replace(bundle.plan, timing=None), ledger=proofs))
    assert caught.value.failure is Failure.LEDGER


@pytest.mark.long
def test_mutants_speak_of_every_class(bases):
    chance = random.Random(1)
    spoken = set()
    for mutation in MUTATIONS.values():
        for _ in range(12):
            made = mutation(chance, dict(bases[2][1]), bases[2][0])
            spoken |= set(made[1:]) if made else set()
    assert spoken == set(Failure)
