"""DSSE: the specification's vector, several signers, and everything that makes an envelope none."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from countermark.manifest import canonical_json
from verification.bundle_faults import BundleError, Failure
from verification.checkpoint import Signer
from verification.dsse import MAX_SIGNATURES, PAYLOAD_TYPE, open_envelope, pae, public_key, seal, statement

OWNER, AUDITOR = (Signer(name=name, seed=bytes([i]) * 32) for i, name in enumerate(("owner", "auditor"), 1))
PAYLOAD = statement({"b": "2" * 64, "a": "1" * 64}, predicate_type="https://example.com/p/v1", predicate={"n": 1})
SEALED = seal(PAYLOAD, [OWNER, AUDITOR])


def test_the_encoding_of_the_specification():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "  # lengths count bytes


def test_a_statement_names_its_subjects_in_order():
    assert json.loads(PAYLOAD) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a", "digest": {"sha256": "1" * 64}}, {"name": "b", "digest": {"sha256": "2" * 64}}],
        "predicateType": "https://example.com/p/v1",
        "predicate": {"n": 1},
    }


def test_an_envelope_gives_payload_and_signers():
    found = open_envelope(SEALED)
    assert (found.payload, found.signers) == (PAYLOAD, (public_key(OWNER), public_key(AUDITOR)))
    assert seal(PAYLOAD, [OWNER, AUDITOR]) == SEALED


def test_others_verify_it_by_the_specification_alone():
    body = json.loads(SEALED)
    payload = base64.b64decode(body["payload"])
    for each in body["signatures"]:
        message = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(each["keyid"]))
        key.verify(base64.b64decode(each["sig"]), message)


@pytest.mark.parametrize("signers", [[], [OWNER, OWNER], [Signer.new("x") for _ in range(MAX_SIGNATURES + 1)]])
def test_nobody_twice_or_too_many_cannot_sign(signers):
    with pytest.raises(UsageError):
        seal(PAYLOAD, signers)


def _changed(**changes):
    return canonical_json({**json.loads(SEALED), **changes})


SIGNATURES = json.loads(SEALED)["signatures"]
OTHER = base64.b64encode(b"{}").decode()


def _respelled(text):
    """The same bytes in base64 whose unused bits are not zero."""
    body = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + "=" * (len(text) - len(body))
    assert base64.b64decode(other) == base64.b64decode(text)
    return other


BROKEN = {
    "base64 in another spelling": _changed(signatures=[{**SIGNATURES[0], "sig": _respelled(SIGNATURES[0]["sig"])}]),
    "another payload": _changed(payload=OTHER),
    "another type": _changed(payloadType="text/plain"),
    "another field": _changed(more=1),
    "no signature": _changed(signatures=[]),
    "one twice": _changed(signatures=[SIGNATURES[0]] * 2),
    "too many": _changed(signatures=SIGNATURES * MAX_SIGNATURES),
    "exchanged": _changed(signatures=[{**SIGNATURES[0], "sig": SIGNATURES[1]["sig"]}]),
    "a key that is none": _changed(signatures=[{**SIGNATURES[0], "keyid": "00"}]),
    "a key in capitals": _changed(signatures=[{**SIGNATURES[0], "keyid": SIGNATURES[0]["keyid"].upper()}]),
    "base64 with a line": _changed(payload=json.loads(SEALED)["payload"] + "\n"),
    "white space": SEALED + b" ",
    "no JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_an_envelope_that_is_none(data):
    with pytest.raises(BundleError) as caught:
        open_envelope(data)
    assert (caught.value.failure, caught.value.exit_code) == (Failure.SIGNATURE, 3)


@given(st.integers(0, 8 * len(SEALED) - 1))
def test_no_flipped_bit_passes(bit):
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BundleError):
        open_envelope(bytes(changed))


def test_a_signature_over_the_bare_payload_does_not_pass():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    bare = base64.b64encode(Ed25519PrivateKey.from_private_bytes(OWNER.seed).sign(PAYLOAD)).decode()
    with pytest.raises(BundleError):
        open_envelope(_changed(signatures=[{**SIGNATURES[0], "sig": bare}]))
