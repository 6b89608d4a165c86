"""From a finished audit to evidence that a stranger can check: bundle, report, and what is said on the way."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import canonical_json, digest, read_json
from pipelines.drafting import TIMESTAMP_FILE, audit_signer, sealed_plan
from pipelines.questioning import read_transcripts
from pipelines.spending import record_opening
from verification.audit_report import audit_content, render_audit
from verification.bundle import Bundle, results_of, said_in, write_bundle
from verification.bundle_check import Checked, verify_bundle
from verification.bundle_files import REPORTS
from verification.bundle_judge import judge
from verification.bundle_time import COMMITMENT, PLAN, RELEASE
from verification.dsse import public_key
from verification.leafing import open_plan
from verification.plan import KEYED_ARM
from verification.statistics import zero_events_upper_bound
from watermarks.leaves import KEYED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.audited import AuditRequest
    from pipelines.run import RunFolder
    from pipelines.stage import Context
    from verification.opening import Opened
    from verification.plan import AuditPlan
    from verification.verdict import Verdict

EVIDENCE = "evidence"
"""Where bundles are below a run folder, one an audit."""
OPENINGS = ("leaves", "key")
EXAMPLES_EACH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A bundle on the disk.

    Args:
        path: the folder.
        digest: of its statement.
        signer: public key (hex) of who signed it.
        verdicts: as JSON, those of ``results.json``.
    """

    path: Path
    digest: str
    signer: str
    verdicts: list[dict[str, Any]]


def bundle_audit(
    run: RunFolder, request: AuditRequest, *, out: Path | None, opening: str, ledger_keys: Sequence[str] = ()
) -> Written:
    """Writes the evidence of a finished audit, or verifies what is there already.

    Args:
        run: the release's run folder.
        request: the audit.
        out: the bundle's folder; ``evidence/NAME`` of the run folder otherwise.
        opening: ``leaves`` shows the planned triggers alone; ``key`` opens the key, which is public from then on.
        ledger_keys: verifier keys of the configured ledger, or files of them: a bundle without them shows no proofs.

    Raises:
        UsageError: a claim that only the key can open, or a plan that cites a ledger whose key is not named.
        IntegrityError: a bundle of another audit is there.
    """
    context = run.context(f"audit-{request.name}")
    planned, answers = run.artifact(f"plan-{request.name}"), run.artifact(f"answers-{request.name}")
    plan, path = sealed_plan(planned), out or run.root / EVIDENCE / request.name
    signer = audit_signer(context.owner)
    if path.exists():
        return _known(path, verify_bundle(path, signers=[public_key(signer)]), plan)
    release, keys = run.artifact("release"), run.artifact("keys")
    stamp = planned.path / TIMESTAMP_FILE
    bundle = Bundle(
        plan=plan,
        opened=_opened(context, plan, opening),
        evidence=request.evidence(context, release, planned, answers),
        manifests={"release": release.manifest, "keys": keys.manifest},
        transcripts=read_transcripts(answers, plan),
        ledger=_proofs(context.config.keys.ledger, plan, release.digest, ledger_keys),
        timestamp=stamp.read_bytes() if stamp.exists() else b"",
    )  # fmt: skip
    verdicts = judge(bundle)
    if opening == "key":
        told = {"key_id": context.key().key_id, "release": plan.commitment["sha256"]}
        record_opening(context.spent_path(), request.name, **told)
    written = write_bundle(
        path, bundle, verdicts=verdicts, sign=[signer], reports=_reports(bundle, verdicts, public_key(signer))
    )
    return Written(path=path, digest=written, signer=public_key(signer), verdicts=json.loads(results_of(verdicts)))


def _known(path: Path, checked: Checked, plan: AuditPlan) -> Written:
    if checked.bundle.plan != plan:
        raise IntegrityError(
            f"got evidence of another audit in {path}, expected this one's", hint="choose another --out"
        )
    return Written(
        path=path, digest=checked.digest, signer=checked.signers[0], verdicts=[dict(each) for each in checked.results]
    )  # fmt: skip


def not_opened(run: RunFolder, request: AuditRequest, opening: str) -> str:
    """Why no bundle can be written with this opening; "" where one can.

    Raises:
        UsageError: no such opening.
    """
    if opening not in OPENINGS:
        raise UsageError(f"got --open {opening!r}, expected one of: {', '.join(OPENINGS)}")
    plan = sealed_plan(run.artifact(f"plan-{request.name}"))
    closed = [claim.claim for claim in plan.claims if claim.claim not in KEYED]
    if not closed or opening == "key":
        return ""
    return f"only the key opens claim {closed[0]}, and --open key makes it public"


def _opened(context: Context, plan: AuditPlan, opening: str) -> Opened:
    if opening == "key":
        return context.key()
    if closed := [claim.claim for claim in plan.claims if claim.claim not in KEYED]:
        raise UsageError(
            f"got claim {closed[0]}, which no leaves can open, expected the key to be opened for it",
            hint="--open key writes the bundle and makes the key public: its other marks can then be found and forged",
        )
    return open_plan(context.key(), plan.claims)


def _proofs(where: str | None, plan: AuditPlan, release: str, keys: Sequence[str]) -> dict[str, Any]:
    """Proofs that the configured ledger holds commitment, release and plan, under its newest checkpoint above all."""
    cited = plan.timing is not None and plan.timing.evidence == "ledger"
    if where is None or not (keys or cited):
        return {}
    from pipelines.ledger_commands import read_verifiers
    from pipelines.ledgering import find_event, open_ledger
    from verification.ledger_proof import prove_inclusion

    verifiers = [verifier.encode() for each in keys for verifier in read_verifiers(each)]
    wanted = {
        COMMITMENT: {"sha256": plan.commitment["sha256"]}, RELEASE: {"manifest_sha256": release},
        PLAN: {"plan_sha256": digest(plan.to_json())},
    }  # fmt: skip
    with closing(open_ledger(where)) as ledger:
        found = {what: find_event(ledger, what, **fields) for what, fields in wanted.items()}
        places = {what: each[0] for what, each in found.items() if each is not None}
        with ledger.snapshot() as session:
            signed = max((size for size, _ in session.notes()), default=0)
        if not verifiers or signed <= max(places.values(), default=0):
            raise UsageError(
                f"got a plan that cites ledger {where}, "
                + ("whose key is not named" if not verifiers else "where no checkpoint is above all of this audit")
                + ", expected proofs of it",
                hint="countermark ledger checkpoint, then repeat the audit with --ledger-key sign.key.pub",
            )
        proofs = {what: prove_inclusion(ledger, place, size=signed) for what, place in places.items()}
    return {**proofs, "keys": verifiers}


def _reports(bundle: Bundle, verdicts: list[Verdict], signer: str) -> dict[str, bytes]:
    from verification.power import power_table

    plan = bundle.plan
    keyed = [claim for claim in plan.claims if claim.claim in KEYED]
    power = (
        power_table(
            alpha=plan.alpha, classes=len(keyed[0].answers), family=plan.family * plan.paid,
            prior=plan.sequential.prior if plan.sequential else None,
        ).to_json()
        if keyed
        else None
    )  # fmt: skip
    # of what a bad network changes, retries and tokens, nothing is said here: bundles of one audit are equal bytes
    content = audit_content(
        plan.to_json(),
        [verdict.to_json() for verdict in verdicts],
        spent={"queries": sum(len(answers) for _, _, answers in said_in(bundle)), "tokens": None},
        examples=_examples(bundle),
        error_rates=error_rates(),
        bundle={"digest": "", "signer": signer},
        power=_of_methods(power),
        arms=_arms(bundle),
    )
    json_name, html_name = sorted(REPORTS, key=lambda name: name.endswith("html"))
    return {json_name: canonical_json(content), html_name: render_audit(content).encode()}


def _of_methods(power: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the report's plot needs of a power table."""
    if power is None:
        return None
    methods = [{"name": m["name"], "needed": m["needed"]} for m in power["methods"]]
    return {**{name: power[name] for name in ("power", "alpha", "chance", "strengths")}, "methods": methods}


def _examples(bundle: Bundle) -> list[dict[str, Any]]:
    """The first answers of every suspect to keyed triggers, whatever they say."""
    found = []
    for claim in bundle.plan.claims:
        prompts = {probe.id: probe.prompt for probe in bundle.evidence.probes[claim.claim]}
        for suspect in claim.suspects:
            said = bundle.evidence.answers[claim.claim].get(suspect.name, ())
            found += [
                {"suspect": suspect.name, "arm": a.arm, "prompt": prompts[a.id], "raw": a.raw, "parsed": a.parsed}
                for a in [a for a in said if a.arm == KEYED_ARM][:EXAMPLES_EACH]
            ]
    return found


def _arms(bundle: Bundle) -> dict[str, dict[str, int]]:
    """How many probes of each arm every claim has."""
    arms: dict[str, dict[str, int]] = {}
    for claim, probes in bundle.evidence.probes.items():
        for probe in probes:
            mine = arms.setdefault(str(claim), {})
            mine[probe.arm] = mine.get(probe.arm, 0) + 1
    return arms


def error_rates() -> list[dict[str, Any]]:
    """The known error rates that ship with this version; ``benchmarks/`` says how each was measured."""
    from importlib import resources

    path = resources.files("verification").joinpath("error_rates.json")
    rows: list[dict[str, Any]] = read_json(path)  # type: ignore[arg-type]
    return [_bounded(row) for row in rows]


def _bounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """No event at all is told as its upper bound."""
    high = row["high"] if row["value"] else zero_events_upper_bound(row["trials"])
    return {**row, "high": high}
