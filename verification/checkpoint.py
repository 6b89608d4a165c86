"""Signed notes and checkpoints as C2SP writes them: c2sp.org/signed-note and c2sp.org/tlog-checkpoint, with Ed25519.

A checkpoint is a text of three lines (origin, size, base64 root) signed by a key whose name is the origin. Tools of
others read and write the same files, keys included: a verifier key is ``NAME+HASH+BASE64``, a signing key
``PRIVATE+KEY+NAME+HASH+BASE64``. Signatures of unknown keys are ignored, so that witnesses and the next key of a log
can add theirs; a known key's signature that does not verify spoils the note.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from countermark.errors import CorruptKeyFileError, UsageError
from verification.faults import Fault, LedgerError
from verification.merkle import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100  # the specification asks for at least 16
KEY_ID_BYTES = 4
SIGNATURE_BYTES = 64
_ED25519 = b"\x01"
_DASH = "— "
_PRIVATE = "PRIVATE+KEY+"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_PUBLIC_VALUE_DOMAIN = b"countermark/public-value/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """A public key with its name."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        _require_name(self.name)
        if len(self.public) != HASH_BYTES:
            raise UsageError(f"got a public key of {len(self.public)} bytes, expected {HASH_BYTES}")

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart; no strong hash."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:KEY_ID_BYTES]

    def encode(self) -> str:
        """``NAME+HASH+BASE64``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def decode(cls, text: str) -> Verifier:
        """Reads :meth:`encode`'s form.

        Raises:
            UsageError: it is none, or its hash is not its own.
        """
        parts = text.split("+", 2)  # base64 may hold a plus
        body = _base64(parts[-1])
        if len(parts) == 3 and body is not None and body[:1] == _ED25519 and len(body) == 1 + HASH_BYTES:  # noqa: PLR2004
            found = cls(name=parts[0], public=body[1:])
            if found.encode() == text:
                return found
        raise UsageError("got a text that is no verifier key, expected NAME+HASH+BASE64", hint="see the .pub file")

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``text``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A signing key with its name; the seed is in no ``repr``."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def new(cls, name: str) -> Signer:
        """A fresh key from the operating system's generator."""
        _require_name(name)
        return cls(name=name, seed=Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return Verifier(name=self.name, public=public)

    def encode(self) -> str:
        """``PRIVATE+KEY+NAME+HASH+BASE64``: a secret."""
        body = base64.b64encode(_ED25519 + self.seed).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{body}"

    @classmethod
    def decode(cls, text: str) -> Signer:
        """Reads :meth:`encode`'s form.

        Raises:
            CorruptKeyFileError: it is none, or its hash is not its own.
        """
        parts = text.removeprefix(_PRIVATE).split("+", 2)
        body = _base64(parts[-1])
        if text.startswith(_PRIVATE) and body is not None and body[:1] == _ED25519 and len(body) == 1 + HASH_BYTES:
            found = cls(name=parts[0], seed=body[1:])
            if found.name and found.encode() == text:
                return found
        raise CorruptKeyFileError(
            "got a text that is no signing key, expected PRIVATE+KEY+NAME+HASH+BASE64",
            hint="restore the key file from a copy",
        )

    def sign(self, text: str) -> str:
        """The signature line over ``text``."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return signature_line(Signature(name=self.name, key_id=self.verifier.key_id, value=signature))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature line, whoever made it."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and its signatures. What :func:`open_note` returns holds the verified ones alone."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note as a file."""
        return (self.text + "\n" + "".join(map(signature_line, self.signatures))).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head: the log ``origin`` has ``size`` entries and this ``root``."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Reads the text of a note.

        Raises:
            LedgerError: ``malformed_note``.
        """
        lines = text.split("\n")[:-1]
        if len(lines) < 3 or not all(lines) or not _SIZE.fullmatch(lines[1]):  # noqa: PLR2004
            raise _malformed("a text that is no checkpoint", "lines with origin, size and base64 root")
        root = _base64(lines[2])
        if root is None or len(root) != HASH_BYTES:
            raise _malformed("a root that is not 32 bytes of base64", "one that is")
        return cls(origin=lines[0], size=int(lines[1]), root=root, extensions=tuple(lines[3:]))


def signature_line(signature: Signature) -> str:
    """One line below a note's text."""
    return f"{_DASH}{signature.name} {base64.b64encode(signature.key_id + signature.value).decode()}\n"


def sign_note(text: str, *signers: Signer) -> bytes:
    """The note over ``text`` with a signature of each signer."""
    return parse_note((text + "\n" + "".join(signer.sign(text) for signer in signers)).encode()).encode()


def parse_note(data: bytes) -> Note:
    """A note with all its signatures, none of them verified.

    Raises:
        LedgerError: ``malformed_note``: not UTF-8, control characters, no signature, too many, a line of another form.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise _malformed(f"{len(data)} bytes", f"at most {MAX_NOTE_BYTES}")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise _malformed("bytes that are no UTF-8", "text") from None
    text, blank, below = whole.rpartition("\n\n")
    if any(c < " " and c != "\n" for c in whole) or not blank or not below.endswith("\n"):
        raise _malformed("a text without signatures", "a text, an empty line and signature lines")
    lines = below.split("\n")[:-1]
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"{len(lines)} signatures", f"at most {MAX_SIGNATURES}")
    return Note(text=text + "\n", signatures=tuple(_signature(line) for line in lines))


def open_note(data: bytes, verifiers: Sequence[Verifier]) -> Note:
    """The note, with the signatures of known keys alone, each verified and named once.

    Raises:
        LedgerError: ``malformed_note``; ``bad_signature``: a known key's signature does not verify;
            ``unknown_signer``: none of the signatures is a known key's.
    """
    note = parse_note(data)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    verified: dict[tuple[str, bytes], Signature] = {}
    for signature in note.signatures:
        by = (signature.name, signature.key_id)
        if by not in known or by in verified:
            continue
        if not known[by].verifies(note.text.encode(), signature.value):
            raise LedgerError(
                Fault.BAD_SIGNATURE,
                f"got a signature of {signature.name}+{signature.key_id.hex()} that does not fit the text, "
                "expected one that does",
            )
        verified[by] = signature
    if not verified:
        names = ", ".join(f"{v.name}+{v.key_id.hex()}" for v in verifiers) or "a known key"
        raise LedgerError(Fault.UNKNOWN_SIGNER, f"got a note without a signature of {names}, expected one")
    return Note(text=note.text, signatures=tuple(verified.values()))


def open_checkpoint(data: bytes, *verifiers: Verifier) -> Checkpoint:
    """The checkpoint that one of a log's keys signed.

    Raises:
        LedgerError: as :func:`open_note`; ``wrong_origin``: signed by the log's key, for another log.
    """
    checkpoint = Checkpoint.parse(open_note(data, verifiers).text)
    names = sorted({verifier.name for verifier in verifiers})
    if checkpoint.origin not in names:
        raise LedgerError(
            Fault.WRONG_ORIGIN, f"got a checkpoint of {checkpoint.origin!r}, expected one of {', '.join(names)}"
        )
    return checkpoint


def public_value(data: bytes, verifier: Verifier) -> str:
    """The value B that a checkpoint gives: hex SHA-256 over its text and ``verifier``'s signature, with their lengths.

    B is worth what the signer is independent of the owner who commits: who signs can try many heads (docs/ledger.md).

    Raises:
        LedgerError: as :func:`open_note`; or the text is no checkpoint.
    """
    note = open_note(data, [verifier])
    Checkpoint.parse(note.text)
    parts = (_PUBLIC_VALUE_DOMAIN, note.text.encode(), verifier.encode().encode(), note.signatures[0].value)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def _signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    value = _base64(encoded)
    if not line.startswith(_DASH) or not space or not _name_ok(name) or value is None or len(value) <= KEY_ID_BYTES:
        raise _malformed("a line that is no signature", "an em dash, a name and base64")
    return Signature(name=name, key_id=value[:KEY_ID_BYTES], value=value[KEY_ID_BYTES:])


def _base64(text: str) -> bytes | None:
    """Strict: one spelling for one value, or a flipped padding bit would pass."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return value if base64.b64encode(value).decode() == text else None


def _name_ok(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name)


def _require_name(name: str) -> None:
    if not _name_ok(name) or not name.isprintable():
        raise UsageError(
            f"got {name!r} as a log's name, expected a text without spaces and plus signs",
            hint="a URL without its scheme is best, for example example.com/ledger",
        )


def _malformed(got: str, expected: str) -> LedgerError:
    return LedgerError(Fault.MALFORMED_NOTE, f"got {got}, expected {expected}")
