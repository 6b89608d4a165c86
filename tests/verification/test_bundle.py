"""Evidence bundles: honest ones verify to the same bytes anywhere; everything else is named by its class."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from dataclasses import replace

import pytest

from countermark.errors import UsageError
from countermark.manifest import canonical_json
from tests.support import key_of
from tests.verification.bundles import AUDITOR, KEY, LOG_KEY, OWNER, THIEF, TSA, honest
from tests.verification.hermetic import verified_alone
from tests.verification.ledgers import OTHER
from tests.verification.mutants import CASES
from tests.verification.sealed import content_of, put, signed, verified
from verification.audit import audit
from verification.bundle import write_bundle
from verification.bundle_check import verify_bundle
from verification.bundle_faults import BundleError, Failure
from verification.bundle_judge import LEAVES_UNDATED, MARKS_NOT_BOUND, SCOPE_NOT_BOUND, judge
from verification.bundle_parts import BLIND, WITNESSED
from verification.dsse import public_key
from verification.opening import LEAVES_NOT_REDERIVED
from verification.plan import Claim, Timing
from verification.verdict import Decision
from watermarks.leaves import KEYED

ROBUST = {"claims": (Claim.OUTPUT_ROBUST,), "leaves": True}
EVERY = [{}, {"leaves": True}, *(pytest.param(each, marks=pytest.mark.long) for each in [*CASES[2:], ROBUST])]


def _refused(folder, failure, match=".", **arguments):
    with pytest.raises(BundleError, match=match) as caught:
        verify_bundle(folder, **arguments)
    assert (caught.value.failure, caught.value.exit_code) == (failure, 3)
    assert str(caught.value).startswith(failure)


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_an_honest_bundle_gives_the_verdicts_of_its_audit(tmp_path, kind):
    case = honest(**kind)
    put(tmp_path / "b", content := content_of(case))
    checked = verify_bundle(
        tmp_path / "b", signers=[public_key(AUDITOR), public_key(OWNER)], ledger_keys=[LOG_KEY], authorities=[TSA.pem]
    )
    assert checked.digest == hashlib.sha256(content["statement.json"]).hexdigest()
    found = {(v.claim, v.suspect): (v.decision, v.log10_p, v.sequential) for v in checked.verdicts}
    direct = audit(case.bundle.plan, case.bundle.opened, case.bundle.evidence)
    assert found == {(v.claim, v.suspect): (v.decision, v.log10_p, v.sequential) for v in direct}
    assert any(v.decision is Decision.SUPPORTED for v in checked.verdicts)
    assert not any(v.exploratory for v in checked.verdicts)
    assert checked.unchecked == (WITNESSED, BLIND, "that no more than 1 commitments were made for the release")
    for verdict in checked.verdicts:
        assert (LEAVES_NOT_REDERIVED in verdict.assumptions) == bool(kind.get("leaves"))
        assert MARKS_NOT_BOUND not in verdict.assumptions
    assert [step.number for step in checked.steps] == sorted(step.number for step in checked.steps)
    assert json.loads(checked.encode())["verdicts"] == json.loads((tmp_path / "b/results.json").read_bytes())


def test_the_same_audit_gives_the_same_bytes_twice(tmp_path):
    case = honest()
    assert case.written(tmp_path / "a") == case.written(tmp_path / "deeper" / "b")
    one, other = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "a", tmp_path / "deeper" / "b")
    )
    assert one == other
    assert verified(tmp_path / "a").encode() == verified(tmp_path / "deeper" / "b").encode()
    assert str(tmp_path) not in str(one)


def test_with_leaves_no_byte_of_the_key_is_in_the_bundle():
    for data in content_of(honest(leaves=True)).values():
        assert KEY.secret not in data
        assert KEY.secret.hex().encode() not in data
        assert KEY.nonce.hex().encode() not in data


def test_the_statement_is_an_in_toto_statement():
    content = content_of(honest())
    body = json.loads(base64.b64decode(json.loads(content["statement.json"])["payload"]))
    assert body["predicateType"] == "https://countermark.dev/attestation/audit/v1"
    assert {each["name"] for each in body["subject"]} == set(content) - {"statement.json"}
    assert body["predicate"]["decisions"]["double_i/suspect"] == "supported"
    assert body["predicate"]["plan_sha256"] == honest().bundle.plan_digest


@pytest.mark.long
@pytest.mark.parametrize("kind", [{"token": True}, {"leaves": True}], ids=str)
def test_the_base_install_without_network_gives_the_same_bytes(tmp_path, kind):
    folder = put(tmp_path / "b", content_of(honest(**kind)))
    here = verify_bundle(folder, signers=[public_key(AUDITOR)], ledger_keys=[LOG_KEY])
    assert verified_alone(folder) == here.encode()


def test_who_signed_is_the_readers_to_say(tmp_path):
    put(tmp_path / "b", content_of(honest()))
    checked = verify_bundle(tmp_path / "b")
    assert "who has the keys that signed" in checked.unchecked[0]
    assert "whose log" in checked.unchecked[1]
    _refused(tmp_path / "b", Failure.SIGNER, signers=[public_key(THIEF)])
    _refused(tmp_path / "b", Failure.LEDGER, ledger_keys=[OTHER.verifier.encode()])
    _refused(tmp_path / "b", Failure.LEDGER, ledger_keys=["no key"])


def test_an_authority_that_nobody_named_is_listed(tmp_path):
    put(tmp_path / "b", content_of(honest(stamped=True)))
    said = " ".join(verify_bundle(tmp_path / "b").unchecked)
    assert "CN=stamps" in said
    assert "CN=stamps" not in " ".join(verify_bundle(tmp_path / "b", authorities=[TSA.pem]).unchecked)


def _bent(**changes):
    case = honest()
    return replace(case, bundle=replace(case.bundle, **changes))


def _planned(**changes):
    return replace(honest().bundle.plan, **changes)


def test_what_would_not_verify_is_never_written(tmp_path):
    for case, failure in (
        (_bent(manifests={}), Failure.LEDGER),
        (_bent(transcripts={}), Failure.TRANSCRIPT),
        (_bent(ledger={}), Failure.TIME),
        (_bent(opened=key_of("another")), Failure.OPENING),
        (_bent(timestamp=TSA.stamp("0" * 64)), Failure.TIMESTAMP),
    ):
        verdicts = judge(honest().bundle)
        with pytest.raises(BundleError) as caught:
            write_bundle(tmp_path / "b", case.bundle, verdicts=verdicts, sign=case.sign)
        assert caught.value.failure is failure
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(BundleError, match="signer"):
        write_bundle(tmp_path / "b", honest().bundle, verdicts=judge(honest().bundle), sign=[OWNER])
    with pytest.raises(UsageError, match="0 signers"):
        write_bundle(tmp_path / "b", honest().bundle, verdicts=judge(honest().bundle), sign=[])
    with pytest.raises(UsageError, match="report"):
        honest().written(tmp_path / "b", report_exe=b"")
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="exists"):
        honest().written(tmp_path / "there")


def test_verdicts_that_do_not_follow_are_not_written(tmp_path):
    verdicts = judge(honest().bundle)
    changed = [replace(verdicts[0], log10_p=-9.0), *verdicts[1:]]
    with pytest.raises(BundleError, match="other results"):
        write_bundle(tmp_path / "b", honest().bundle, verdicts=changed, sign=[AUDITOR])


def test_a_plan_without_a_signer_needs_a_reader_who_names_one(tmp_path):
    bundle = replace(honest().bundle, plan=_planned(signer="", timing=None), ledger={})
    write_bundle(tmp_path / "b", bundle, verdicts=judge(bundle), sign=[OWNER])
    assert verify_bundle(tmp_path / "b", signers=[public_key(OWNER)]).signers == (public_key(OWNER),)
    _refused(tmp_path / "b", Failure.SIGNER, "names no signer")


def test_what_the_bundle_leaves_open_is_on_every_verdict():
    undated = replace(honest(leaves=True).bundle, plan=replace(honest(leaves=True).bundle.plan, timing=None), ledger={})
    for verdict in judge(undated):
        assert MARKS_NOT_BOUND in verdict.assumptions
        assert LEAVES_UNDATED in verdict.exploratory
        assert SCOPE_NOT_BOUND not in verdict.exploratory  # the commitment's config digest is in it
    assert all(LEAVES_UNDATED not in v.exploratory for v in judge(honest(leaves=True).bundle))
    claims = tuple(replace(c, mark={**c.mark, "scope": "free"}) for c in honest().bundle.plan.claims)
    free = replace(undated, plan=replace(undated.plan, claims=claims), opened=honest().key, manifests={})
    from verification.bundle_judge import left_open, times_of

    assert left_open(free, times_of(free)) == ((MARKS_NOT_BOUND,), (SCOPE_NOT_BOUND,))


def test_time_evidence_that_the_plan_cites_must_be_there_and_fit(tmp_path):
    stamped = honest(stamped=True).bundle
    timing = {"commitment_time": "2026-01-31T12:00:00Z", "suspect_released": ""}
    for case in (
        replace(stamped.plan, timing=Timing(evidence="timestamp", **timing)),
        replace(stamped.plan, timing=Timing(evidence="timestamp", **{**timing, "commitment_time": "2026-01-31"})),
        replace(stamped.plan, timing=Timing(evidence="public_value", **timing)),
    ):
        assert judge(replace(stamped, plan=case, ledger={}))
    cited = replace(stamped.plan, timing=Timing(evidence="timestamp", **timing))
    for digest_ in (stamped.release_digest, replace(stamped, plan=cited).plan_digest):  # both name the commitment
        assert judge(replace(stamped, plan=cited, ledger={}, timestamp=TSA.stamp(digest_)))
    early = replace(stamped.plan, timing=Timing(evidence="timestamp", **{**timing, "commitment_time": "2026-01-30"}))
    other = replace(stamped.plan, commitment={**stamped.plan.commitment, "public_value": None}, timing=Timing(
        evidence="public_value", **timing))  # fmt: skip
    for plan, stamp in ((early, stamped.timestamp), (other, b""), (replace(early, timing=stamped.plan.timing), b"")):
        with pytest.raises(BundleError) as caught:
            judge(replace(stamped, plan=plan, ledger={}, timestamp=stamp))
        assert caught.value.failure is Failure.TIME
    elsewhere = {**stamped.plan.commitment["public_value"], "commitment": "0" * 64}
    plan = replace(stamped.plan, commitment={**stamped.plan.commitment, "public_value": elsewhere}, timing=None)
    with pytest.raises(BundleError, match="another commitment"):
        judge(replace(stamped, plan=plan, ledger={}))


def test_a_public_value_that_the_log_did_not_draw_is_listed():
    bundle = honest().bundle
    from verification.bundle_judge import times_of

    assert not [point for point in times_of(bundle).unchecked if "public value" in point]
    kept = {name: body for name, body in bundle.ledger.items() if name != "commitment"}
    plan = replace(bundle.plan, timing=None)
    loose = replace(bundle, plan=plan, ledger={"release": kept["release"], "keys": kept["keys"]})
    assert [point for point in times_of(loose).unchecked if "public value" in point]


def test_ranges_that_could_have_been_chosen_are_paid_for(tmp_path):
    """Sixteen triggers of which four are asked: four audits fit, and an owner may have looked at all of them."""
    content = content_of(honest())
    plan = json.loads(content["plan.json"])
    for claim in plan["claims"]:
        claim["mark"].update(first=0, count=4)
    content["plan.json"] = canonical_json(plan)
    _refused(put(tmp_path, signed(content)), Failure.PLAN, "pays for 1 audits")


def test_an_opening_cannot_choose_the_public_value(tmp_path):
    """Another B in the plan gives other probes; another in the opening cannot be said at all."""
    content = content_of(honest())
    plan = json.loads(content["plan.json"])
    plan["commitment"]["public_value"]["value"] = "a value that fits better"
    plan["timing"] = None
    kept = {name: data for name, data in content.items() if not name.startswith("ledger/")}
    changed = signed({**kept, "plan.json": canonical_json(plan)})
    _refused(put(tmp_path, changed), Failure.PLAN)  # None is left out, not written
    del plan["timing"]
    _refused(put(tmp_path, signed({**kept, "plan.json": canonical_json(plan)})), Failure.PROBES)


def test_a_folder_that_is_none(tmp_path):
    _refused(tmp_path / "nowhere", Failure.LAYOUT)
    _refused(tmp_path, Failure.LAYOUT, "no statement.json")
    content = content_of(honest())
    put(tmp_path / "pipe", {name: data for name, data in content.items() if name != "plan.json"})
    os.mkfifo(tmp_path / "pipe" / "plan.json")
    _refused(tmp_path / "pipe", Failure.LAYOUT)
    put(tmp_path / "empty", content)
    (tmp_path / "empty" / "corpora").mkdir()
    _refused(tmp_path / "empty", Failure.LAYOUT, "empty folder")


def test_a_file_beyond_its_size_is_not_read(tmp_path):
    folder = put(tmp_path, content_of(honest()))
    with (folder / "ledger" / "plan.json").open("wb") as stream:
        stream.truncate(1 << 40)  # a hole
    started = time.monotonic()
    _refused(folder, Failure.LAYOUT, "more than")
    assert time.monotonic() - started < 1


def test_names_that_are_no_file_names_get_a_digest(tmp_path):
    """A suspect may be called by a URL; its files are not."""
    case = honest()

    def renamed(name):
        return "https://example.com/../model" if name == "twin" else name

    def answers(said):
        return {renamed(n): [replace(a, suspect=renamed(n)) for a in each] for n, each in said.items()}

    evidence = replace(
        case.bundle.evidence, answers={claim: answers(said) for claim, said in case.bundle.evidence.answers.items()},
        canaries=answers(case.bundle.evidence.canaries),
    )  # fmt: skip
    claims = tuple(
        replace(c, suspects=tuple(replace(s, name=renamed(s.name)) for s in c.suspects))
        for c in case.bundle.plan.claims
    )
    plan = replace(case.bundle.plan, claims=claims, timing=None)
    ledger = {name: body for name, body in case.bundle.ledger.items() if name in {"release", "keys"}}
    bundle = replace(case.bundle, plan=plan, evidence=evidence, ledger=ledger)
    write_bundle(tmp_path / "b", bundle, verdicts=judge(bundle), sign=case.sign)
    assert {v.suspect for v in verify_bundle(tmp_path / "b").verdicts} >= {"https://example.com/../model"}


def test_results_that_differ_in_the_last_digits_are_the_same(tmp_path):
    """Another version of a numeric library may round the twelfth digit otherwise; a claim it cannot change."""
    content = content_of(honest())
    body = json.loads(content["results.json"])
    place = next(i for i, each in enumerate(body) if each["log10_p"] < -1)
    for factor, passes in ((1 + 1e-11, True), (1 + 1e-7, False)):
        body[place]["log10_p"] *= factor
        folder = put(tmp_path / str(passes), signed({**content, "results.json": canonical_json(body)}))
        if passes:
            assert verified(folder).to_json()["verdicts"] == body
        else:
            _refused(folder, Failure.RESULTS)


def test_claims_without_leaves_need_the_key():
    assert {str(claim) for claim in Claim} - set(KEYED) == {
        "token", "double_i_trigger", "input_trigger", "output_weak", "output_steganographic",
    }  # fmt: skip


def test_leaves_cannot_open_a_token_claim(tmp_path):
    token, leaves = honest(token=True), honest(leaves=True)
    content = content_of(token)
    plan = json.loads(content["plan.json"])
    plan["commitment"]["leaf_roots"] = leaves.bundle.plan.commitment["leaf_roots"]
    content = {**content, "plan.json": canonical_json(plan), "opening.json": content_of(leaves)["opening.json"]}
    _refused(put(tmp_path, signed(content)), Failure.OPENING, "expected the key")
