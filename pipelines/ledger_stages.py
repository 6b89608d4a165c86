"""What a finished stage of a run means to a ledger: a commitment, a release, a plan, spent triggers, verdicts.

Everything is read from the stage's artifact and told under an id of its own, with the time at which the run's event log
says that the stage was done: telling it again changes nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from countermark.files import sha256_bytes
from countermark.manifest import MANIFEST_NAME, digest, read_json
from pipelines.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Event = dict[str, Any]
VERDICTS, COMMITMENT, PLAN = "verdicts.json", "commitment.json", "plan.json"
_RELEASES = ("release", "mark")


def stage_events(root: Path, done: Mapping[str, Any], *, at: str, run: str) -> list[Event]:
    """The events of a stage that ``done`` (a line of ``events.jsonl``) says is complete; none if it is gone since."""
    stage = str(done["stage"])
    path = root / "artifacts" / stage
    if done.get("event") != "done" or not (path / MANIFEST_NAME).exists():
        return []
    data = (path / MANIFEST_NAME).read_bytes()
    if sha256_bytes(data) != done["digest"]:
        return []  # redone since, or damaged: who reads the artifact next will say so
    artifact = Artifact(path=path, digest=str(done["digest"]), manifest=json.loads(data))
    told = [{**event, "at": at} for event in _of(stage, artifact)]
    return [{**event, "id": digest({"countermark": "stage-event", "run": run, **event})} for event in told]


def _of(stage: str, artifact: Artifact) -> list[Event]:
    manifest = artifact.manifest
    if stage == "keys":
        made = read_json(artifact.path / COMMITMENT)
        fields = {"key_id": made["key_id"], "sha256": made["sha256"], "config_digest": made["config_digest"]}
        return [{"event": "commitment", **fields}]
    if stage in _RELEASES:
        return [{"event": "release", "manifest_sha256": artifact.digest}]
    kind, _, name = stage.partition("-")
    name = name or "run"
    if kind == "plan" and "plan_digest" in manifest:
        return _planned(artifact, name)
    if kind == "audit" and (artifact.path / VERDICTS).exists():
        return _judged(artifact, name)
    return []


def _planned(artifact: Artifact, name: str) -> list[Event]:
    manifest, plan = artifact.manifest, read_json(artifact.path / PLAN)
    suspects = sorted({s["name"] for claim in plan["claims"] for s in claim["suspects"] if not s["control"]})
    told: list[Event] = [{"event": "plan", "plan_sha256": manifest["plan_digest"], "audit": name}]
    if "first" not in manifest:
        return told
    shown = {"audit": name, "first": manifest["first"], "count": manifest["count"]}
    return told + [{"event": "spent", **shown, "suspect": suspect} for suspect in suspects]  # spent for good


def _judged(artifact: Artifact, name: str) -> list[Event]:
    plans = [value for parent, value in artifact.manifest["parents"].items() if parent.startswith("plan")]
    verdicts = read_json(artifact.path / VERDICTS)
    return [
        {
            "event": "audit", "audit": name, "suspect": verdict["suspect"], "claim": verdict["claim"],
            "decision": verdict["decision"], "plan_sha256": plans[0], "verdict_sha256": digest(verdict),
        }
        for verdict in verdicts
    ]  # fmt: skip
