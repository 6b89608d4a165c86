"""``plan audit``, ``audit`` and ``verify`` on a release: the same for every kind of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from countermark.errors import EXIT_OK, UsageError
from countermark.files import atomic_write
from pipelines import keystage
from pipelines.asked import Access, Asked, check_adapter, controls_of
from pipelines.audited import AuditRequest, Terms
from pipelines.drafting import sealed_plan
from pipelines.probe import read_answers, read_probes
from verification.checks import PAID_KINDS
from verification.plan import probes_for
from verification.power import power_plot, power_table
from verification.spending import estimate
from watermarks.leaves import KEYED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.audited import Audited
    from pipelines.run import RunFolder, StageRecord
    from verification.plan import AuditPlan, ClaimPlan
    from verification.power import PowerTable
    from verification.probe import Probe

Result = tuple[list[str], Any, int]

NO_REFERENCE = "no reference model was asked, only a wrong key's codewords: name one with --base or --control"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_URL = ("http://", "https://")
UNREAD = 0.9
"""From this share of unreadable answers on, the way of asking is suspected first."""
NAMED = ("chat", "completions")
"""What has to be asked for by a model's name."""


def requested(
    kind: Audited,
    *,
    suspect: str | None,
    base: str | None,
    controls: Sequence[str],
    name: str,
    system: str | None,
    access: Access | None = None,
    terms: Terms | None = None,
) -> AuditRequest:
    """The audit of one suspect; its base, where it has one, is a control too.

    Raises:
        UsageError: no suspect, an adapter without its base, or a name that can be no folder's.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"got --name {name!r}, expected letters, digits, dots, dashes and underscores")
    if not suspect:
        raise UsageError(
            "got no suspect, expected a model folder, a LoRA adapter with --base, a hub id, or a URL",
            hint="countermark audit CONFIG --suspect DIR --base MODEL, or --suspect https://HOST/v1 --model NAME",
        )
    check_adapter(suspect, base)
    access = access or Access()
    if suspect.startswith(_URL) and access.api in NAMED and not access.model:
        raise UsageError(f"got {suspect} without a model, expected its name there", hint="add --model NAME")
    if base and suspect.startswith(_URL):
        raise UsageError(
            f"got --base with {suspect}, expected it with an adapter in a folder",
            hint="a local model that is only to be a control is named with --control",
        )
    return AuditRequest(
        kind=kind,
        name=name,
        suspects=(Asked(name="suspect", model=suspect, base=base, access=access),),
        controls=controls_of(base, controls),
        system=system,
        terms=terms or Terms(),
    )


def _same(run: RunFolder, request: AuditRequest) -> None:
    """An audit goes on as it was sealed.

    Raises:
        UsageError: a plan of this name was sealed with other options.
    """
    stage = request.stages()[0]
    if not run.artifact_path(stage.name).exists():
        return
    expected = stage.fields({name: run.artifact(name) for name in stage.inputs}, run.config)["config_digest"]
    if run.artifact(stage.name).manifest["config_digest"] != expected:
        raise UsageError(
            f"got audit {request.name!r} with another suspect, control, system prompt, budget or look than its sealed "
            "plan, expected the same",
            hint="repeat the command as it was, or begin another audit with --name",
        )


def planned(run: RunFolder, request: AuditRequest, *, power: float, dry_run: bool, plot: Path | None = None) -> Result:
    """Seals the plan of an audit, or drafts it; says what it can show, what it takes, and what it is missing."""
    context = run.context(f"plan-{request.name}")
    if dry_run:
        draft = request.drafted(context, run.artifact("keys"), run.artifact("release"))
        plan, sealed = draft.plan, None
    else:
        _same(run, request)
        run.perform(request.stages()[0])
        artifact = run.artifact(f"plan-{request.name}")
        plan, sealed = sealed_plan(artifact), str(artifact.manifest["plan_digest"])
        draft = None
    keyed = [claim for claim in plan.claims if claim.claim in KEYED]
    table = (
        power_table(
            alpha=plan.alpha, classes=len(keyed[0].answers), power=power, family=plan.family * plan.paid,
            carriers=len(keyed[0].carriers), prior=plan.sequential.prior if plan.sequential else None,
        )
        if keyed
        else None
    )  # fmt: skip
    planned_triggers = int(keyed[0].mark.get("count", 0)) if keyed else 0
    timing = plan.timing
    body: dict[str, Any] = {
        "plan_digest": sealed, "sealed": sealed is not None, "rule": plan.stopping, "triggers": planned_triggers,
        "timing": {"evidence": timing.evidence, "at": timing.commitment_time} if timing else None,
        "power": table.to_json() if table else None,
    }  # fmt: skip
    lines = [f"sealed as {sealed}" if sealed else "nothing is sealed, and no trigger spent", plan.stopping]
    lines += _power_lines(table, planned_triggers) if table else []
    asked = draft.asked if draft else _listed(run, request, plan)
    body["cost"] = _costs(request, asked, context.config.audit.max_new_tokens)
    lines += _cost_lines(body["cost"])
    if plot and table:
        atomic_write(plot, power_plot(table).encode())
    if timing and timing.evidence == "none":
        lines.append("exploratory only: nothing that others can check shows when the commitment was made")
    return lines, body, EXIT_OK


def audited(run: RunFolder, request: AuditRequest) -> list[StageRecord]:
    """Plans, asks and decides, or verifies that all of it is done."""
    _same(run, request)
    records = []
    for number, stage in enumerate(request.stages()):
        run.progress.say(stage.name)
        records.append(run.perform(stage))
        if number == 0 and request.paid:  # what it will cost, before the first query
            listed = _listed(run, request, sealed_plan(run.artifact(stage.name)))
            for line in _cost_lines(_costs(request, listed, run.config.audit.max_new_tokens)):
                run.progress.say(f"  {line}")
    request.check(sealed_plan(run.artifact(f"plan-{request.name}")))  # a repeated audit asks nobody
    return records


def concluded(
    run: RunFolder, request: AuditRequest, *, out: Path | None, opening: str, ledger_keys: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[str], dict[str, Any]]:
    """Audits, writes the evidence, and returns verdicts, notes and what else a program wants to know."""
    from pipelines.bundling import bundle_audit, not_opened

    audited(run, request)
    key = keystage.standing(run.context("audit"))
    notes = [keystage.standing_line(key), *([] if request.controls else [NO_REFERENCE]), *unread(run, request)]
    closed = not_opened(run, request, opening)
    if closed and out is None:
        notes.append(f"no evidence was written: {closed}")
        return verdicts_of(run, request), notes, {"key": key.to_json(), "evidence": None}
    written = bundle_audit(run, request, out=out, opening=opening, ledger_keys=ledger_keys)
    notes += [f"evidence: {written.path} (countermark verify {written.path}), signed by {written.signer}"]
    evidence = {"path": str(written.path), "digest": written.digest, "signer": written.signer}
    return written.verdicts, notes, {"key": key.to_json(), "evidence": evidence}


def verdicts_of(run: RunFolder, request: AuditRequest) -> list[dict[str, Any]]:
    """The verdicts of a finished audit, as JSON."""
    from countermark.manifest import read_json
    from pipelines.audit import VERDICTS_FILE

    found: list[dict[str, Any]] = read_json(run.artifact_path(f"audit-{request.name}") / VERDICTS_FILE)
    return found


def would_do(request: AuditRequest, folder: Path) -> Result:
    """What a dry run says."""
    stages = [stage.name for stage in request.stages()]
    return [f"would do {each} in {folder}" for each in stages], {"stages": stages}, EXIT_OK


def _power_lines(table: PowerTable, triggers: int) -> list[str]:
    """What each test needs, as a table for people."""
    lines = [
        f"triggers for power {table.power:g} at alpha {table.alpha:g} over {table.family} (this plan has {triggers}):",
        f"{'strength':<44}" + "".join(f"{s:>8g}" for s in table.strengths),
    ]
    for method in table.methods:
        lines.append(f"{method.name:<44}" + "".join(f"{n if n is not None else '–':>8}" for n in method.needed))
        if method.median != method.needed:
            lines.append(f"{'  half of them stop after':<44}" + "".join(f"{n or '–':>8}" for n in method.median))
    return lines


def _listed(run: RunFolder, request: AuditRequest, plan: AuditPlan) -> list[tuple[ClaimPlan, list[Probe]]]:
    """The sealed plan's claims with their probes."""
    planned = run.artifact(f"plan-{request.name}")
    return [(claim, read_probes(planned, claim.claim)) for claim in plan.claims]


def _costs(
    request: AuditRequest, asked: Sequence[tuple[ClaimPlan, list[Probe]]], max_tokens: int
) -> dict[str, dict[str, Any]]:
    """What asking each paid suspect will take at most."""
    found = {}
    for each in request.everybody:
        if each.kind not in PAID_KINDS:
            continue
        probes = [
            probe
            for claim, listed in asked
            for suspect in claim.suspects
            if suspect.name == each.name
            for probe in probes_for(listed, suspect)
        ]
        made = estimate(
            probes, each.access.policy(max_tokens), price_in=each.access.price_in, price_out=each.access.price_out,
            system=request.system,
        )  # fmt: skip
        found[each.name] = {
            "queries": made.queries, "prompt_tokens": made.prompt_tokens, "completion_tokens": made.completion_tokens,
            "cost": made.cost, "cost_at_most": made.cost_at_most,
        }  # fmt: skip
    return found


def _cost_lines(costs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The estimate for people."""
    return [
        f"{who}: at most {c['queries']} queries, about {c['prompt_tokens'] + c['completion_tokens']} tokens, cost "
        f"{c['cost']:.4g} ({c['cost_at_most']:.4g} if every query needs all its retries)"
        for who, c in costs.items()
    ]


def unread(run: RunFolder, request: AuditRequest) -> list[str]:
    """Who was hardly understood at all: more often a wrong template, model or system prompt than a clean suspect."""
    plan, answers = sealed_plan(run.artifact(f"plan-{request.name}")), run.artifact(f"answers-{request.name}")
    notes = []
    for claim in plan.claims:
        for name, said in read_answers(answers, claim).items():
            lost = sum(answer.parsed is None for answer in said)
            if said and lost >= UNREAD * len(said):
                notes.append(
                    f"{lost} of {len(said)} answers of {name} to {claim.claim} are none of {', '.join(claim.allowed)}: "
                    "check chat template, system prompt (--system) and model; they count against the claim"
                )
    return notes
