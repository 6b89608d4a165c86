"""Checkpoints that continue each other, proofs and exports that need no ledger."""

from __future__ import annotations

import json
import stat

import pytest

from countermark.errors import UsageError
from tests.verification.ledgers import (
    SIGNER,
    events,
    faults,
    flipped,
    made,
    opened,
    sha,
    signed_in_three_steps,
    stolen,
)
from verification.faults import Fault, LedgerError
from verification.ledger_proof import (
    check_export,
    check_proof,
    export,
    prove_consistency,
    prove_inclusion,
    sign_checkpoint,
)


@pytest.fixture
def signed(tmp_path):
    """600 entries, checkpoints at 100, 300 and 600, which somebody has kept."""
    return tmp_path / "l.db", signed_in_three_steps(tmp_path / "l.db")


def test_nothing_is_signed_that_does_not_continue_what_was(signed):
    path, notes = signed
    with opened(path) as ledger:
        assert sign_checkpoint(ledger, SIGNER, last=notes[0]) == notes[2]
        ledger.append(events(5, first=700))
    with stolen(path) as thief:
        (data,) = thief.execute("SELECT data FROM entries WHERE seq = 602").fetchone()
        changed = data.replace(b"marked", b"narked")
        thief.execute("UPDATE entries SET data = ? WHERE seq = 602", (changed,))
    with opened(path) as ledger, pytest.raises(LedgerError) as caught:
        sign_checkpoint(ledger, SIGNER)
    assert caught.value.fault == Fault.ENTRY_CHANGED
    with stolen(path) as thief:
        thief.execute("DELETE FROM entries WHERE seq >= 300")
        thief.execute("DELETE FROM checkpoints WHERE size > 300")
    with opened(path) as ledger:
        with pytest.raises(LedgerError) as caught:
            sign_checkpoint(ledger, SIGNER, last=notes[2])
        assert caught.value.fault == Fault.TRUNCATED
    with made(path.with_name("empty.db"), 0) as ledger, pytest.raises(UsageError):
        sign_checkpoint(ledger, SIGNER)


def test_every_proof_of_a_log_over_several_tiles_verifies(signed):
    path, notes = signed
    with opened(path) as ledger:
        for index in (0, 1, 99, 255, 256, 511, 512, 599):
            body = json.loads(json.dumps(prove_inclusion(ledger, index)))
            proven = check_proof(body, [SIGNER.verifier])
            assert (proven.index, proven.size, proven.event["request_sha256"]) == (index, 600, sha(f"q{index}"))
        early = prove_inclusion(ledger, 17, size=100)
        assert check_proof(early, [SIGNER.verifier]).size == 100
        assert prove_inclusion(ledger, 17, size=555)["checkpoint"] is None
        for old, new in ((100, 300), (100, 600), (300, 600), (600, 600)):
            proven = check_proof(prove_consistency(ledger, old, new=new), [SIGNER.verifier])
            assert (proven.old, proven.size) == (old, new)
        alone = prove_consistency(ledger, 300) | {"checkpoint": None, "old_checkpoint": None}
        assert check_proof(alone, [SIGNER.verifier], notes).old == 300
        with pytest.raises(LedgerError) as caught:
            check_proof(alone, [SIGNER.verifier])
        assert caught.value.fault == Fault.UNKNOWN_SIGNER
        for wrong in (lambda: prove_inclusion(ledger, 600), lambda: prove_consistency(ledger, 0),
                      lambda: prove_inclusion(ledger, 5, size=601)):  # fmt: skip
            with pytest.raises(UsageError):
                wrong()


def test_every_changed_byte_of_a_proof_is_refused(signed):
    path, _ = signed
    with opened(path) as ledger:
        bodies = [prove_inclusion(ledger, 300), prove_consistency(ledger, 100)]
    for body in bodies:
        good = check_proof(body, [SIGNER.verifier])
        data = json.dumps(body, sort_keys=True).encode()
        for place in range(len(data)):
            try:
                changed = json.loads(flipped(data, 8 * place + place % 7))
            except ValueError:
                continue
            with pytest.raises(LedgerError):
                assert check_proof(changed, [SIGNER.verifier]) != good, changed


def test_a_proof_does_not_come_from_damaged_hashes(signed):
    path, _ = signed
    with stolen(path) as thief:
        thief.execute("UPDATE entries SET leaf = zeroblob(32) WHERE seq = 40")
    with opened(path) as ledger, pytest.raises(LedgerError) as caught:
        prove_inclusion(ledger, 41)
    assert caught.value.fault == Fault.WRONG_PROOF


def test_an_export_is_verified_without_the_database(signed, tmp_path):
    path, notes = signed
    out = tmp_path / "log.jsonl"
    with opened(path) as ledger:
        assert export(ledger, out) == 600
        root = ledger.root()
    path.unlink()
    report = check_export(out, [SIGNER.verifier], notes)
    assert (report.sound, report.size, report.signed, report.root) == (True, 600, 600, root)
    lines = out.read_bytes().split(b"\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600

    def found(changed):
        out.write_bytes(b"\n".join(changed))
        return faults(check_export(out, [SIGNER.verifier], ()))

    assert found([*lines[:58], *lines[59:]]) == [("entry_missing", 57, 58)]
    assert ("entry_misplaced", 10, 11) in found([*lines[:11], lines[12], lines[11], *lines[13:]])
    assert ("truncated", 599, 600) in found([*lines[:600], b""])
    assert ("rewritten", 0, 100) in found([*lines[:5], lines[5].replace(b"marked", b"narked"), *lines[6:]])
    assert ("entry_malformed", 4, 5) in found([*lines[:5], b"{}", *lines[6:]])
    out.write_bytes(b'{"format":"other"}\n')
    with pytest.raises(LedgerError):
        check_export(out, [SIGNER.verifier])
