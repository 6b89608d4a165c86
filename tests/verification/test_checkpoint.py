"""Signed notes and checkpoints: the specification's own examples, and every way to be none."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import CorruptKeyFileError, UsageError
from tests.support import vectors
from tests.verification.ledgers import OTHER, SIGNER, flipped
from verification.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    Note,
    Signature,
    Signer,
    Verifier,
    open_checkpoint,
    open_note,
    parse_note,
    public_value,
    sign_note,
)
from verification.faults import Fault, LedgerError

KNOWN = vectors("signed_note")
PETER = Signer.decode(KNOWN["signing_key"])
HEAD = Checkpoint(origin=SIGNER.name, size=7, root=bytes(range(32)))
NOTE = sign_note(HEAD.text(), SIGNER)


def fault_of(data, *verifiers):
    with pytest.raises(LedgerError) as caught:
        open_note(data, verifiers)
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith(f"{caught.value.fault}: ")
    return caught.value.fault


def test_the_published_key_signs_the_published_note():
    assert PETER.verifier.encode() == KNOWN["verifier_key"]
    assert sign_note(KNOWN["text"], PETER).decode() == KNOWN["note"]
    assert open_note(KNOWN["note"].encode(), [Verifier.decode(KNOWN["verifier_key"])]).text == KNOWN["text"]


def test_a_note_may_hold_empty_lines_and_the_last_one_counts():
    note = parse_note(KNOWN["note_with_empty_lines"].encode())
    assert note.text.count("\n\n") == 1
    assert [each.name for each in note.signatures] == ["quasimodo.example/salvatore"]
    assert note.encode().decode() == KNOWN["note_with_empty_lines"]


def test_unknown_signatures_are_ignored_and_a_known_bad_one_is_not():
    both = sign_note(HEAD.text(), OTHER, PETER, SIGNER)
    assert [each.name for each in open_note(both, [SIGNER.verifier]).signatures] == [SIGNER.name]
    assert len(open_note(both, [SIGNER.verifier, PETER.verifier]).signatures) == 2
    assert fault_of(NOTE, PETER.verifier) == Fault.UNKNOWN_SIGNER
    assert fault_of(NOTE, OTHER.verifier) == Fault.UNKNOWN_SIGNER  # the same name, another key
    assert fault_of(NOTE) == Fault.UNKNOWN_SIGNER
    line = parse_note(NOTE).signatures[0]
    bad = Signature(name=line.name, key_id=line.key_id, value=flipped(line.value, 0))
    spoiled = Note(text=HEAD.text(), signatures=(line, bad))
    assert len(open_note(spoiled.encode(), [SIGNER.verifier]).signatures) == 1  # the first of one key speaks for it
    spoiled = Note(text=HEAD.text(), signatures=(bad, line))
    assert fault_of(spoiled.encode(), SIGNER.verifier) == Fault.BAD_SIGNATURE
    other = Note(text=HEAD.text(), signatures=(bad, *parse_note(sign_note(HEAD.text(), PETER)).signatures))
    assert fault_of(other.encode(), SIGNER.verifier, PETER.verifier) == Fault.BAD_SIGNATURE


def test_every_bit_of_a_checkpoint_counts():
    for bit in range(8 * len(NOTE)):
        with pytest.raises(LedgerError):
            open_checkpoint(flipped(NOTE, bit), SIGNER.verifier)
    assert open_checkpoint(NOTE, SIGNER.verifier) == HEAD


LINE = NOTE.decode().split("\n")[-2]
MALFORMED = {
    "no signature": HEAD.text(),
    "nothing below the empty line": HEAD.text() + "\n",
    "no last line feed": NOTE.decode()[:-1],
    "control character": "\x01" + NOTE.decode(),
    "carriage return": NOTE.decode().replace("\n", "\r\n"),
    "a line that is no signature": NOTE.decode() + "something\n",
    "a hyphen for the dash": NOTE.decode().replace("— ", "- "),
    "a name with a plus": HEAD.text() + "\n" + LINE.replace("example.com/", "example.com+") + "\n",
    "a name with a space": HEAD.text() + "\n" + LINE.replace("example.com/", "example com/") + "\n",
    "no name": HEAD.text() + "\n— " + LINE.split(" ")[2] + "\n",
    "no base64": HEAD.text() + "\n" + LINE[:-8] + "*" + LINE[-7:] + "\n",
    "a key id and nothing else": HEAD.text() + f"\n— {SIGNER.name} {base64.b64encode(b'abcd').decode()}\n",
    "padding that is not zero": HEAD.text() + "\n" + LINE[:-2] + chr(ord(LINE[-2]) + 1) + LINE[-1] + "\n",
    "too many signatures": HEAD.text() + "\n" + (LINE + "\n") * (MAX_SIGNATURES + 1),
    "too long": "x" * MAX_NOTE_BYTES + NOTE.decode(),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_note(name):
    assert fault_of(MALFORMED[name].encode(), SIGNER.verifier) == Fault.MALFORMED_NOTE
    assert fault_of(b"\xff" + NOTE, SIGNER.verifier) == Fault.MALFORMED_NOTE


def test_as_many_signatures_as_may_be():
    data = (HEAD.text() + "\n" + (LINE + "\n") * MAX_SIGNATURES).encode()
    assert len(open_note(data, [SIGNER.verifier]).signatures) == 1


ROOT = base64.b64encode(bytes(32)).decode()
NO_CHECKPOINTS = {
    "two lines": "a\n1\n",
    "an empty origin": f"\n1\n{ROOT}\n",
    "a leading zero": f"a\n01\n{ROOT}\n",
    "a sign": f"a\n-1\n{ROOT}\n",
    "digits of another script": f"a\n١\n{ROOT}\n",
    "no end": f"a\n{'9' * 40}\n{ROOT}\n",
    "a short root": f"a\n1\n{base64.b64encode(bytes(31)).decode()}\n",
    "a root with a space": f"a\n1\n{ROOT} \n",
    "an empty extension": f"a\n1\n{ROOT}\n\nb\n",
}


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_a_good_signature_over_no_checkpoint(name):
    with pytest.raises(LedgerError) as caught:
        open_checkpoint(sign_note(NO_CHECKPOINTS[name], SIGNER), SIGNER.verifier)
    assert caught.value.fault == Fault.MALFORMED_NOTE


def test_a_checkpoint_of_another_log_under_the_same_key():
    with pytest.raises(LedgerError) as caught:
        open_checkpoint(sign_note(f"example.com/other\n7\n{ROOT}\n", SIGNER), SIGNER.verifier)
    assert caught.value.fault == Fault.WRONG_ORIGIN


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(lambda t: "\n" not in t),
    st.integers(0, 10**19 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), max_size=3),
)
def test_a_checkpoint_reads_back(origin, size, root, extensions):
    head = Checkpoint(origin=origin, size=size, root=root, extensions=tuple(extensions))
    assert Checkpoint.parse(open_note(sign_note(head.text(), SIGNER), [SIGNER.verifier]).text) == head


@given(st.binary(max_size=300))
def test_bytes_from_anywhere_are_a_named_fault(data):
    with pytest.raises(LedgerError):
        open_checkpoint(data, SIGNER.verifier)


@pytest.mark.parametrize("decode", [Verifier.decode, Signer.decode])
def test_no_part_or_neighbour_of_a_key_is_a_key(decode):
    text = KNOWN["verifier_key"] if decode == Verifier.decode else KNOWN["signing_key"]
    assert decode(text).encode() == text
    for place in range(len(text)):
        for wrong in (text[:place], text[place + 1 :], text[:place] + chr(ord(text[place]) + 1) + text[place + 1 :]):
            with pytest.raises((UsageError, CorruptKeyFileError)):
                decode(wrong)


def test_a_signing_key_is_shown_nowhere():
    fresh = Signer.new("example.com/new")
    assert fresh.seed.hex() not in repr(fresh)
    assert repr(fresh.seed) not in repr(fresh)
    with pytest.raises(CorruptKeyFileError) as caught:
        Signer.decode(fresh.encode()[:-2])
    assert fresh.encode()[40:60] not in caught.value.diagnostics()


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "a\x00"])
def test_names_that_a_note_cannot_hold(name):
    with pytest.raises(UsageError):
        Signer.new(name)


def test_the_public_value_is_of_this_head_and_this_signature():
    value = public_value(NOTE, SIGNER.verifier)
    assert len(bytes.fromhex(value)) == 32
    assert public_value(sign_note(HEAD.text(), PETER, SIGNER), SIGNER.verifier) == value  # others change nothing
    assert public_value(sign_note(HEAD.text(), PETER, SIGNER), PETER.verifier) != value
    later = Checkpoint(origin=HEAD.origin, size=8, root=HEAD.root)
    assert public_value(sign_note(later.text(), SIGNER), SIGNER.verifier) != value
    with pytest.raises(LedgerError):
        public_value(NOTE, PETER.verifier)
    with pytest.raises(LedgerError):
        public_value(sign_note("no checkpoint\n", SIGNER), SIGNER.verifier)
