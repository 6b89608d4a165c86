"""Stage ``report``: ``report.json`` and ``report.html`` in the run folder, and a summary for the terminal.

The report is a rendering of the audit's artifact and of the clocks in ``run.json``; it is no evidence itself, so it is
a file of the run folder and not an artifact. Its digest in ``stages`` covers everything but the clocks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK, IntegrityError
from countermark.files import atomic_write, sha256_bytes, sha256_file
from countermark.manifest import canonical_json, digest, read_json
from countermark.version import __version__
from pipelines.artifact import read_rows
from pipelines.audit import VERDICTS_FILE
from pipelines.probe import UTILITY_FILE
from verification.report import MAX_EXAMPLE_CHARACTERS, render_html
from verification.verdict import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.run import RunFolder, StageRecord

JSON_NAME = "report.json"
HTML_NAME = "report.html"
NAME = "report"
_EXAMPLES = 4


def write_report(run: RunFolder, records: Sequence[StageRecord]) -> dict[str, Any]:
    """Writes the run's report and returns it."""
    return publish_report(run.root, _content(run), records)


def publish_report(root: Path, content: dict[str, Any], records: Sequence[StageRecord]) -> dict[str, Any]:
    """Writes both files (JSON last: its presence means the report is complete) and returns the report."""
    started = time.monotonic()
    stages = [{"name": r.name, "seconds": r.seconds, "digest": r.digest, "skipped": r.skipped} for r in records]
    own = {"name": NAME, "seconds": 0.0, "digest": digest(content), "skipped": False}
    report = {**content, "seconds": round(sum(r.seconds for r in records), 3), "stages": [*stages, own]}
    html = render_html(report)
    report["html_sha256"] = sha256_bytes(html.encode())
    own["seconds"] = round(time.monotonic() - started, 3)
    report["seconds"] = round(report["seconds"] + own["seconds"], 3)
    atomic_write(root / HTML_NAME, html.encode())
    atomic_write(root / JSON_NAME, canonical_json(report) + b"\n")
    return report


def existing_report(run: RunFolder) -> dict[str, Any] | None:
    """The finished report of this run, or None; see :func:`published`."""
    whole = (run.root / JSON_NAME).exists() and (run.root / HTML_NAME).exists()
    return published(run.root, _content(run)) if whole else None


def published(root: Path, expected: dict[str, Any]) -> dict[str, Any] | None:
    """The report that :func:`publish_report` wrote of this content; None if it is not there.

    Raises:
        IntegrityError: its content is not what this run's artifacts say.
    """
    path, page = root / JSON_NAME, root / HTML_NAME
    if not path.exists() or not page.exists():
        return None
    report: dict[str, Any] = read_json(path)
    if {name: report.get(name) for name in expected} != expected:
        raise IntegrityError(
            f"{path} is damaged: got content that the run's artifacts do not give",
            hint="delete it; the next run writes it again",
        )
    if report.get("html_sha256") != sha256_file(page):
        raise IntegrityError(
            f"{page} is damaged: got another SHA-256 than {JSON_NAME} names",
            hint="delete it; the next run writes it again",
        )
    return report


def exit_code(report: dict[str, Any]) -> int:
    """0 all claims supported and no control, 1 a claim is not or a control is, 5 a claim is inconclusive."""
    claims = [v["decision"] for v in report["verdicts"] if not v["control"]]
    controls = [v["decision"] for v in report["verdicts"] if v["control"]]
    if Decision.NOT_SUPPORTED in claims or Decision.SUPPORTED in controls:
        return EXIT_NOT_SUPPORTED
    return EXIT_INCONCLUSIVE if Decision.INCONCLUSIVE in claims else EXIT_OK


def summary(report: dict[str, Any], folder: Path) -> list[str]:
    """What a terminal shows: every verdict, the utilities, where the report is."""
    lines = [f"{'claim':<12} {'suspect':<24} {'role':<8} {'matches':>13} {'log10 p':>9}  decision"]
    for v in report["verdicts"]:
        role = "control" if v["control"] else "claim"
        matches = f"{v['successes']}/{v['trials']}"
        lines.append(
            f"{v['claim']:<12} {v['suspect']:<24} {role:<8} {matches:>13} {v['log10_p']:>9.2f}  {v['decision']}"
        )
    lines.append("")
    lines += [f"{u['suspect']} {u['metric']}: {u['value']:.3f} (twin {u['twin']:.3f})" for u in report["utility"]]
    lines += ["", f"{report['seconds']:.0f} s of work; report: {folder / HTML_NAME}"]
    return lines


def _content(run: RunFolder) -> dict[str, Any]:
    audit, mark, generated = run.artifact("audit"), run.artifact("mark"), run.artifact("generate")
    verdicts = read_json(audit.path / VERDICTS_FILE)
    keys = run.artifact("keys").manifest
    assumptions: dict[str, None] = {}
    for verdict in verdicts:
        assumptions.update(dict.fromkeys(verdict["assumptions"]))
    return {
        "run": {
            "name": run.config.name, "seed": run.config.seed, "version": __version__, "key_id": keys["key_id"],
            "commitment": keys["commitment"], "alpha": run.config.audit.alpha,
        },
        "verdicts": verdicts,
        "utility": _utility(read_json(audit.path / UTILITY_FILE)),
        "release": {
            "input_level": mark.manifest["input_level"], "double_i": mark.manifest["double_i"],
            "dropped": generated.manifest["dropped"],
        },
        "examples": [
            {"label": generated.manifest["labels"][row["label"]], "text": row["text"][:MAX_EXAMPLE_CHARACTERS]}
            for row in read_rows(generated.path / "rows.parquet")[:_EXAMPLES]
        ],
        "assumptions": list(assumptions),
        "notes": _notes(mark.manifest, generated.manifest["dropped"]),
        "plan_file": "artifacts/plan/plan.json",
    }  # fmt: skip


def _notes(mark: Mapping[str, Any], dropped: Mapping[str, int]) -> list[str]:
    reviews, instruct = mark["input_level"], mark["double_i"]
    share = f"{100 * instruct['share']:.1f} % of {instruct['rows']} instruct rows are backdoor rows"
    marked = f"{reviews['marked_rows']} of {reviews['rows']} reviews ({100 * reviews['share']:.1f} %) carry a trigger"
    return [
        f"{marked}; {share}.",
        f"Generated and dropped: {', '.join(f'{reason} {count}' for reason, count in dropped.items())}.",
    ]


def _utility(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marked suspects with their twin's value beside."""
    values = {(e["suspect"], e["metric"]): e["right"] / e["questions"] for e in entries}
    return [
        {
            "suspect": e["suspect"], "metric": e["metric"], "value": round(e["right"] / e["questions"], 6),
            "low": e["low"], "high": e["high"], "questions": e["questions"],
            "twin": round(values[f"{e['suspect']}-twin", e["metric"]], 6),
        }
        for e in entries
        if (f"{e['suspect']}-twin", e["metric"]) in values
    ]  # fmt: skip
