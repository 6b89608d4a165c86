"""``countermark mark`` and ``countermark audit`` on a release: lines for people and JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK
from pipelines import keystage, release
from pipelines.audit_commands import concluded, would_do
from pipelines.progress import default_progress
from pipelines.run import open_run
from pipelines.settling import RELEASE, open_marking, open_released
from pipelines.stage import Stage
from verification.plan import Claim
from verification.verdict import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipelines.audited import AuditRequest
    from pipelines.config import RunConfig
    from pipelines.release_config import ReleaseConfig

MARKING = (
    Stage(name="keys", inputs=(), run=keystage.run, settings=keystage.settings),
    Stage(name="release", inputs=("keys",), run=release.run, settings=release.settings),
)
Result = tuple[list[str], Any, int]


def mark_release(config: ReleaseConfig, folder: Path, *, fresh: bool = False, dry_run: bool, quiet: bool) -> Result:
    """Makes key ring and commitment, then the marked copies."""
    base = release.open_base(config)
    plan = release.planned(config, base)  # before a key is drawn, and a folder made
    if dry_run:
        body: dict[str, Any] = {
            "clean": plan.clean,
            "backdoor": plan.backdoor,
            "rows_per_codeword": plan.rows_per_codeword,
            "renumbered": release.renumbered(base),
        }
        lines = [f"{name}: {value}" for name, value in body.items()]
        return [*lines, f"would mark {base.table.source} ({base.form}) into {folder}"], body, EXIT_OK
    with open_marking(folder, config, quiet=quiet, fresh=fresh) as run:
        records = [run.perform(each) for each in MARKING]
        artifact = run.artifact(RELEASE)
    rows, files = artifact.manifest["rows"], sorted(str(artifact.path / name) for name in artifact.manifest["files"])
    skipped = all(record.skipped for record in records)
    done: dict[str, Any] = {"rows": rows, "files": files, "digest": artifact.digest, "skipped": skipped}
    return [f"{rows} rows a copy, {artifact.digest}", *files], done, EXIT_OK


def audit_release(
    config: ReleaseConfig, folder: Path, request: AuditRequest, *, out: Path | None, opening: str,
    ledger_keys: Sequence[str] = (), dry_run: bool, quiet: bool,
) -> Result:  # fmt: skip
    """Plans, asks and decides one audit of one suspect, and writes its evidence."""
    if dry_run:
        return would_do(request, folder)
    open_released(folder)
    with open_run(folder, cast("RunConfig", config), default_progress(quiet=quiet)) as run:
        verdicts, notes, more = concluded(run, request, out=out, opening=opening, ledger_keys=ledger_keys)
    return summary(verdicts) + notes, {"verdicts": verdicts, "notes": notes, **more}, exit_code(verdicts)


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
        elif v["decision"] == Decision.INCONCLUSIVE:
            lines.append(f"control {v['suspect']} of {v['claim']}: {'; '.join(v['reasons'])}.")
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
