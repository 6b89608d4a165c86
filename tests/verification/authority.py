"""A time-stamping authority for tests: a root, a certificate for time stamping, and tokens over any digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from verification import der
from verification.der import CONTEXT, INTEGER, OCTET_STRING, SEQUENCE, SET, encode, encode_integer, encode_oid

START = datetime(2025, 1, 1, tzinfo=UTC)
SHA256 = encode(SEQUENCE, encode_oid("2.16.840.1.101.3.4.2.1"))
TST_INFO = encode_oid("1.2.840.113549.1.9.16.1.4")


def fixed_key(number: int) -> ec.EllipticCurvePrivateKey:
    """The same key in every run; signatures still differ, ECDSA draws."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(b"tsa %d" % number).digest(), "big"), ec.SECP256R1())


@dataclass(frozen=True, kw_only=True)
class Authority:
    root: x509.Certificate
    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    @property
    def raw(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def stamp(self, digest: str, at: str = "20260131120000Z", **changes: Any) -> bytes:
        """A ``TimeStampResp``; ``changes`` break it in one place."""
        content = encode(
            SEQUENCE, encode_integer(1), encode_oid("1.2.3.4"),
            encode(SEQUENCE, changes.get("hash", SHA256), encode(OCTET_STRING, bytes.fromhex(digest))),
            encode_integer(7), encode(der.GENERALIZED_TIME, at.encode()),
        )  # fmt: skip
        bound = changes.get("bound", hashlib.sha256(self.raw).digest())
        attributes = [
            _attribute("1.2.840.113549.1.9.3", changes.get("kind", TST_INFO)),
            _attribute("1.2.840.113549.1.9.4", encode(OCTET_STRING, hashlib.sha256(content).digest())),
            _attribute(
                "1.2.840.113549.1.9.16.2.47",
                encode(SEQUENCE, encode(SEQUENCE, encode(SEQUENCE, encode(OCTET_STRING, bound)))),
            ),
        ]
        attributes = [each for i, each in enumerate(attributes) if i not in changes.get("without", ())]
        signed = encode(SET, *attributes)
        signature = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        issuer = encode(
            SEQUENCE, self.certificate.issuer.public_bytes(), encode_integer(self.certificate.serial_number)
        )
        signer = encode(
            SEQUENCE, encode_integer(1), issuer, SHA256, b"\xa0" + signed[1:],
            encode(SEQUENCE, encode_oid("1.2.840.10045.4.3.2")), encode(OCTET_STRING, signature),
        )  # fmt: skip
        held = changes.get("certificates", [self.raw, self.root.public_bytes(Encoding.DER)])
        info = encode(
            SEQUENCE, encode_integer(3), encode(SET, SHA256),
            encode(SEQUENCE, TST_INFO, encode(CONTEXT, encode(OCTET_STRING, changes.get("content", content)))),
            encode(CONTEXT, *held), encode(SET, *[signer] * changes.get("signers", 1)),
        )  # fmt: skip
        token = encode(SEQUENCE, encode_oid("1.2.840.113549.1.7.2"), encode(CONTEXT, info))
        return token if changes.get("bare") else encode(SEQUENCE, encode(SEQUENCE, encode(INTEGER, b"\0")), token)


def authority(*, usage: Any = None, critical: bool = True, days: int = 3650, number: int = 0) -> Authority:
    root_key, key = fixed_key(2 * number), fixed_key(2 * number + 1)
    root = _certificate("root", root_key, "root", days).add_extension(x509.BasicConstraints(True, None), True)
    eku = x509.ExtendedKeyUsage(usage or [ExtendedKeyUsageOID.TIME_STAMPING])
    signing = _certificate("stamps", key, "root", days).add_extension(eku, critical)
    sha = hashes.SHA256()
    return Authority(root=root.sign(root_key, sha), certificate=signing.sign(root_key, sha), key=key)


def _certificate(name: str, key: Any, issuer: str, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name)).issuer_name(_name(issuer)).public_key(key.public_key())
        .serial_number(len(name)).not_valid_before(START).not_valid_after(START + timedelta(days=days))
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _attribute(kind: str, value: bytes) -> bytes:
    return encode(SEQUENCE, encode_oid(kind), encode(SET, value))
