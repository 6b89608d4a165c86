"""Whatever is changed in the database is reported with its place."""

from __future__ import annotations

import pytest

from tests.verification.ledgers import (
    OTHER,
    SIGNER,
    event,
    faults,
    flipped,
    made,
    opened,
    rows_of,
    signed_in_three_steps,
    stolen,
    verified,
    with_new_hashes,
)
from verification import merkle
from verification.checkpoint import Checkpoint, open_checkpoint, sign_note
from verification.faults import Fault, LedgerError
from verification.ledger_check import check
from verification.ledger_events import prepare
from verification.ledger_ids import IdIndex
from verification.ledger_proof import (
    sign_checkpoint,
)
from verification.ledger_sqlite import SqliteSession


@pytest.fixture
def signed(tmp_path):
    """600 entries, checkpoints at 100, 300 and 600, which somebody has kept."""
    return tmp_path / "l.db", signed_in_three_steps(tmp_path / "l.db")


@pytest.mark.long
def test_every_bit_of_every_entry_and_hash_is_reported_with_its_place(tmp_path):
    """Every second entry at a time: what is reported must be these, and no other."""
    with made(tmp_path / "l.db", 20) as ledger:
        sign_checkpoint(ledger, SIGNER)
        rows = [(row[0], row[2], row[3]) for row in rows_of(ledger)]
    longest = 8 * max(len(data) for _, data, _ in rows)
    with stolen(tmp_path / "l.db") as thief:
        thief.execute("BEGIN")
        session = SqliteSession(thief, IdIndex())
        for column, number, bits in (("data", 1, longest), ("leaf", 2, 256)):
            for bit in range(bits):
                for odd in (0, 1):
                    hit = [row for row in rows if row[0] % 2 == odd and bit < 8 * len(row[number])]
                    update = f"UPDATE entries SET {column} = ? WHERE seq = ?"
                    thief.executemany(update, [(flipped(row[number], bit), row[0]) for row in hit])
                    report = check(session, [SIGNER.verifier])
                    assert faults(report) == [("entry_changed", row[0], row[0] + 1) for row in hit]
                    thief.executemany(update, [(row[number], row[0]) for row in hit])
        assert check(session, [SIGNER.verifier]).sound


def test_an_untouched_log_is_sound(signed):
    path, notes = signed
    with opened(path) as ledger:
        report = verified(ledger, *notes)
    assert (report.sound, report.size, report.signed, report.checkpoints) == (True, 600, 600, 3)
    assert report.root == open_checkpoint(notes[-1], SIGNER.verifier).root
    assert report.require() is report


EDITS = {
    "an entry is deleted": (["DELETE FROM entries WHERE seq = 57"], [("entry_missing", 57, 58)]),
    "the first is deleted": (["DELETE FROM entries WHERE seq = 0"], [("entry_missing", 0, 1)]),
    "a range is deleted": (["DELETE FROM entries WHERE seq BETWEEN 10 AND 400"], [("entry_missing", 10, 401)]),
    "a node is changed": (
        ["UPDATE nodes SET hash = zeroblob(32) WHERE position = 1"], [("tree_changed", 256, 512)],
    ),
    "a node is deleted": (["DELETE FROM nodes WHERE position = 0"], [("tree_changed", 0, 256)]),
    "a node is invented": (["INSERT INTO nodes VALUES (16, 0, zeroblob(32))"], [("tree_changed", 0, 65536)]),
    "the end is cut off": (
        ["DELETE FROM entries WHERE seq >= 590"], [("truncated", 590, 600)],
    ),
    "a segment of ids is invented": (["INSERT INTO ids VALUES (0, x'00')"], [("id_changed", 0, 65536)]),
    "all is gone": (
        ["DELETE FROM entries", "DELETE FROM nodes"],
        [("truncated", 0, 100), ("truncated", 0, 300), ("truncated", 0, 600)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_edits_are_reported_with_their_place(signed, name):
    path, _ = signed
    statements, expected = EDITS[name]
    with stolen(path) as thief:
        for each in statements:
            thief.execute(each)
    with opened(path) as ledger:
        report = verified(ledger)
    assert faults(report) == expected
    with pytest.raises(LedgerError) as caught:
        report.require()
    assert caught.value.fault == expected[0][0]


def test_two_entries_exchanged_both_say_where_they_belong(signed):
    path, _ = signed
    with stolen(path) as thief:
        a, b = (thief.execute("SELECT data, leaf FROM entries WHERE seq = ?", (s,)).fetchone() for s in (20, 410))
        thief.execute("UPDATE entries SET data = ?, leaf = ? WHERE seq = 20", b)
        thief.execute("UPDATE entries SET data = ?, leaf = ? WHERE seq = 410", a)
    with opened(path) as ledger:
        found = faults(verified(ledger))
    assert ("entry_misplaced", 20, 21) in found
    assert ("entry_misplaced", 410, 411) in found
    assert ("rewritten", 0, 100) in found


def test_an_entry_of_another_form_with_a_hash_of_its_own(signed):
    path, _ = signed
    with stolen(path) as thief:
        (data,) = thief.execute("SELECT data FROM entries WHERE seq = 50").fetchone()
        loose = data.replace(b'","', b'", "')
        thief.execute("UPDATE entries SET data = ?, leaf = ? WHERE seq = 50", (loose, merkle.leaf_hash(loose)))
    with opened(path) as ledger:
        assert ("entry_malformed", 50, 51) in faults(verified(ledger))


def test_the_last_n_cut_off_with_their_checkpoints_is_found_by_a_kept_one(signed):
    path, notes = signed
    with stolen(path) as thief:
        thief.execute("DELETE FROM entries WHERE seq >= 300")
        thief.execute("DELETE FROM nodes WHERE position >= 1")
        thief.execute("DELETE FROM checkpoints WHERE size > 300")
    with opened(path) as ledger:
        assert verified(ledger).sound  # nobody can know without a copy of the checkpoint
        assert faults(verified(ledger, notes[2])) == [("truncated", 300, 600)]


@pytest.mark.parametrize("place", [0, 99, 100, 299, 300, 599])
def test_a_whole_new_log_without_the_key_is_found_between_two_checkpoints(signed, place):
    path, notes = signed
    with opened(path) as ledger:
        entries = [row[2] for row in rows_of(ledger)]
    entries[place] = prepare(event(9999)).numbered(place)
    with stolen(path) as thief:
        with_new_hashes(thief, entries)
    below = [0, 100, 300, 600]
    found = next(i for i, size in enumerate(below) if place < size)
    expected = [("rewritten", below[found - 1], size) for size in below[found:]]
    with opened(path) as ledger:
        assert faults(verified(ledger)) == expected
    forged = sign_note(Checkpoint(origin=SIGNER.name, size=600, root=merkle.root_of([])).text(), OTHER)
    with stolen(path) as thief:
        thief.execute("DELETE FROM checkpoints")
        thief.execute("INSERT INTO checkpoints (size, note) VALUES (600, ?)", (forged,))
    with opened(path) as ledger:
        assert faults(verified(ledger)) == [("unknown_signer", 600, 600)]
        assert ("rewritten", below[found - 1], below[found]) in faults(verified(ledger, *notes))
        with pytest.raises(LedgerError) as caught:
            sign_checkpoint(ledger, SIGNER, last=notes[-1])
        assert caught.value.fault in (Fault.REWRITTEN, Fault.UNKNOWN_SIGNER)


def test_a_checkpoint_with_a_changed_bit(signed):
    path, notes = signed
    with stolen(path) as thief:
        for bit in range(0, 8 * len(notes[1]), 31):
            thief.execute("UPDATE checkpoints SET note = ? WHERE size = 300", (flipped(notes[1], bit),))
            with opened(path) as ledger:
                report = verified(ledger)
            assert not report.sound
            assert {each.fault for each in report.problems} <= {
                Fault.MALFORMED_NOTE, Fault.UNKNOWN_SIGNER, Fault.BAD_SIGNATURE, Fault.WRONG_ORIGIN,
            }  # fmt: skip


def test_an_event_appended_twice_behind_the_ledgers_back(tmp_path):
    with made(tmp_path / "l.db", 5) as ledger:
        again = prepare(event(2)).numbered(5)
    with stolen(tmp_path / "l.db") as thief:
        thief.execute("INSERT INTO entries VALUES (5, ?, ?)", (again, merkle.leaf_hash(again)))
    with opened(tmp_path / "l.db") as ledger:
        assert faults(verified(ledger)) == [("id_doubled", 5, 6)]


def test_pages_that_sqlite_cannot_read(signed):
    path, _ = signed
    with stolen(path) as thief:
        thief.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(LedgerError) as caught, opened(path) as ledger:
        verified(ledger)
    assert caught.value.fault == Fault.UNREADABLE
