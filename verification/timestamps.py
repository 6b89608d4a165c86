"""Time stamps of RFC 3161: reads and verifies a token on the base install.

Checked are the token's structure, the digest in it against the signed content, the signature by the certificate in it,
that this certificate is bound by the signed attributes (RFC 5816), is for time stamping alone and was valid at the
stated time, and, where authorities are given, that a chain leads to one of them. Revocation is not: no network.

What is stamped is a SHA-256 that the owner already has: the commitment, a release manifest's digest, or the plan's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from countermark.errors import IntegrityError
from verification import der
from verification.der import CONTEXT, Node, find, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TOKEN_BYTES = 256 * 1024
_LONGEST_CHAIN = 8
_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    _SHA256: hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
_SIGNATURES: dict[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(), "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(), "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(), "1.2.840.10045.4.3.4": hashes.SHA512(),
}  # fmt: skip
_UNUSABLE = (
    ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""What ``cryptography`` raises for a certificate that it cannot use; its own exceptions share no base class."""
_TIME = re.compile(rb"([0-9]{14})(\.[0-9]*[1-9])?Z")


class TimeStampError(IntegrityError):
    """A time stamp that does not hold."""

    def __init__(self, got: str, expected: str = "a time stamp that holds") -> None:
        super().__init__(f"got {got}, expected {expected}", hint="fetch the time stamp again")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStamp:
    """A verified time stamp.

    Args:
        digest: the SHA-256 (hex) that was stamped.
        time: UTC, as ``2026-01-31T12:00:00Z``.
        authority: the subject of the certificate that signed.
        fingerprint: SHA-256 (hex) of that certificate.
        trusted: whether a chain leads to one of the given authorities.
    """

    digest: str
    time: str
    authority: str
    fingerprint: str
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    content: bytes
    certificates: tuple[bytes, ...]
    signer: Node


def request(digest: str) -> bytes:
    """A ``TimeStampReq`` for a SHA-256 (hex) that asks for the certificate, to be posted to an authority."""
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(_SHA256), der.encode(der.NULL))
    imprint = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, bytes.fromhex(digest)))
    return der.encode(der.SEQUENCE, der.encode_integer(1), imprint, b"\x01\x01\xff")


def open_timestamp(data: bytes, authorities: Sequence[bytes] = ()) -> TimeStamp:
    """Verifies a ``TimeStampResp``, or the bare token.

    Args:
        data: DER.
        authorities: certificates (PEM) of authorities that the reader trusts: the signing one or one above it.

    Raises:
        TimeStampError, DerError: it does not hold.
    """
    if len(data) > MAX_TOKEN_BYTES:
        raise TimeStampError(f"a time stamp of {len(data)} bytes", f"at most {MAX_TOKEN_BYTES}")
    try:
        signed = _signed_data(_token(parse(data)))
        digest, moment = _content(signed.content)
        certificate = _signing_certificate(signed)
        _check_attributes(signed, certificate)
        _check_use(certificate, moment)
        trusted = _chain(certificate, signed.certificates, authorities, moment)
        return TimeStamp(
            digest=digest,
            time=moment.isoformat().replace("+00:00", "Z"),
            authority=certificate.subject.rfc4514_string(),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            trusted=trusted,
        )
    except _UNUSABLE as error:
        raise TimeStampError(f"a structure or a certificate that cannot be used ({type(error).__name__})") from None


def _token(whole: Node) -> Node:
    """The ContentInfo: of a response that granted one, or bare."""
    parts = whole.sequence(1)
    if parts[0].tag == der.OID:
        return whole
    status = parts[0].sequence(1)[0].integer()
    if status not in (0, 1) or len(parts) != 2:  # noqa: PLR2004 - status and token
        raise TimeStampError(f"a response of status {status}", "a granted time stamp")
    return parts[1]


def _signed_data(info: Node) -> _Signed:
    kind, wrapped = info.sequence(2)[:2]
    if kind.oid() != _SIGNED_DATA:
        raise TimeStampError("a token that is not signed")
    (signed,) = wrapped.expect(CONTEXT).children()
    parts = signed.sequence(4)
    content_type, content = parts[2].sequence(2)[:2]
    if content_type.oid() != _TST_INFO:
        raise TimeStampError("a signed message that is no time stamp")
    (octets,) = content.expect(CONTEXT).children()
    held = find(parts[3:], CONTEXT)
    signers = parts[-1].expect(der.SET).children()
    if held is None or len(signers) != 1:
        raise TimeStampError(f"a token with {len(signers)} signers", "one, with its certificate")
    return _Signed(
        content=octets.expect(der.OCTET_STRING).body,
        certificates=tuple(each.raw for each in held.children() if each.tag == der.SEQUENCE),
        signer=signers[0],
    )


def _content(data: bytes) -> tuple[str, datetime]:
    """The SHA-256 and the time of a TSTInfo."""
    version, _policy, imprint, _serial, moment = parse(data).sequence(5)[:5]
    algorithm, message = imprint.sequence(2)
    if version.integer() != 1 or algorithm.sequence(1)[0].oid() != _SHA256:
        raise TimeStampError("a time stamp over another hash", "SHA-256")
    found = _TIME.fullmatch(moment.expect(der.GENERALIZED_TIME).body)
    if found is None or len(message.expect(der.OCTET_STRING).body) != hashlib.sha256().digest_size:
        raise TimeStampError("a time stamp whose time or digest is in another form")
    try:
        time = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise TimeStampError("a time stamp of no date") from None
    return message.body.hex(), time


def _signing_certificate(signed: _Signed) -> x509.Certificate:
    """The certificate that the signer info names, by issuer and serial or by key identifier."""
    sid = signed.signer.sequence(5)[1]
    for raw in signed.certificates:
        certificate = x509.load_der_x509_certificate(raw)
        if sid.tag == der.SEQUENCE:
            issuer, serial = sid.sequence(2)
            if certificate.issuer.public_bytes() == issuer.raw and certificate.serial_number == serial.integer():
                return certificate
        else:
            known = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
            if known == sid.expect(0x80).body:
                return certificate
    raise TimeStampError("a token without the certificate of its signer")


def _check_attributes(signed: _Signed, certificate: x509.Certificate) -> None:
    parts = signed.signer.sequence(6)
    algorithm, attributes = parts[2].sequence(1)[0].oid(), parts[3].expect(CONTEXT)
    if algorithm not in _HASHES:
        raise TimeStampError("a signature over another digest", "SHA-256, SHA-384 or SHA-512")
    values: dict[str, Node] = {}
    for each in attributes.children():
        kind, held = each.sequence(2)
        if kind.oid() in values:
            raise TimeStampError("a signed attribute twice")
        (values[kind.oid()],) = held.expect(der.SET).children()[:1]
    if not {_CONTENT_TYPE, _MESSAGE_DIGEST} <= values.keys() or values[_CONTENT_TYPE].oid() != _TST_INFO:
        raise TimeStampError("signed attributes of another message")
    digest = hashes.Hash(_HASHES[algorithm])
    digest.update(signed.content)
    if not hmac.compare_digest(digest.finalize(), values[_MESSAGE_DIGEST].expect(der.OCTET_STRING).body):
        raise TimeStampError("a time stamp whose content is not what was signed")
    if not _binds(values, certificate):
        raise TimeStampError("a signature that names another certificate")
    # what is signed is the SET, though it stands there under an implicit tag
    message = bytes([der.SET]) + attributes.raw[1:]
    _verify(certificate, parts[4].sequence(1)[0].oid(), _HASHES[algorithm], parts[5].expect(4).body, message)


def _binds(values: dict[str, Node], certificate: x509.Certificate) -> bool:
    """Whether the signed attributes name this certificate (ESS certificate ids, first entry)."""
    raw = certificate.public_bytes(Encoding.DER)
    if (held := values.get(_SIGNING_CERTIFICATE_V2)) is not None:
        entry = held.sequence(1)[0].sequence(1)[0].sequence(1)
        named = entry[0].sequence(1)[0].oid() if entry[0].tag == der.SEQUENCE else _SHA256
        digest = hashes.Hash(_HASHES.get(named, hashes.SHA256()))
        digest.update(raw)
        stated = entry[1] if entry[0].tag == der.SEQUENCE else entry[0]
        return stated.expect(der.OCTET_STRING).body == digest.finalize()
    if (held := values.get(_SIGNING_CERTIFICATE)) is not None:
        entry = held.sequence(1)[0].sequence(1)[0].sequence(1)
        return entry[0].expect(der.OCTET_STRING).body == hashlib.sha1(raw, usedforsecurity=False).digest()
    return False


def _verify(
    certificate: x509.Certificate, algorithm: str, digest: hashes.HashAlgorithm, signature: bytes, message: bytes
) -> None:
    key, chosen = certificate.public_key(), _SIGNATURES.get(algorithm, digest)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), chosen)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(chosen))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            raise TimeStampError("a key of another kind", "RSA, ECDSA or Ed25519")
    except InvalidSignature:
        raise TimeStampError("a time stamp whose signature does not fit") from None


def _check_use(certificate: x509.Certificate, moment: datetime) -> None:
    usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    if not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:  # type: ignore[call-overload]
        raise TimeStampError("a certificate that is for other uses too", "one for time stamping alone")
    _check_valid(certificate, moment)


def _check_valid(certificate: x509.Certificate, moment: datetime) -> None:
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise TimeStampError("a certificate that was not valid at the stated time")


def _chain(
    certificate: x509.Certificate, held: Sequence[bytes], authorities: Sequence[bytes], moment: datetime
) -> bool:
    """Whether issuers lead from the signing certificate to one of the authorities."""
    trusted = [x509.load_pem_x509_certificate(each) for each in authorities]
    pool = [*trusted, *(x509.load_der_x509_certificate(raw) for raw in held)]
    current = certificate
    for _ in range(_LONGEST_CHAIN if trusted else 0):
        if current in trusted:
            return True
        above = next((each for each in pool if _issued(current, each) and each != current), None)
        if above is None:
            return False
        _check_valid(above, moment)
        current = above
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return True
