"""``mark``, ``mark --check``, ``audit`` and ``run`` on a dataset release: lines for people and JSON for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK, UsageError
from countermark.manifest import read_json
from countermark.version import __version__
from pipelines.audit_commands import audited, concluded, verdicts_of, would_do
from pipelines.dataset.examining import examine
from pipelines.dataset.measuring import METRICS_FILE
from pipelines.dataset.sections import otherwise
from pipelines.dataset.stages import MARKING, audit_request, train_stages
from pipelines.dataset.training import TWIN, kinds
from pipelines.progress import default_progress
from pipelines.run import open_run
from pipelines.settling import RELEASE, check_record, open_marking, open_released
from verification.verdict import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipelines.audited import AuditRequest
    from pipelines.config import RunConfig
    from pipelines.dataset.config import DatasetConfig
    from pipelines.run import RunFolder

Result = tuple[list[str], Any, int]
_INSTEAD = {"drop": "were dropped", "keep": "stayed unmarked", "insert": "were marked by rule"}
"""What a report says of rows that a language model could not write."""


def mark_dataset(config: DatasetConfig, folder: Path, *, fresh: bool = False, dry_run: bool, quiet: bool) -> Result:
    """Makes key ring and commitment, then the marked release."""
    if dry_run:
        return _planned(config, folder)
    if fresh or not (folder / "artifacts" / RELEASE).exists():
        examine(config)  # before a key is drawn, and a folder made or emptied
    with open_marking(folder, config, quiet=quiet, fresh=fresh) as run:
        records = [run.perform(each) for each in MARKING]
        artifact = run.artifact(RELEASE)
        check_record(run)
    body = {
        "rows": artifact.manifest["rows"], "release": str(artifact.path), "shards": artifact.manifest["shards"],
        "digest": artifact.digest, "record": str(folder / "owner" / "records" / "release.sealed"),
        "skipped": all(record.skipped for record in records), "miss_rate": artifact.manifest["miss_rate"],
    }  # fmt: skip
    lines = [
        f"{body['rows']} rows in {len(body['shards'])} shards, {artifact.digest}",
        f"release: {artifact.path} (publish this folder, and nothing else)",
        f"owner's sealed record: {body['record']}",
        *(f"{name}: {100 * rate:.1f} % of the rows could not be written" for name, rate in body["miss_rate"].items()),
    ]
    return lines, body, EXIT_OK


def check_dataset(config: DatasetConfig, folder: Path, *, dry_run: bool = False, quiet: bool) -> Result:
    """Re-opens the release, proves that the mark is there, and shows what searches without the key find."""
    open_released(folder)
    if dry_run:
        return [f"would check the release in {folder}"], {"release": str(folder / "artifacts" / RELEASE)}, EXIT_OK
    from pipelines.dataset.checking import check

    with open_run(folder, cast("RunConfig", config), default_progress(quiet=quiet)) as run:
        return check(run, config)


def audit_dataset(
    config: DatasetConfig, folder: Path, request: AuditRequest, *, out: Path | None, opening: str,
    ledger_keys: Sequence[str] = (), dry_run: bool, quiet: bool,
) -> Result:  # fmt: skip
    """Plans, asks and decides one audit of one suspect, and writes its evidence."""
    if dry_run:
        return would_do(request, folder)
    open_released(folder)
    with open_run(folder, cast("RunConfig", config), default_progress(quiet=quiet)) as run:
        verdicts, notes, more = concluded(run, request, out=out, opening=opening, ledger_keys=ledger_keys)
    return [*summary(verdicts), *notes], {"verdicts": verdicts, "notes": notes, **more}, exit_code(verdicts)


def run_dataset(config: DatasetConfig, folder: Path, *, fresh: bool, dry_run: bool, quiet: bool) -> Result:
    """The whole job: mark, train suspects and twins, measure, audit, report."""
    if not kinds(config):
        raise UsageError("got a config that trains no suspect, expected one under `train`", hint="or use `mark`")
    stages = [*MARKING, *train_stages(config)]
    if dry_run:
        return [f"would do {stage.name} in {folder}" for stage in stages], {"stages": [s.name for s in stages]}, EXIT_OK
    from pipelines.report import publish_report, published

    started = time.monotonic()
    if fresh or not (folder / "artifacts" / RELEASE).exists():
        examine(config)
    with open_marking(folder, config, quiet=quiet, fresh=fresh) as run:
        records = []
        for number, stage in enumerate(stages, 1):
            run.progress.say(f"[{number}/{len(stages) + 1}] {stage.name}")
            records.append(run.perform(stage))
        run.progress.say(f"[{len(stages) + 1}/{len(stages) + 1}] audit")
        request = audit_request(config, folder)
        records += audited(run, request)
        verdicts = verdicts_of(run, request)
        content = _content(run, config, verdicts)
        done = all(record.skipped for record in records)
        report = published(run.root, content) if done else None
        done = report is not None
        report = report or publish_report(run.root, content, records)
    if done:
        seconds = time.monotonic() - started
        return [f"nothing to do: all stages are complete and verified ({seconds:.1f} s)"], report, exit_code(verdicts)
    lines = [*summary(verdicts), "", *_worth(report["utility"]), "", f"report: {folder / 'report.html'}"]
    return lines, report, exit_code(verdicts)


def exit_code(verdicts: Sequence[dict[str, Any]]) -> int:
    """0 all claims supported and no control; 1 a claim is not, or a control is; 5 a claim is inconclusive."""
    claims = [v["decision"] for v in verdicts if not v["control"]]
    controls = [v["decision"] for v in verdicts if v["control"]]
    if Decision.NOT_SUPPORTED in claims or Decision.SUPPORTED in controls:
        return EXIT_NOT_SUPPORTED
    return EXIT_INCONCLUSIVE if Decision.INCONCLUSIVE in claims else EXIT_OK


def summary(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Every verdict in a line, then the sentences, then the paper's own numbers."""
    lines = [f"{'claim':<21} {'suspect':<24} {'role':<8} {'matches':>9} {'log10 p':>9} {'Holm':>9}  decision"]
    for v in verdicts:
        role, matches = "control" if v["control"] else "claim", f"{v['successes']}/{v['trials']}"
        lines.append(
            f"{v['claim']:<21} {v['suspect']:<24} {role:<8} {matches:>9} {v['log10_p']:>9.2f} "
            f"{v['log10_p_holm']:>9.2f}  {v['decision']}"
        )
    lines += [f"{v['claim']}: {v['sentence']}." for v in verdicts if not v["control"]]
    lines += [
        f"control {v['suspect']} of {v['claim']}: {'; '.join(v['reasons'])}."
        for v in verdicts
        if v["control"] and v["decision"] == Decision.INCONCLUSIVE
    ]
    for v in verdicts:
        if v["paper"] and v["paper"].get("wsr") is not None:
            lines.append(
                f"{v['paper']['label']}: {v['claim']}, {v['suspect']}: WSR {v['paper']['wsr']:.3f} "
                f"({v['paper']['wsr_low']:.3f} to {v['paper']['wsr_high']:.3f}, {v['paper']['wsr_queries']} queries)"
            )
    return lines


def _planned(config: DatasetConfig, folder: Path) -> Result:
    stream = examine(config)
    body = {"dataset": config.dataset, "columns": stream.schema.names, "marks": list(config.marks.chosen())}
    return [f"would mark {stream.source} ({', '.join(body['marks'])}) into {folder}"], body, EXIT_OK


def _content(run: RunFolder, config: DatasetConfig, verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """What a report says; the same for the same artifacts."""
    keys, release = run.artifact("keys").manifest, run.artifact("release").manifest
    return {
        "run": {
            "name": config.name, "seed": config.seed, "version": __version__, "key_id": keys["key_id"],
            "commitment": keys["commitment"], "alpha": config.audit.alpha,
        },
        "verdicts": verdicts,
        "utility": _utility(read_json(run.artifact("measure").path / METRICS_FILE)),
        "examples": [],
        "assumptions": list(dict.fromkeys(a for v in verdicts for a in v["assumptions"])),
        "notes": [
            f"{release['rows']} rows of {config.dataset}; marks: {', '.join(config.marks.chosen())}.",
            *(f"{name}: {100 * rate:.1f} % of the chosen rows could not be written by the model and "
              f"{_INSTEAD[otherwise(getattr(config.marks, name))]}."
              for name, rate in release["miss_rate"].items()),
        ],
        "plan_file": "artifacts/plan-run/plan.json",
    }  # fmt: skip


def _utility(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    twins = {(e["suspect"], e["name"]): e["value"] for e in entries}
    return [
        {
            "suspect": e["suspect"], "metric": e["name"], "value": round(e["value"], 6), "low": e["low"],
            "high": e["high"], "questions": e["n"], "twin": round(twins[e["suspect"] + TWIN, e["name"]], 6),
        }
        for e in entries if (e["suspect"] + TWIN, e["name"]) in twins
    ]  # fmt: skip


def _worth(utility: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{u['suspect']} {u['metric']}: {u['value']:.3f} [{u['low']:.3f}, {u['high']:.3f}] (twin {u['twin']:.3f})"
        for u in utility
    ]


def push_dataset(folder: Path, repo: str, token_file: Path | None) -> str:
    """Uploads the finished release's card and shards to the Hub, and nothing else; returns where it is."""
    from pipelines.artifact import open_artifact
    from pipelines.cards import push

    release = open_artifact(folder / "artifacts" / "release")
    return push(release.path, repo, private=True, token_file=token_file)
