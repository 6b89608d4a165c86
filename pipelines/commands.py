"""What the commands do, as functions that return lines for people and JSON for programs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import (
    EXIT_OK,
    CountermarkError,
    IntegrityError,
    UsageError,
)
from countermark.manifest import MANIFEST_NAME, read_checked_json, read_json
from pipelines.artifact import Artifact, open_artifact
from pipelines.keystage import standing, standing_line
from pipelines.progress import default_progress
from pipelines.run import RunFolder, open_run
from pipelines.stages import STAGES, VERBS, stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.config import RunConfig

Result = tuple[list[str], Any]


def run_all(config: RunConfig, folder: Path, *, fresh: bool, dry_run: bool, quiet: bool) -> tuple[int, list[str], Any]:
    """Every stage in order, then the report; returns exit code, lines and JSON."""
    from pipelines.report import existing_report, exit_code, summary, write_report

    if dry_run:
        lines, body = _dry_run(folder, [s.name for s in STAGES], fresh=fresh)
        return EXIT_OK, lines, body
    started = time.monotonic()
    with open_run(folder, config, default_progress(quiet=quiet), fresh=fresh) as run:
        records = []
        for number, each in enumerate(STAGES, 1):
            run.progress.say(f"[{number}/{len(STAGES) + 1}] {each.name}")
            records.append(run.perform(each))
        report = existing_report(run)
        if report is not None and all(record.skipped for record in records):
            seconds = time.monotonic() - started
            lines = [f"nothing to do: all {len(STAGES) + 1} stages are complete and verified ({seconds:.1f} s)"]
        else:
            report = write_report(run, records)
            lines = summary(report, folder)
        lines.append(standing_line(standing(run.context("audit"))))
        return exit_code(report), lines, report


def run_verb(
    verb: str, config: RunConfig, folder: Path, inputs: Sequence[str], *, dry_run: bool, quiet: bool
) -> tuple[list[str], Any, int]:
    """The stages of one verb, on the run's artifacts or on the explicit ones of ``STAGE=DIR``."""
    names = VERBS.get(verb, ())
    if dry_run:
        return (*_dry_run(folder, [*names] or [verb], fresh=False), EXIT_OK)
    explicit = _explicit(inputs)
    with open_run(folder, config, default_progress(quiet=quiet)) as run:
        if verb == "report":
            return _report(run)
        records = []
        for name in names:
            each = stage(name)
            artifacts = {i: explicit[i] if i in explicit else run.artifact(i) for i in each.inputs}
            records.append(run.perform(each, artifacts))
        lines = [f"{r.name}: {'already complete' if r.skipped else f'{r.seconds:.1f} s'}, {r.digest}" for r in records]
        lines += [standing_line(standing(run.context(verb)))] if verb == "audit" else []
    body = [{"name": r.name, "seconds": r.seconds, "digest": r.digest, "skipped": r.skipped} for r in records]
    return lines, body, EXIT_OK


def verify_path(folder: Path) -> Result:
    """Verifies one artifact, or all artifacts below ``artifacts/`` of a run folder."""
    if (folder / MANIFEST_NAME).exists():
        folders = [folder]
    elif (folder / "artifacts").is_dir():
        folders = sorted(p for p in (folder / "artifacts").iterdir() if p.is_dir() and not p.name.startswith("."))
    else:
        raise UsageError(
            f"got {folder}, expected an artifact or a run folder",
            hint="name a folder that holds manifest.json or artifacts/",
        )
    if not folders:
        raise UsageError(f"got {folder} without any complete artifact, expected at least one")
    known = read_checked_json(folder / "run.json")["stages"] if (folder / "run.json").exists() else {}
    artifacts = {path.name: open_artifact(path, known.get(path.name, {}).get("digest")) for path in folders}
    check_chain(artifacts)
    body = [{"artifact": name, "digest": artifact.digest} for name, artifact in artifacts.items()]
    return [f"{entry['artifact']}: whole, {entry['digest']}" for entry in body], body


def check_chain(artifacts: Mapping[str, Artifact]) -> None:
    """Every artifact must name the parents that lie beside it.

    Raises:
        IntegrityError: an artifact was exchanged for another whole one.
    """
    for name, artifact in artifacts.items():
        for other, digest in artifact.manifest.get("parents", {}).items():
            if other in artifacts and artifacts[other].digest != digest:
                raise IntegrityError(
                    f"{artifacts[other].path}/{MANIFEST_NAME} is not the one that {name} was made with: got "
                    f"{artifacts[other].digest[:16]}…, expected {digest[:16]}…",
                    hint="an artifact was changed or exchanged; do not use it as evidence",
                )


def list_runs(folder: Path) -> Result:
    """Run folders with their complete stages."""
    if not folder.is_dir():
        raise UsageError(f"got {folder}, expected a folder of run folders", hint="name it: countermark runs DIR")
    body: list[dict[str, Any]] = []
    for path in sorted(p.parent for p in folder.glob("*/config.json")):
        stages = _stages_of(path)
        done = [name for name in stages if (path / "artifacts" / name / MANIFEST_NAME).exists()]
        decisions = {}
        if (path / "report.json").exists():
            decisions = {
                v["claim"]: v["decision"] for v in read_json(path / "report.json")["verdicts"] if not v["control"]
            }
        body.append({"run": str(path), "complete": done, "stages": len(stages), "decisions": decisions})
    lines = [f"{b['run']}: {len(b['complete'])}/{b['stages']} stages {b['decisions'] or ''}".rstrip() for b in body]
    return lines or [f"no runs in {folder}"], body


def _stages_of(folder: Path) -> list[str]:
    """A run's stages; those of a release and whatever else was begun there, where a folder is a release's."""
    if read_checked_json(folder / "config.json").get("kind", "run") == "run":
        return [stage.name for stage in STAGES]
    made = folder / "artifacts"
    begun = {path.name for path in made.iterdir() if not path.name.startswith(".")} if made.is_dir() else set()
    work = folder / "work"
    begun |= {path.name for path in work.iterdir()} if work.is_dir() else set()
    return ["keys", "release", *sorted(begun - {"keys", "release"})]


def list_assets() -> Result:
    """State of every embedded file."""
    from pipelines.assets import BOOLQ, COMMONSENSE_QA, MINILM, NEWS, REVIEWS, SMOLLM2, AssetFile, AssetTree

    assets: tuple[AssetFile | AssetTree, ...] = (SMOLLM2, *MINILM, REVIEWS, BOOLQ, COMMONSENSE_QA, NEWS)
    body = []
    for asset in assets:
        try:
            asset.locate()
            state = "whole"
        except IntegrityError:
            state = "damaged"
        except CountermarkError:
            state = "missing"
        body.append({"file": f"{asset.package}/{asset.path}", "state": state, "sha256": asset.sha256})
    return [f"{entry['state']:<8} {entry['file']}" for entry in body], body


def _report(run: RunFolder) -> tuple[list[str], Any, int]:
    from pipelines.report import exit_code, summary, write_report

    records = [run.perform(each) for each in STAGES if run.artifact(each.name)]
    report = write_report(run, records)
    return summary(report, run.root), report, exit_code(report)


def _dry_run(folder: Path, names: Sequence[str], *, fresh: bool) -> Result:
    done = {n for n in names if (folder / "artifacts" / n / MANIFEST_NAME).exists() and not fresh}
    body = [{"stage": name, "would": "verify and skip" if name in done else "run"} for name in names]
    return [f"{entry['stage']}: would {entry['would']} in {folder}" for entry in body], body


def _explicit(inputs: Sequence[str]) -> dict[str, Artifact]:
    known = {s.name for s in STAGES}
    artifacts = {}
    for item in inputs:
        name, _, path = item.partition("=")
        if name not in known or not path:
            raise UsageError(f"got --input {item!r}, expected STAGE=DIR with STAGE one of {', '.join(sorted(known))}")
        artifacts[name] = open_artifact(Path(path))
    return artifacts
