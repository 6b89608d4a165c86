"""Recorded answers: what somebody else asked a suspect, one JSON object a line.

A line is ``{"id": PROBE_ID, "raw": TEXT}`` or ``{"prompt_digest": SHA-256, "raw": TEXT}``, with ``"model"`` where it is
known; an id goes before a digest. :func:`write_questions` writes what has to be asked, in the plan's order. Who wrote
the answers down, and that nobody asked again until one pleased, is an assumption of every verdict over them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.files import atomic_write, sha256_bytes
from countermark.manifest import canonical_json
from verification.asking import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from verification.probe import Probe

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_LINE_BYTES = 1 << 20
_KEYS = {"id", "prompt_digest", "raw", "model"}


class RecordedAnswers:
    """Answers from a file, as an endpoint.

    Raises:
        IntegrityError: the file is missing, too large, or a line of it is not as above, or two lines disagree.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._probes: dict[str, str] = {}
        self._said: dict[tuple[str, str], Reply] = {}
        data = _read(path)
        for number, raw in enumerate(data.split(b"\n"), 1):
            if raw.strip():
                self._keep(number, _entry(path, number, raw))
        if not self._said:
            raise IntegrityError(f"got no answer in {path}, expected at least one")
        self._sha256 = sha256_bytes(data)

    def describe(self) -> dict[str, Any]:
        """What identifies it: the bytes of the file, whatever its name."""
        return {"kind": "recorded", "sha256": self._sha256}

    def prepare(self, queries: Mapping[str, Probe]) -> None:
        """Learns which probe each query id stands for."""
        self._probes.update({query: probe.id for query, probe in queries.items()})

    def query(self, prompt: str, *, query_id: str) -> Reply:
        probe = self._probes.get(query_id, "")
        found = self._said.get(("id", probe)) or self._said.get(("prompt_digest", sha256_bytes(prompt.encode())))
        if found is None:
            raise UsageError(
                f"got no recorded answer to probe {probe or query_id!r} in {self._path}, expected one",
                hint="record an answer to every probe of the plan; one that was refused is recorded as it was said",
            )
        return found

    def _keep(self, number: int, entry: dict[str, str]) -> None:
        key = ("id", entry["id"]) if "id" in entry else ("prompt_digest", entry["prompt_digest"])
        reply = Reply(raw=entry["raw"], model=entry.get("model", ""))
        if self._said.setdefault(key, reply) != reply:
            raise IntegrityError(
                f"got a second answer to {key[0]} {key[1]!r} in line {number} of {self._path}, expected one",
                hint="every probe is asked once; keep the first answer",
            )


def write_questions(path: Path, probes: Sequence[Probe]) -> None:
    """What has to be asked, one JSON object a line: id, prompt digest, prompt."""
    lines = [canonical_json({"id": p.id, "prompt": p.prompt, "prompt_digest": p.prompt_digest}) for p in probes]
    atomic_write(path, b"".join(line + b"\n" for line in lines))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise IntegrityError(f"got no readable file {path} ({error.strerror}), expected recorded answers") from error
    if len(data) > MAX_FILE_BYTES:
        raise IntegrityError(f"got {path} of more than {MAX_FILE_BYTES} bytes, expected fewer")
    return data


def _entry(path: Path, number: int, raw: bytes) -> dict[str, str]:
    if len(raw) > MAX_LINE_BYTES:
        raise IntegrityError(f"got line {number} of {path} of {len(raw)} bytes, expected at most {MAX_LINE_BYTES}")
    try:
        entry: dict[str, str] = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"got line {number} of {path} that is not JSON ({error}), expected an answer") from None
    sound = isinstance(entry, dict) and all(isinstance(value, str) for value in entry.values())
    if not sound or not set(entry) <= _KEYS or "raw" not in entry or not {"id", "prompt_digest"} & set(entry):
        raise IntegrityError(
            f"got line {number} of {path} of another shape, expected texts id or prompt_digest, raw and perhaps model"
        )
    return entry
