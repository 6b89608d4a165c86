"""What a ledger gives away: signed checkpoints, proofs as JSON that need no ledger to be checked, and exports."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import PRIVATE_FILE_MODE, fsync_dir, make_dir, storage_errors
from countermark.manifest import canonical_json
from verification import merkle
from verification.checkpoint import Checkpoint, open_checkpoint, sign_note
from verification.faults import Fault, LedgerError
from verification.ledger_check import check_rows
from verification.ledger_events import parse
from verification.ledger_tree import size_within, stored_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from verification.checkpoint import Signer, Verifier
    from verification.ledger import Ledger
    from verification.ledger_report import Report
    from verification.ledger_store import LooseRow, Session

PROOF_FORMAT = "countermark-proof/1"
EXPORT_FORMAT = "countermark-ledger-export/1"
MAX_LINE_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024 * 1024


def sign_checkpoint(ledger: Ledger, signer: Signer, *, last: bytes | None = None) -> bytes:
    """Signs the log as it is, stores the checkpoint in it, and returns it.

    Nothing is signed unseen: the log must continue ``last`` (which the signer keeps where the database's thief is not)
    and its own newest checkpoint, and every entry since then is hashed again.

    Raises:
        LedgerError: ``truncated``, ``rewritten`` or a damaged entry: what is there is not what was signed before.
        UsageError: an empty log.
    """
    with ledger.snapshot() as session:
        size = session.size()
        if not size:
            raise UsageError("got an empty ledger, expected entries to sign", hint="append something first")
        notes = [last, *(note for _, note in session.notes()[-1:])]
        heads = [open_checkpoint(note, signer.verifier) for note in notes if note]
        tree = merkle.Frontier()
        for head in sorted(heads, key=lambda each: each.size):
            tree = _continue(session, head, size)
        for row in session.rows(tree.size, size):
            tree.add(_sound_leaf(row, tree.size))
        if tree.size != size:
            raise LedgerError(Fault.ENTRY_MISSING, f"got no entry {tree.size}, expected {size} entries")
    note = sign_note(Checkpoint(origin=signer.name, size=size, root=tree.root()).text(), signer)
    ledger.add_checkpoint(size, note)
    return note


def prove_inclusion(ledger: Ledger, index: int, *, size: int | None = None) -> dict[str, Any]:
    """That entry ``index`` is under the root of ``size`` entries (default: those of the newest checkpoint above it).

    Raises:
        LedgerError: ``wrong_proof``: the stored hashes do not prove the stored entry.
    """
    with ledger.snapshot() as session:
        notes = dict(session.notes())
        size = size_within(session, size or max((each for each in notes if each > index), default=None))
        nodes = stored_nodes(session)
        path = merkle.inclusion_proof(index, size, nodes)
        data = next((row[2] for row in session.rows(index, index + 1)), b"")
        root = merkle.range_root(0, size, nodes)
    body = _body("inclusion", path, notes.get(size), entry=data.decode("utf-8", "replace"), index=index, size=size)
    if not merkle.verify_inclusion(merkle.leaf_hash(data), index=index, size=size, proof=path, root=root):
        raise LedgerError(Fault.WRONG_PROOF, f"got hashes that do not prove entry {index}, expected its own")
    return body


def prove_consistency(ledger: Ledger, old: int, *, new: int | None = None) -> dict[str, Any]:
    """That the first ``old`` entries are still the first of ``new`` (default: those of the newest checkpoint)."""
    with ledger.snapshot() as session:
        notes = dict(session.notes())
        new = size_within(session, new or max((each for each in notes if each >= old), default=None))
        path = merkle.consistency_proof(old, new, stored_nodes(session))
    return _body("consistency", path, notes.get(new), old=old, new=new, old_checkpoint=_text(notes.get(old)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a proof shows: ``event`` is entry ``index``, or sizes ``old`` and ``size`` are of one log; who signed."""

    kind: str
    size: int
    origin: str
    index: int | None = None
    old: int | None = None
    event: Mapping[str, Any] | None = None


def check_proof(body: Mapping[str, Any], verifiers: Sequence[Verifier], notes: Sequence[bytes] = ()) -> Proven:
    """Checks a proof without a ledger, against its own checkpoints or those given.

    Raises:
        LedgerError: ``malformed_proof``; ``unknown_signer`` and the like for its checkpoints; ``wrong_proof``.
    """
    try:
        path = [bytes.fromhex(each) for each in body["path"]]
        kind, own = body["kind"], [body.get("checkpoint"), body.get("old_checkpoint")]
        sizes = [body["old"], body["new"]] if kind == "consistency" else [body["size"]]
        index, data = body.get("index", 0), body.get("entry", "").encode()
        known = [*notes, *(each.encode() for each in own if each)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _malformed(f"a field that cannot be read ({type(error).__name__})") from None
    if [each.hex() for each in path] != body["path"] or any(type(number) is not int for number in (index, *sizes)):
        raise _malformed("a hash or a number in another spelling")
    if body.get("format") != PROOF_FORMAT or kind not in ("inclusion", "consistency"):
        raise _malformed(f"format {body.get('format')!r} and kind {kind!r}")
    heads = {head.size: head for head in (open_checkpoint(note, *verifiers) for note in known)}
    if missing := [size for size in sizes if size not in heads]:
        raise LedgerError(
            Fault.UNKNOWN_SIGNER,
            f"got no checkpoint of {missing[0]} entries with the proof, expected one",
            hint="give the one you have kept with --checkpoint",
        )
    head = heads[sizes[-1]]
    if kind == "consistency":
        old = heads[sizes[0]]
        roots = {"old_root": old.root, "new_root": head.root}
        if not merkle.verify_consistency(old=old.size, new=head.size, proof=path, **roots):
            raise LedgerError(Fault.WRONG_PROOF, "got a path that does not lead from one root to the other")
        return Proven(kind=kind, size=head.size, origin=head.origin, old=old.size)
    if not merkle.verify_inclusion(merkle.leaf_hash(data), index=index, size=head.size, proof=path, root=head.root):
        raise LedgerError(Fault.WRONG_PROOF, f"got a path that does not lead from entry {index} to the signed root")
    if (parse(data) or (None,))[0] != index:
        raise LedgerError(Fault.ENTRY_MALFORMED, f"got entry {index}, which is no event of that number, expected one")
    return Proven(kind=kind, size=head.size, origin=head.origin, index=index, event=json.loads(data))


def export(ledger: Ledger, path: Path) -> int:
    """Writes every entry, a line each, below a line with the checkpoints; returns the number of entries."""
    make_dir(path.parent)
    partial = path.with_name(f".partial-{path.name}-{os.getpid()}")
    with storage_errors(path), ledger.snapshot() as session:
        size = session.size()
        header = {"checkpoints": [_text(note) for _, note in session.notes()], "format": EXPORT_FORMAT, "size": size}
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, PRIVATE_FILE_MODE)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(canonical_json(header) + b"\n")
                stream.writelines(data + b"\n" for _, _, data, _ in session.rows(0, size))
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        fsync_dir(path.parent)
    return size


def check_export(path: Path, verifiers: Sequence[Verifier], known: Sequence[bytes] = ()) -> Report:
    """Verifies an export by its checkpoints and those given.

    Raises:
        LedgerError: ``unreadable``: it is none.
    """
    with path.open("rb") as stream:
        try:
            header = json.loads(stream.readline(MAX_HEADER_BYTES))
            notes = [note.encode() for note in header["checkpoints"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            header, notes = {}, []
        if not isinstance(header, dict) or header.get("format") != EXPORT_FORMAT:
            raise LedgerError(Fault.UNREADABLE, f"got {path}, whose first line is no header, expected an export")
        return check_rows(_lines(stream), verifiers, [*notes, *known], size=header.get("size"))


def _lines(stream: IO[bytes]) -> Iterator[LooseRow]:
    """Entries numbered as they say, or, where they say nothing, as they come."""
    expected = 0
    while line := stream.readline(MAX_LINE_BYTES):
        data = line.removesuffix(b"\n")
        own = parse(data)
        seq = own[0] if own else expected
        expected = max(expected, seq + 1)
        yield seq, None, data, None


def _continue(session: Session, head: Checkpoint, size: int) -> merkle.Frontier:
    if head.size > size:
        raise LedgerError(Fault.TRUNCATED, f"got {size} entries, expected at least the {head.size} that were signed")
    tree = merkle.Frontier.at(head.size, stored_nodes(session))
    if tree.root() != head.root:
        raise LedgerError(
            Fault.REWRITTEN, f"got other entries below {head.size} than those that were signed, expected the same"
        )
    return tree


def _sound_leaf(row: LooseRow, expected: int) -> bytes:
    seq, _, data, stored = row
    found, own = merkle.leaf_hash(data), parse(data)
    if found != stored or seq != expected or own is None or own[0] != seq:
        raise LedgerError(
            Fault.ENTRY_CHANGED,
            f"got entry {expected} changed, missing or misplaced, expected the one that was appended",
            hint="nothing was signed; see `countermark ledger verify`",
        )
    return found


def _body(kind: str, path: Sequence[bytes], note: bytes | None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    hashes = [each.hex() for each in path]
    return {"format": PROOF_FORMAT, "kind": kind, "path": hashes, "checkpoint": _text(note), **fields}


def _text(note: bytes | None) -> str | None:
    return note.decode("utf-8", "replace") if note else None


def _malformed(got: str) -> LedgerError:
    return LedgerError(Fault.MALFORMED_PROOF, f"got {got}, expected {PROOF_FORMAT}")
