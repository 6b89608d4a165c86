"""The files of an evidence bundle: a closed layout, bounded sizes, and JSON in the one spelling that RFC 8785 gives.

A bundle comes from somebody else. It is read once, into memory, and what is hashed are the bytes that are then parsed;
links are not followed, and nothing in it is run, unpickled or looked up elsewhere.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import rfc8785

from countermark.files import sha256_bytes
from countermark.manifest import canonical_json
from verification.bundle_faults import BundleError, Failure
from verification.timestamps import MAX_TOKEN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STATEMENT, PLAN, OPENING, RESULTS = "statement.json", "plan.json", "opening.json", "results.json"
MARKED_ROWS, TIMESTAMP = "marked_rows.json", "timestamp.tsr"
REPORTS = ("report.json", "report.html")
PROBES, ANSWERS, TRANSCRIPTS, CORPORA = "probes", "answers", "transcripts", "corpora"
MANIFESTS, LEDGER = "manifests", "ledger"
RELEASE_MANIFEST, KEYS_MANIFEST = "manifests/release.json", "manifests/keys.json"
CANARIES = "canaries"
"""Stands where a claim's name stands, for the answers to canaries."""
LEDGER_FILES = ("commitment", "release", "plan", "consistency", "keys")
"""Inclusion proofs of three events, a proof that joins their checkpoints, and the log's verifier keys."""

MAX_FILES = 4096
MAX_DEPTH = 24
_MIB = 1024 * 1024
MAX_TOTAL_BYTES = 1024 * _MIB
MAX_BYTES = {
    STATEMENT: 4 * _MIB, PLAN: 64 * _MIB, OPENING: 256 * _MIB, RESULTS: 64 * _MIB, MARKED_ROWS: 16 * _MIB,
    TIMESTAMP: MAX_TOKEN_BYTES, PROBES: 256 * _MIB, ANSWERS: 256 * _MIB, TRANSCRIPTS: 512 * _MIB,
    CORPORA: 512 * _MIB, MANIFESTS: 16 * _MIB, LEDGER: 1 * _MIB, REPORTS[0]: 64 * _MIB, REPORTS[1]: 64 * _MIB,
}  # fmt: skip
"""By file, or by folder."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_PATHS = re.compile(
    "|".join(
        (
            *(re.escape(name) for name in (STATEMENT, PLAN, OPENING, RESULTS, MARKED_ROWS, TIMESTAMP, *REPORTS)),
            rf"{PROBES}/[a-z_]+\.jsonl", rf"{ANSWERS}/[a-z_]+/{_NAME}\.jsonl", rf"{TRANSCRIPTS}/{_NAME}\.jsonl",
            rf"{CORPORA}/{_NAME}\.jsonl", rf"{MANIFESTS}/{_NAME}\.json",
            rf"{LEDGER}/(?:{'|'.join(LEDGER_FILES)})\.json",
        )
    )
)  # fmt: skip


def file_name(name: str) -> str:
    """How a suspect is called in a path: by its name, or, where that is no plain file name, by the name's digest."""
    return name if re.fullmatch(_NAME, name) else f"sha256-{sha256_bytes(name.encode())}"


def read_bundle(folder: Path) -> dict[str, bytes]:
    """Every file of a bundle by its name, with ``/`` between folder and file.

    Raises:
        BundleError: ``layout``: a name that no bundle has, a link, a special file, too many or too large.
    """
    if not folder.is_dir():
        raise _layout(f"no folder {folder.name!r}", "a bundle")
    found: dict[str, bytes] = {}
    total = 0
    for name in _names(folder):
        top = name.partition("/")[0]
        data = _read(folder / name, name, MAX_BYTES[top])
        total += len(data)
        if len(found) >= MAX_FILES or total > MAX_TOTAL_BYTES:
            raise _layout("more files or bytes than a bundle has", f"at most {MAX_FILES} and {MAX_TOTAL_BYTES}")
        found[name] = data
    for name in (STATEMENT, PLAN, OPENING, RESULTS):
        if name not in found:
            raise _layout(f"no {name}", "one")
    return found


def parse_json(data: bytes, name: str) -> Any:  # noqa: ANN401 - JSON is what it is
    """The JSON value in ``data``, which has to be in canonical form and of bounded depth.

    Raises:
        BundleError: ``layout``.
    """
    try:
        value = json.loads(data)
        _bound(value, MAX_DEPTH)
        same = canonical_json(value) == data
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise _layout(f"{name}, which is no JSON ({type(error).__name__})", "canonical JSON") from None
    if not same:
        raise _layout(f"{name} in another spelling", "canonical JSON (RFC 8785)")
    return value


def parse_lines(data: bytes, name: str) -> list[Any]:
    """The values of JSON lines, each in canonical form and ended by a line feed; no bytes are no lines.

    Raises:
        BundleError: ``layout``.
    """
    *lines, rest = data.split(b"\n")
    if rest:
        raise _layout(f"{name} that breaks off", "JSON lines")
    return [parse_json(line, name) for line in lines]


def json_lines(values: Sequence[object]) -> bytes:
    """Values as canonical JSON lines."""
    return b"".join(canonical_json(value) + b"\n" for value in values)


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of every file but the statement, which cannot name itself."""
    return {name: sha256_bytes(data) for name, data in files.items() if name != STATEMENT}


def _names(folder: Path) -> Iterator[str]:
    """Names of all files, two folders deep; every entry has to be one that a bundle may have."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name)
        if prefix and not entries:
            raise _layout(f"an empty folder {prefix!r}", "files")
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False) and _may_hold(name):
                pending.append(f"{name}/")
            elif _PATHS.fullmatch(name) and entry.is_file(follow_symlinks=False):
                yield name
            else:
                raise _layout(f"{name!r}, a name or kind of file that no bundle has", "the files of a bundle")


def _may_hold(name: str) -> bool:
    top, _, below = name.partition("/")
    tops = (PROBES, ANSWERS, TRANSCRIPTS, CORPORA, MANIFESTS, LEDGER)
    return top in tops and (not below or (top == ANSWERS and re.fullmatch(r"[a-z_]+", below) is not None))


def _read(path: Path, name: str, most: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _layout(f"{name}, which cannot be read ({errno.errorcode.get(error.errno or 0)})", "a file") from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _layout(f"{name}, which is no regular file", "one")
        data = stream.read(most + 1)
    if len(data) > most:
        raise _layout(f"{name} of more than {most} bytes", "less")
    return data


def _bound(value: Any, depth: int) -> None:  # noqa: ANN401
    """Refuses what is nested deeper than any format of ours, without recursion."""
    level = [value]
    while level:
        if depth == 0:
            raise ValueError("nested too deep")
        depth -= 1
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]


def _layout(got: str, expected: str) -> BundleError:
    return BundleError(Failure.LAYOUT, f"got {got}, expected {expected}")
