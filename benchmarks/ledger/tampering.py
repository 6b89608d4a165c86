"""Every bit of a log of 200 events, random bits of a large one, and the edits of somebody who knows the format."""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import row
from tests.verification.ledgers import SIGNER, events, flipped, made, prepare_other, stolen, with_new_hashes
from verification.ledger_check import check
from verification.ledger_ids import IdIndex
from verification.ledger_proof import sign_checkpoint
from verification.ledger_sqlite import SqliteSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rows import Row

SMALL, LARGE = 200, 20_000
RANDOM_FLIPS = 100_000
AT_ONCE = 2_000
STEPS = 10
COMMAND = "python -m benchmarks.ledger tampering"


def rows() -> list[Row]:
    """All rows of this part."""
    with tempfile.TemporaryDirectory() as folder:
        return [*_bits(Path(folder)), *_large(Path(folder)), *_edits(Path(folder))]


def _bits(folder: Path) -> list[Row]:
    """Bit by bit: that bit of every tenth entry, ten times; what is reported must be these entries and no other."""
    started, path = time.monotonic(), folder / "small.db"
    with made(path, SMALL) as ledger:
        sign_checkpoint(ledger, SIGNER)
    missed = flips = 0
    with stolen(path) as thief:
        thief.execute("BEGIN")
        stored = thief.execute("SELECT seq, data, leaf FROM entries").fetchall()
        for bit in range(8 * max(len(data) for _, data, _ in stored)):
            for column, place in (("data", 1), ("leaf", 2)):
                for step in range(STEPS):
                    hit = [each for each in stored[step::STEPS] if bit < 8 * len(each[place])]
                    if hit:
                        flips += len(hit)
                        missed += _missed(thief, column, [(each[0], each[place], bit) for each in hit])
    seconds = time.monotonic() - started
    return [
        row(f"single bits of {SMALL} entries and their hashes, flipped", flips, trials=flips, seconds=seconds,
            command=COMMAND),
        row("… not reported with the entry's number, or others reported", missed, bar=("==", 0), trials=flips,
            seconds=seconds, command=COMMAND),
    ]  # fmt: skip


def _large(folder: Path) -> list[Row]:
    started, path, chance = time.monotonic(), folder / "large.db", random.Random(6)  # noqa: S311
    with made(path, 0) as ledger:
        for first in range(0, LARGE, 5_000):
            ledger.append(events(5_000, first=first))
        sign_checkpoint(ledger, SIGNER)
    missed = flips = 0
    with stolen(path) as thief:
        thief.execute("BEGIN")
        stored = dict(thief.execute("SELECT seq, data FROM entries").fetchall())
        while flips < RANDOM_FLIPS:
            hit = sorted(chance.sample(range(LARGE), AT_ONCE))
            flips += AT_ONCE
            changes = [(seq, stored[seq], chance.randrange(8 * len(stored[seq]))) for seq in hit]
            missed += _missed(thief, "data", changes)
    seconds = time.monotonic() - started
    name = f"random bits of {LARGE} entries, {AT_ONCE} at once: not reported with the number, or others reported"
    return [row(name, missed, bar=("==", 0), trials=flips, seconds=seconds, command=COMMAND)]


def _missed(thief: sqlite3.Connection, column: str, changes: Sequence[tuple[int, bytes, int]]) -> int:
    update = f"UPDATE entries SET {column} = ? WHERE seq = ?"  # noqa: S608 - two names of our own
    thief.executemany(update, [(flipped(value, bit), seq) for seq, value, bit in changes])
    report = check(SqliteSession(thief, IdIndex()), [SIGNER.verifier])
    thief.executemany(update, [(value, seq) for seq, value, _ in changes])
    found = [(each.fault, each.first, each.stop) for each in report.problems]
    expected = [("entry_changed", seq, seq + 1) for seq, _, _ in changes]
    return len(set(found) ^ set(expected))


def _edits(folder: Path) -> list[Row]:
    """On the small log: every deletion, every exchange of neighbours, every truncation, every rewriting."""
    started, path = time.monotonic(), folder / "small.db"
    missed = dict.fromkeys(("deletions", "exchanges", "truncations below a kept checkpoint", "whole rewritings"), 0)
    with stolen(path) as thief:
        stored = [data for (data,) in thief.execute("SELECT data FROM entries ORDER BY seq")]
        kept = [thief.execute("SELECT note FROM checkpoints").fetchone()[0]]
        for seq in range(SMALL):
            at = {(seq, seq + 1)}
            missed["deletions"] += not _places(thief, [_delete("=", seq)], kept) >= (
                at if seq < SMALL - 1 else {(seq, SMALL)}
            )
            cut = [_delete(">=", seq), "DELETE FROM checkpoints"]
            missed["truncations below a kept checkpoint"] += _places(thief, cut, kept) != {(seq, SMALL)}
            swap = _swap(seq, (seq + 1) % SMALL)
            both = {(seq, seq + 1), ((seq + 1) % SMALL, (seq + 1) % SMALL + 1)}
            missed["exchanges"] += not _places(thief, swap, kept) >= both
    for seq in range(SMALL):
        changed = [*stored[:seq], prepare_other(seq), *stored[seq + 1 :]]
        with stolen(path) as thief:
            with_new_hashes(thief, changed)
        with closing(sqlite3.connect(path)) as connection:
            found = check(SqliteSession(connection, IdIndex()), [SIGNER.verifier], kept)
        missed["whole rewritings"] += [str(each.fault) for each in found.problems] != ["rewritten"]
    seconds = time.monotonic() - started
    return [
        row(f"{name} of a log of {SMALL}, not reported with the place", count, bar=("==", 0), trials=SMALL,
            seconds=seconds, command=COMMAND)
        for name, count in missed.items()
    ]  # fmt: skip


def _delete(which: str, seq: int) -> str:
    return f"DELETE FROM entries WHERE seq {which} {seq}"  # noqa: S608 - a number


def _swap(one: int, other: int) -> list[str]:
    moves = ((one, -1), (other, one), (-1, other))
    return [f"UPDATE entries SET seq = {to} WHERE seq = {place}" for place, to in moves]  # noqa: S608 - numbers


def _places(thief: sqlite3.Connection, statements: Sequence[str], kept: Sequence[bytes]) -> set[tuple[int, int]]:
    thief.execute("BEGIN")
    for each in statements:
        thief.execute(each)
    report = check(SqliteSession(thief, IdIndex()), [SIGNER.verifier], kept)
    thief.execute("ROLLBACK")
    return {(each.first, each.stop) for each in report.problems}
