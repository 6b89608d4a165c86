"""``countermark mark`` and ``countermark audit`` on a release: lines for people and JSON for programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK, UsageError
from countermark.manifest import read_json
from pipelines import keystage, release
from pipelines.audit import VERDICTS_FILE
from pipelines.audited import Asked, Audited, AuditRequest
from pipelines.plan import PLAN_FILE
from pipelines.progress import default_progress
from pipelines.release_audit import DoubleIRelease
from pipelines.run import open_run
from pipelines.stage import Stage
from verification.plan import AuditPlan, Claim
from verification.verdict import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.config import RunConfig
    from pipelines.release_config import ReleaseConfig
    from pipelines.run import RunFolder, StageRecord

MARKING = (
    Stage(name="keys", inputs=(), run=keystage.run, settings=keystage.settings),
    Stage(name="release", inputs=("keys",), run=release.run, settings=release.settings),
)
NO_REFERENCE = "no reference model was asked, only a wrong key's codewords: name one with --base or --control"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Result = tuple[list[str], Any, int]


def mark_release(config: ReleaseConfig, folder: Path, *, dry_run: bool, quiet: bool) -> Result:
    """Makes key ring and commitment, then the marked copies."""
    if dry_run:
        base = release.open_base(config)
        plan = release.layout(config, len(base.table.rows))
        body: dict[str, Any] = {
            "clean": plan.clean,
            "backdoor": plan.backdoor,
            "rows_per_codeword": plan.rows_per_codeword,
        }
        lines = [f"{name}: {value}" for name, value in body.items()]
        return [*lines, f"would mark {base.table.source} ({base.form}) into {folder}"], body, EXIT_OK
    with open_run(folder, cast("RunConfig", config), default_progress(quiet=quiet)) as run:
        records = [run.perform(each) for each in MARKING]
        artifact = run.artifact("release")
    rows, files = artifact.manifest["rows"], sorted(str(artifact.path / name) for name in artifact.manifest["files"])
    skipped = all(record.skipped for record in records)
    done: dict[str, Any] = {"rows": rows, "files": files, "digest": artifact.digest, "skipped": skipped}
    return [f"{rows} rows a copy, {artifact.digest}", *files], done, EXIT_OK


def audit_release(
    config: ReleaseConfig,
    folder: Path,
    *,
    suspect: str | None,
    base: str | None,
    controls: Sequence[str],
    name: str,
    system: str | None,
    dry_run: bool,
    quiet: bool,
) -> Result:
    """Plans, asks and decides one audit of one suspect."""
    if not suspect:
        raise UsageError(
            "got no suspect, expected a model folder, a LoRA adapter with --base, or a hub id",
            hint="countermark audit CONFIG --suspect DIR --base MODEL",
        )
    if not base and (Path(suspect).expanduser() / "adapter_config.json").is_file():
        raise UsageError(
            f"got the adapter {suspect} without its base, expected both", hint="name the base model with --base"
        )
    request = one_suspect(DoubleIRelease(), suspect, base, controls, name=name, system=system)
    if dry_run:
        return planned(request, folder)
    with open_run(folder, cast("RunConfig", config), default_progress(quiet=quiet)) as run:
        _, verdicts = audited(run, request)
        key = keystage.standing(run.context("audit"))
    notes = [keystage.standing_line(key), *([] if request.controls else [NO_REFERENCE])]
    return summary(verdicts) + notes, {"verdicts": verdicts, "notes": notes, "key": key.to_json()}, exit_code(verdicts)


def one_suspect(
    kind: Audited, suspect: str, base: str | None, controls: Sequence[str], *, name: str, system: str | None
) -> AuditRequest:
    """The audit of one suspect; its base, where it has one, is a control too.

    Raises:
        UsageError: a name that can be no folder's.
    """
    check_audit_name(name)
    known = ([base] if base else []) + [c for c in controls if c != base]
    return AuditRequest(
        kind=kind,
        name=name,
        suspects=(Asked(name="suspect", model=suspect, base=base),),
        controls=tuple(Asked(name="base" if c == base else f"control-{i}", model=c) for i, c in enumerate(known)),
        system=system,
    )


def planned(request: AuditRequest, folder: Path) -> Result:
    """What a dry run says."""
    stages = [stage.name for stage in request.stages()]
    return [f"would do {each} in {folder}" for each in stages], {"stages": stages}, EXIT_OK


def audited(run: RunFolder, request: AuditRequest) -> tuple[list[StageRecord], list[dict[str, Any]]]:
    """Plans, asks and decides, or verifies that all of it is done; what was done, and the verdicts."""
    records = []
    for stage in request.stages():
        run.progress.say(stage.name)
        records.append(run.perform(stage))
    plan = run.artifact(f"plan-{request.name}")
    request.check(AuditPlan.from_json(read_json(plan.path / PLAN_FILE)))  # a repeated audit asks nobody
    verdicts: list[dict[str, Any]] = read_json(run.artifact_path(f"audit-{request.name}") / VERDICTS_FILE)
    return records, verdicts


def check_audit_name(name: str) -> None:
    """An audit's name becomes the name of folders."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"got --name {name!r}, expected letters, digits, dots, dashes and underscores")


def exit_code(verdicts: Sequence[dict[str, Any]]) -> int:
    """0: the keyed claim about the suspect is supported; 1: it is not, or a control is; 5: it is inconclusive.

    The rank of a single trigger stands beside it: its floor is 1 / (M + 1), which few alphas admit.
    """
    claims = [v["decision"] for v in verdicts if not v["control"] and v["claim"] == Claim.DOUBLE_I]
    controls = [v["decision"] for v in verdicts if v["control"]]
    if Decision.NOT_SUPPORTED in claims or Decision.SUPPORTED in controls:
        return EXIT_NOT_SUPPORTED
    return EXIT_INCONCLUSIVE if Decision.INCONCLUSIVE in claims else EXIT_OK


def summary(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Every verdict in a line, then who is named, then the paper's own numbers."""
    lines = [f"{'claim':<17} {'suspect':<20} {'role':<8} {'matches':>9} {'log10 p':>9} {'Holm':>9}  decision"]
    for v in verdicts:
        role = "control" if v["control"] else "claim"
        matches = f"{v['successes']}/{v['trials']}"
        lines.append(
            f"{v['claim']:<17} {v['suspect']:<20} {role:<8} {matches:>9} {v['log10_p']:>9.2f} "
            f"{v['log10_p_holm']:>9.2f}  {v['decision']}"
        )
    for v in verdicts:
        if not v["control"]:
            lines += _details(v)
    return lines


def _details(verdict: dict[str, Any]) -> list[str]:
    lines = [f"{verdict['claim']}: {verdict['sentence']}."]
    naming = verdict["recipients"]
    if naming:
        said = {"none": "no recipient is named", "one": "the copy of", "mixed": "mixed copies of"}[naming["word"]]
        lines.append(f"recipients: {' '.join([said, *naming['named']])} (Holm over {naming['recipients']})")
    paper = verdict["paper"]
    if paper and "table" in paper:
        (a, b), (c, d) = paper["table"]
        lines.append(
            f"{paper['label']}: {paper['form']}, trigger {a}/{a + b} against reference {c}/{c + d}, "
            f"Fisher log10 p {paper['fisher_log10_p']:.2f}"
        )
    return lines
