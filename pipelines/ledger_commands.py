"""What the commands ``ledger …`` do: lines for people, a body for programs."""

from __future__ import annotations

import json
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError, UsageError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, make_dir
from countermark.manifest import read_json
from pipelines.ledgering import open_ledger, read_events, run_lines
from verification.checkpoint import Checkpoint, Signer, Verifier, parse_note, public_value
from verification.ledger_check import check
from verification.ledger_events import SHAPES, prepare
from verification.ledger_proof import (
    EXPORT_FORMAT,
    PROOF_FORMAT,
    check_export,
    check_proof,
    export,
    prove_consistency,
    prove_inclusion,
    sign_checkpoint,
)
from watermarks.keystore import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verification.ledger_report import Report

Result = tuple[list[str], Any]

SHOWN = 20
_SNIFF_BYTES = 4096


def init(where: str, key: Path, name: str, *, dry_run: bool) -> Result:
    """A new ledger, and a signing key for it unless ``key`` is one already."""
    public = public_path(key)
    if dry_run:
        return [f"would make the ledger {where}", f"would make or use {key} and {public}"], {"dry_run": True}
    if key.exists():
        signer = read_signer(key)
        if name != signer.name:
            raise UsageError(f"got the key of {signer.name!r} in {key}, expected one of {name!r}")
    else:
        signer = Signer.new(name)
        make_dir(key.parent, mode=PRIVATE_DIR_MODE)
        atomic_write(key, signer.encode().encode() + b"\n", mode=PRIVATE_FILE_MODE)
    atomic_write(public, signer.verifier.encode().encode() + b"\n")
    open_ledger(where, create=True).close()
    vkey = signer.verifier.encode()
    lines = [f"made {where}", f"signing key {key} (0600): keep it where the ledger is not", f"verifier key {vkey}"]
    return lines, {"ledger": where, "key": str(key), "name": name, "verifier": vkey}


def append(
    where: str, lines: Iterable[bytes], place: str, *, run: Path | None, key: Path | None, dry_run: bool
) -> Result:
    """Events from lines or from a run folder; with a key, a checkpoint after them."""
    events = run_lines(run) if run else read_events(lines, place)
    for number, event in enumerate(events, 1):
        try:
            prepare(event)
        except UsageError as error:
            raise UsageError(f"{place}, event {number}: {error.message}", hint=error.hint) from None
    if dry_run:
        return [f"would append {len(events)} events"], {"dry_run": True, "events": len(events)}
    with open_ledger(where) as ledger:
        before = ledger.size()
        indices = ledger.append(events)
        new = len({index for index in indices if index >= before})
        note = _sign(ledger, key) if key and indices else None
    said = [f"{new} new, {len(indices) - new} known"] + [f"entry {index}" for index in indices[:SHOWN]]
    return said, {"entries": indices, "new": new, "checkpoint": note.decode() if note else None}


def show(where: str, *, first: int | None, count: int, kind: str | None) -> Result:
    """Entries as they are stored, unchecked: the newest, or those from ``first`` on."""
    if kind is not None and kind not in SHAPES:
        raise UsageError(f"got kind {kind!r}, expected one of: {', '.join(SHAPES)}")
    with open_ledger(where) as ledger:
        size = ledger.size()
        start = first if first is not None else 0 if kind else max(0, size - count)
        wanted = f'"event":"{kind}"'.encode() if kind else b""
        found = (each for each in ledger.entries(start) if wanted in each.data)
        chosen = list(islice(found, count)) if first is not None else list(deque(found, maxlen=count))
    events = [json.loads(each.data) for each in chosen]
    lines = [f"{each.seq:>9}  {each.data.decode()}" for each in chosen]
    return [*lines, f"{size} entries"], {"size": size, "entries": events}


def checkpoint(where: str, key: Path, out: Path | None, *, dry_run: bool) -> Result:
    """Signs the log as it is; refuses one that does not continue what this key signed before."""
    if dry_run:
        return [f"would sign {where} with {key}"], {"dry_run": True}
    with open_ledger(where) as ledger:
        note = _sign(ledger, key)
    if out:
        atomic_write(out, note)
    value = public_value(note, read_signer(key).verifier)
    head = Checkpoint.parse(parse_note(note).text)
    body = {"checkpoint": note.decode(), "size": head.size, "root": head.root.hex(), "public_value": value}
    return [*note.decode().splitlines(), f"public value: {value}"], body


def prove(where: str, index: int | None, old: int | None, size: int | None) -> Result:
    """A proof of inclusion, or of consistency with the first ``old`` entries."""
    if (index is None) == (old is None):
        raise UsageError("got neither or both of an entry and --from, expected one of them")
    with open_ledger(where) as ledger:
        if index is not None:
            body = prove_inclusion(ledger, index, size=size)
        else:
            body = prove_consistency(ledger, old or 0, new=size)
    return [json.dumps(body, indent=2, sort_keys=True)], body


def write_export(where: str, out: Path, *, dry_run: bool) -> Result:
    """The whole log as JSON lines."""
    if dry_run:
        return [f"would write {where} to {out}"], {"dry_run": True}
    with open_ledger(where) as ledger:
        size = export(ledger, out)
    return [f"{size} entries in {out}"], {"entries": size, "out": str(out)}


def verify(target: str, verifiers: Sequence[str], checkpoints: Sequence[Path]) -> tuple[Result, Exception | None]:
    """A ledger, an export or a proof; the error says what is wrong with it, if anything is."""
    keys = [key for each in verifiers for key in read_verifiers(each)]
    notes = [_read(path) for path in checkpoints]
    form = _form(target)
    if form == PROOF_FORMAT:
        proven = check_proof(read_json(Path(target)), keys, notes)
        what = f"entry {proven.index} is" if proven.kind == "inclusion" else f"the first {proven.old} entries are"
        line = f"{what} among the first {proven.size} of {proven.origin}"
        return ([line], {"kind": proven.kind, "size": proven.size, "index": proven.index, "old": proven.old}), None
    if form == EXPORT_FORMAT:
        report = check_export(Path(target), keys, notes)
    else:
        notes += [_read(path) for each in verifiers if (path := _last_of(each)) and path.is_file()]
        with open_ledger(target) as ledger, ledger.snapshot() as session:
            report = check(session, keys, notes)
    return _said(report), _verdict(report, target)


def read_signer(path: Path) -> Signer:
    """The signing key in a file that only its owner may read."""
    return Signer.decode(read_secret_file(path).decode("utf-8", "replace"))


def read_verifiers(text: str) -> list[Verifier]:
    """A verifier key, or those in a file, a line each."""
    path = Path(text)
    lines = _read(path).decode("utf-8", "replace").split("\n") if path.is_file() else [text]
    return [Verifier.decode(line) for line in lines if line]


def public_path(key: Path) -> Path:
    """Where the public half of a key file is."""
    return key.with_name(key.name + ".pub")


def last_path(key: Path) -> Path:
    """Where the newest checkpoint of a key file is: beside the key, not beside the database."""
    return key.with_name(key.name + ".last")


def _sign(ledger: Any, key: Path) -> bytes:  # noqa: ANN401
    signer, kept = read_signer(key), last_path(key)
    note = sign_checkpoint(ledger, signer, last=_read(kept) if kept.exists() else None)
    atomic_write(kept, note)
    return note


def _last_of(verifier: str) -> Path | None:
    path = Path(verifier)
    return last_path(path.with_suffix("")) if path.suffix == ".pub" else None


def _said(report: Report) -> Result:
    lines = [problem.line() for problem in report.problems]
    unseen = report.size - report.signed
    lines += [f"{report.size} entries, root {report.root.hex()}", f"{report.checkpoints} checkpoints"]
    lines += [f"the last {unseen} are under no checkpoint"] if unseen > 0 else []
    problems = [
        {"fault": str(each.fault), "first": each.first, "stop": each.stop, "detail": each.detail}
        for each in report.problems
    ]
    return lines, {
        "size": report.size, "root": report.root.hex(), "signed": report.signed, "sound": report.sound,
        "checkpoints": report.checkpoints, "problems": problems, "problem_count": report.count,
    }  # fmt: skip


def _verdict(report: Report, target: str) -> Exception | None:
    try:
        report.require()
    except Exception as error:  # noqa: BLE001 - told after the report
        return error
    if report.signed:
        return None
    return InconclusiveError(
        f"got {target} with {report.size} entries and no checkpoint over any of them, expected one",
        hint="who can write the file can have rewritten it: sign it with `countermark ledger checkpoint`, "
        "or give a checkpoint you have kept with --checkpoint",
    )


def _form(target: str) -> str | None:
    """What a file says it is; a database says nothing of the kind."""
    path = Path(target)
    if "://" in target or not path.is_file():
        return None
    with path.open("rb") as stream:
        start = stream.read(_SNIFF_BYTES)
    return next((form for form in (PROOF_FORMAT, EXPORT_FORMAT) if form.encode() in start and start[:1] == b"{"), None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"got {path}, which cannot be read ({error.strerror}), expected a file") from None
