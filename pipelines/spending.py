"""What audits spend: every one shows its own triggers to a suspect, and these are spent for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError, UsageError
from countermark.files import locked
from countermark.manifest import read_checked_json, write_checked_json

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


def next_range(
    path: Path, name: str, request: str, *, total: int, each: int, unit: str = "codewords", release: str = ""
) -> int:
    """The first trigger of the range that an audit would get; nothing is written.

    Args:
        path: what earlier audits spent.
        name: of the audit.
        request: digest of everything that it asks.
        total: how many units the release has.
        each: how many of them an audit spends.
        unit: what they are called.
        release: the commitment: another release of the same owner has triggers of its own, and spends no others.

    Raises:
        InconclusiveError: every trigger of the release has been shown to some suspect. UsageError: the name was given
            to another audit.
    """
    spent = [entry for entry in _spent(path) if entry.get("release", release) == release]
    for entry in spent:
        if entry["audit"] == name:
            if entry["request"] != request:
                raise UsageError(
                    f"got audit {name!r} with another suspect, control or system prompt, expected a new name",
                    hint="name the audit: countermark audit … --name",
                )
            return int(entry["first"])
    first = sum(int(entry["count"]) for entry in spent)
    if each > total - first:
        raise InconclusiveError(
            f"got {total - first} unspent {unit} of {total}, expected {each}",
            hint="every audit shows its triggers to a suspect; a release carries so many audits and no more",
        )
    return first


def allocate(
    path: Path, name: str, request: str, *, total: int, each: int, unit: str = "codewords", release: str = ""
) -> int:
    """The first trigger of :func:`next_range`, recorded as spent before anything is asked.

    The same audit (``request`` is the digest of everything it asks) gets its own range again, so that an interrupted
    one can go on.
    """
    with _alone(path):
        first = next_range(path, name, request, total=total, each=each, unit=unit, release=release)
        spent = _spent(path)
        if not any(entry["audit"] == name and entry.get("release", release) == release for entry in spent):
            entry = {"audit": name, "request": request, "first": first, "count": each, "release": release}
            write_checked_json(path, [*spent, entry])
    return first


def record_opening(path: Path, name: str, key_id: str, *, release: str) -> None:
    """Notes that the evidence of an audit makes the key public: before it is written, and for good."""
    with _alone(path):
        noted = [{**entry, "opened": key_id} if _is(entry, name, release) else entry for entry in _spent(path)]
        write_checked_json(path, noted)


def check_unopened(path: Path, name: str, key_id: str, *, release: str) -> None:
    """Refuses another audit under a key that evidence has made public.

    Raises:
        InconclusiveError: who has read that evidence can teach a model every trigger's answer, or that of none.
    """
    opened = [entry for entry in _spent(path) if entry.get("opened") == key_id]
    told = [entry["audit"] for entry in opened if not _is(entry, name, release)]
    if told:
        raise InconclusiveError(
            f"got key {key_id}, which the evidence of audit {told[0]!r} has made public, expected a secret one",
            hint="mark a new release under a new key; what was audited before the opening stays proved",
        )


def _alone(path: Path) -> AbstractContextManager[None]:
    """Releases under one key ring share the file, each in a folder with a lock of its own."""
    return locked(path.parent, hint="another audit under the same key ring is just beginning or ending: try again")


def _is(entry: dict[str, Any], name: str, release: str) -> bool:
    """Another release under the same key may have an audit of the same name."""
    return bool(entry["audit"] == name and entry.get("release", release) == release)


def _spent(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_checked_json(path) if path.exists() else []
    return found
