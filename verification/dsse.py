"""DSSE envelopes (github.com/secure-systems-lab/dsse, protocol 1) around in-toto statements, signed with Ed25519.

What is signed is the pre-authentication encoding of type and payload, never JSON as it happens to be spelled. A
signature's ``keyid`` is the signer's public key in hex: a reader knows whom it expects, and looks nowhere else.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from countermark.errors import UsageError
from countermark.manifest import canonical_json
from verification.bundle_faults import BundleError, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.checkpoint import Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_SIGNATURES = 16
MAX_ENVELOPE_BYTES = 4 * 1024 * 1024
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A verified envelope: its payload, and the public keys (hex) of all who signed it."""

    payload: bytes
    signers: tuple[str, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: ``DSSEv1 LEN TYPE LEN PAYLOAD``, lengths in decimal."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, signers: Sequence[Signer]) -> bytes:
    """The envelope over ``payload`` with a signature of each signer, in their order; the same bytes every time.

    Raises:
        UsageError: nobody signs, somebody twice, or too many.
    """
    keys = [public_key(signer) for signer in signers]
    if not 1 <= len(keys) <= MAX_SIGNATURES or len(set(keys)) != len(keys):
        raise UsageError(f"got {len(keys)} signers of {len(set(keys))} keys, expected 1 … {MAX_SIGNATURES} different")
    message = pae(PAYLOAD_TYPE, payload)
    signatures = [
        {"keyid": key, "sig": _encode(Ed25519PrivateKey.from_private_bytes(signer.seed).sign(message))}
        for key, signer in zip(keys, signers, strict=True)
    ]
    return canonical_json({"payload": _encode(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures})


def public_key(signer: Signer) -> str:
    """A signer's public key in hex, as plans and envelopes name it."""
    return signer.verifier.public.hex()


def open_envelope(data: bytes) -> Envelope:
    """The payload, once every signature on it has been verified by the key that it names.

    Raises:
        BundleError: ``signature``: no envelope in its one spelling, no or too many signatures, or one that fails.
    """
    try:
        payload, signatures = _parse(data)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise _bad(f"an envelope of another shape ({error})") from None
    message, keys = pae(PAYLOAD_TYPE, payload), []
    for key, signature in signatures:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise _bad(f"a signature of {key.hex()[:16]}… that does not fit the statement") from None
        keys.append(key.hex())
    if len(set(keys)) != len(keys):
        raise _bad("two signatures of one key")
    return Envelope(payload=payload, signers=tuple(keys))


def statement(files: Mapping[str, str], *, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """An in-toto statement (v1) over files, given as name → SHA-256 (hex), in canonical JSON."""
    subjects = [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)]
    return canonical_json(
        {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": predicate_type, "predicate": dict(predicate)}
    )


def _parse(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    if len(data) > MAX_ENVELOPE_BYTES:
        raise ValueError(f"{len(data)} bytes")
    body = json.loads(data)
    if canonical_json(body) != data or set(body) != {"payload", "payloadType", "signatures"}:
        raise ValueError("not in canonical JSON, or with other fields")
    if body["payloadType"] != PAYLOAD_TYPE:
        raise ValueError("another payload type")
    if not 1 <= len(body["signatures"]) <= MAX_SIGNATURES:
        raise ValueError(f"{len(body['signatures'])} signatures")
    found = []
    for each in body["signatures"]:
        key = bytes.fromhex(each["keyid"])
        if set(each) != {"keyid", "sig"} or key.hex() != each["keyid"] or len(key) != _KEY_BYTES:
            raise ValueError("a signature whose keyid is no public key in hex")
        found.append((key, _decode(each["sig"])))
    return _decode(body["payload"]), found


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    """One spelling for one value, or a flipped padding bit would pass."""
    value = base64.b64decode(text, validate=True)
    if _encode(value) != text:
        raise ValueError("base64 in another spelling")
    return value


def _bad(got: str) -> BundleError:
    return BundleError(Failure.SIGNATURE, f"got {got}, expected a signed statement")
