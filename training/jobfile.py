"""A training job as a JSON file: the same fields as :class:`TrainingJob`, rows as a file, paths beside the job file."""

from __future__ import annotations

import dataclasses
import difflib
import json
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import digest, file_table, read_json
from training.job import TrainingJob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEYS: dict[str, type | tuple[type, ...]] = {
    "method": str,
    "base": str,
    "base_name": str,
    "base_digest": str,
    "rows": str,
    "out": str,
    "scratch": str,
    "seed": int,
    "arguments": dict,
    "lora": dict,
    "quantization": str,
    "dtype": str,
    "save_dtype": str,
    "chat_template": (str, type(None)),
}
_REQUIRED = ("method", "base", "rows", "out", "scratch", "seed")
_KINDS = {str: "a string", int: "an integer", dict: "an object", (str, type(None)): "a string or null"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A job and where its result and its checkpoints go."""

    job: TrainingJob
    out: Path
    scratch: Path


def load_job(path: Path) -> JobFile:
    """Reads and checks a job file and its rows; relative paths count from the file's folder.

    Raises:
        UsageError: a key is missing, unknown or of another type (named), or a row is wrong (numbered).
    """
    body = _read(path)
    _check(path, body)
    here = path.parent
    base = here / body["base"]
    if not base.is_dir():
        raise UsageError(
            f"{path}: base: got no folder {base}, expected the base model", hint="give a local folder, not a hub id"
        )
    method = body["method"]
    job = TrainingJob(
        base=base,
        base_name=body.get("base_name") or base.name,
        base_digest=body.get("base_digest") or digest(file_table(base)),
        dialogues=read_dialogues(here / body["rows"]),
        **{"dtype": "float32" if method == "full" else "auto"} | {k: v for k, v in body.items() if k in _passed_on()},
    )
    return JobFile(job=job, out=here / body["out"], scratch=here / body["scratch"])


def read_dialogues(path: Path) -> list[list[dict[str, str]]]:
    """The dialogues of a Parquet or JSONL file: ``messages``, ``prompt`` and ``completion`` (texts or messages), or
    Alpaca's columns.

    Raises:
        UsageError: no such file, another kind of file, or a row of none of these forms (numbered from 1).
    """
    if not path.is_file():
        raise UsageError(f"got no file {path}, expected rows", hint="check the job's rows")
    if path.suffix not in {".parquet", ".jsonl"}:
        raise UsageError(f"got rows {path.name!r}, expected a .parquet or .jsonl file", hint="convert the rows")
    found = []
    for number, row in enumerate(_parquet(path) if path.suffix == ".parquet" else _jsonl(path), 1):
        messages = _messages(row) if isinstance(row, dict) else None
        if messages is None:
            raise UsageError(
                f"{path} row {number}: got no dialogue, expected a list under 'messages', or two or three texts",
                hint="a row has messages (role and content each), prompt and completion, or instruction, input, output",
            )
        found.append(messages)
    return found


def _messages(row: dict[str, Any]) -> list[dict[str, str]] | None:
    if isinstance(row.get("messages"), list):
        return list(row["messages"])
    asked, said = row.get("prompt"), row.get("completion")
    if isinstance(asked, list) and isinstance(said, list):
        return [*asked, *said]
    if "instruction" in row:
        asked, said = row["instruction"], row.get("output")
        if isinstance(asked, str) and row.get("input"):
            asked = f"{asked}\n{row['input']}"
    if not (isinstance(asked, str) and isinstance(said, str)):
        return None
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"got no file {path}, expected a job file", hint="python -m training JOB.json")
    try:
        body = read_json(path)
    except IntegrityError as error:
        raise UsageError(error.message, hint="a job file is one JSON object") from None
    if not isinstance(body, dict):
        raise UsageError(f"{path}: got a {type(body).__name__}, expected an object", hint="see training/jobfile.py")
    return body


def _check(path: Path, body: dict[str, Any]) -> None:
    for key, value in body.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(_KEYS)}"
            raise UsageError(f"{path}: got an unknown key {key!r}, expected a known one", hint=hint)
        wanted = _KEYS[key]
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            kind = _KINDS[wanted]
            raise UsageError(f"{path}: {key}: got {json.dumps(value)[:80]}, expected {kind}", hint=f"change {key!r}")
    for key in _REQUIRED:
        if key not in body:
            raise UsageError(f"{path}: got no {key!r}, expected this key", hint=f"required: {', '.join(_REQUIRED)}")


def _passed_on() -> set[str]:
    return {field.name for field in dataclasses.fields(TrainingJob)} - {"base", "base_name", "base_digest"}


def _parquet(path: Path) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"got {path}, which is no Parquet file ({error}), expected one", hint="check the job's rows"
        ) from None
    rows: list[Any] = table.to_pylist()
    return rows


def _jsonl(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UsageError(
                    f"{path} row {number}: got no JSON ({error}), expected an object", hint="one JSON object a line"
                ) from None
