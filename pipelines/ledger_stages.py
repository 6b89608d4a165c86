"""What a finished stage of a run means to a ledger: a commitment, a release, a plan, spent triggers, verdicts.

Everything is read from the stage's artifact and told under an id of its own, with the time at which the run's event log
says that the stage was done: telling it again changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from countermark.files import sha256_bytes
from countermark.manifest import MANIFEST_NAME, digest, read_json
from pipelines.artifact import Artifact, read_rows
from pipelines.stage import COMMITMENT_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Event = dict[str, Any]
VERDICTS, PLAN = "verdicts.json", "plan.json"
_RELEASES = ("release", "mark")


def stage_events(root: Path, done: Mapping[str, Any], *, at: str, run: str, blind: bytes) -> list[Event]:
    """The events of a stage that ``done`` (a line of ``events.jsonl``) says is complete; none if it is gone since.

    ``blind`` is the run folder's own: what is told of a text can be confirmed by nobody who lacks it.
    """
    stage = str(done["stage"])
    path = root / "artifacts" / stage
    if done.get("event") != "done" or not (path / MANIFEST_NAME).exists():
        return []
    data = (path / MANIFEST_NAME).read_bytes()
    if sha256_bytes(data) != done["digest"]:
        return []  # redone since, or damaged: who reads the artifact next will say so
    artifact = Artifact(path=path, digest=str(done["digest"]), manifest=json.loads(data))
    told = [{**event, "at": at} for event in _of(stage, artifact, blind)]
    return [{**event, "id": digest({"countermark": "stage-event", "run": run, **event})} for event in told]


def _of(stage: str, artifact: Artifact, blind: bytes) -> list[Event]:
    manifest = artifact.manifest
    if stage == "generate":
        return _generated(artifact, blind)
    if stage == "keys":
        made = read_json(artifact.path / COMMITMENT_FILE)
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


def _generated(artifact: Artifact, blind: bytes) -> list[Event]:
    """One event a text, kept or dropped: it was made under the key either way."""
    made = read_rows(artifact.path / "rows.parquet") + read_rows(artifact.path / "dropped.parquet")
    tokens = {row["id"]: row["tokens"] for row in read_rows(artifact.path / "tokens.parquet")}
    mark, key_id = artifact.manifest["watermark"], artifact.manifest["key_id"]
    return [
        generation_event(
            key_id=key_id, prompt=row["prompt"], output=row["text"], tokens=tokens[row["id"]], blind=blind,
            scheme=mark["scheme"], model_sha256=row["model_digest"], request=row["id"],
        )
        for row in made
    ]  # fmt: skip


def generation_event(
    *, key_id: str, prompt: str, output: str, tokens: int, blind: bytes = b"", **fields: str | int
) -> Event:
    """That a text was generated under a key: digests and a count.

    A bare digest of a short prompt can be confirmed by whoever guesses it. ``blind`` (32 random bytes that the owner
    keeps) makes it a commitment: HMAC-SHA256 under ``blind``, opened by showing ``blind`` and the text.
    """
    return {
        "event": "generation",
        "key_id": key_id,
        "prompt_sha256": text_digest(prompt, blind=blind),
        "output_sha256": text_digest(output, blind=blind),
        "tokens": tokens,
        **fields,
    }


def text_digest(text: str, *, blind: bytes = b"") -> str:
    """SHA-256 of a text's UTF-8 bytes, or HMAC-SHA256 under ``blind``."""
    data = text.encode()
    return hmac.new(blind, data, hashlib.sha256).hexdigest() if blind else hashlib.sha256(data).hexdigest()


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
