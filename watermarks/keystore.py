"""The sealed key file: a JSON header in the clear, the ring inside AES-256-GCM under an argon2id passphrase key.

0600 from birth inside a folder of its own, replaced atomically, refused when others may read it. A wrong passphrase and
a damaged file are different errors: a checksum over the whole file is looked at before the passphrase is, and a keyed
check value tells a wrong passphrase from sealed bytes that somebody changed, checksum included.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import stat
from typing import TYPE_CHECKING, Any

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from countermark.errors import (
    CorruptKeyFileError,
    KeyFileError,
    StorageError,
    UnsafePermissionsError,
    WrongPassphraseError,
)
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, make_dir
from countermark.manifest import canonical_json, digest
from watermarks.keyjson import ring_from_json, ring_from_v1, ring_to_json

if TYPE_CHECKING:
    from pathlib import Path

    from watermarks.keyring import KeyRing

FORMAT = "countermark-keyring/2"
FORMAT_1 = "countermark-keyring/1"  # opened still; written as 2 at the next change
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024
MAX_MEMORY_KIB = 1024 * 1024  # a hostile header must not make us allocate more
MAX_ITERATIONS = 16
_KDF = {"name": "argon2id", "iterations": 3, "lanes": 4, "memory_kib": 65536}


def save_ring(path: Path, ring: KeyRing, passphrase: bytes) -> None:
    """Seals ``ring`` into ``path`` under a fresh salt: old file or new after a crash, never neither.

    Nothing is locked: to change a ring that others may change too, use :class:`watermarks.keyfile.KeyFile`.

    Raises:
        StorageError: full disk, unwritable folder, or a ring that would not be read again for its size.
    """
    header: dict[str, Any] = {"format": FORMAT, "kdf": {**_KDF, "salt": secrets.token_hex(16)}, "aead": "aes-256-gcm"}
    sealing, check = _passphrase_keys(passphrase, header["kdf"])
    header["check"] = check.hex()
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(sealing).encrypt(nonce, canonical_json(ring_to_json(ring)), canonical_json(header))
    body = {**header, "nonce": nonce.hex(), "sealed": base64.b64encode(sealed).decode()}
    data = canonical_json({**body, "sha256": digest(body)}) + b"\n"
    if len(data) > MAX_FILE_BYTES:
        raise StorageError(
            f"got a key ring of {len(data)} bytes for {path}, expected at most {MAX_FILE_BYTES}",
            hint="begin a new ring for new keys; recipients' keys are derived, not stored",
        )
    make_dir(path.parent, mode=PRIVATE_DIR_MODE)
    atomic_write(path, data, mode=PRIVATE_FILE_MODE)


def load_ring(path: Path, passphrase: bytes) -> KeyRing:
    """Opens the sealed ring.

    Raises:
        UnsafePermissionsError: group or others may read the file.
        CorruptKeyFileError: the file is damaged, or is no key file.
        WrongPassphraseError: the file is whole and the passphrase is another.
    """
    body = _read_body(path)
    try:
        header = {name: body[name] for name in ("format", "kdf", "aead", "check")}
        nonce, sealed = bytes.fromhex(body["nonce"]), base64.b64decode(body["sealed"], validate=True)
        sealing, check = _passphrase_keys(passphrase, header["kdf"])
        expected = bytes.fromhex(header["check"])
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _corrupt(path, f"a field that cannot be read ({type(error).__name__})") from None
    opened = _try_open(sealing, nonce, sealed, header)
    if opened is None:
        if hmac.compare_digest(check, expected):
            raise _corrupt(path, "sealed bytes that fail their authentication")
        raise WrongPassphraseError(
            f"got a passphrase that does not open {path}, expected the one it was sealed with",
            hint="check which passphrase file, descriptor or keyring entry was named",
        )
    try:
        return (ring_from_v1 if body["format"] == FORMAT_1 else ring_from_json)(json.loads(opened))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise _corrupt(path, "a ring of unknown shape") from None


def read_secret_file(path: Path) -> bytes:
    """A passphrase from a file that only its owner may read; one trailing newline is dropped.

    Raises:
        KeyFileError: missing, unreadable, empty or huge. UnsafePermissionsError: others may read it.
    """
    try:
        data = _read_private(path, MAX_SECRET_BYTES).removesuffix(b"\n")
    except (FileNotFoundError, IsADirectoryError):
        raise KeyFileError(
            f"got no passphrase file {path}, expected one", hint="name a file of mode 0600 that holds the passphrase"
        ) from None
    if not data or len(data) > MAX_SECRET_BYTES:
        size = "an empty" if not data else "a huge"
        raise KeyFileError(f"got {size} passphrase file {path}, expected a passphrase")
    return data


def no_key_file(path: Path) -> KeyFileError:
    """The error for a missing one."""
    return KeyFileError(f"got no key file {path}, expected one", hint="make one with `countermark keys new`")


def _read_body(path: Path) -> dict[str, Any]:
    try:
        data = _read_private(path, MAX_FILE_BYTES)
        if len(data) > MAX_FILE_BYTES:
            raise _corrupt(path, f"more than {MAX_FILE_BYTES} bytes")
        body = json.loads(data)
    except (FileNotFoundError, IsADirectoryError):
        raise no_key_file(path) from None
    except (ValueError, RecursionError):
        raise _corrupt(path, "bytes that are not JSON") from None
    known = isinstance(body, dict) and body.get("format") in {FORMAT, FORMAT_1}
    if not known or body.get("aead") != "aes-256-gcm":
        raise _corrupt(path, "another format")
    if body["format"] == FORMAT and not _is_whole(body, data):
        raise _corrupt(path, "bytes that do not match their SHA-256")
    return body  # type: ignore[no-any-return]


def _is_whole(body: dict[str, Any], data: bytes) -> bool:
    """Whether every byte is the one that was written: the only spelling of these fields, and their checksum."""
    try:
        named = {name: value for name, value in body.items() if name != "sha256"}
        return canonical_json(body) + b"\n" == data and body.get("sha256") == digest(named)
    except (rfc8785.CanonicalizationError, ValueError, RecursionError):
        return False


def _read_private(path: Path, limit: int) -> bytes:
    """Up to ``limit`` + 1 bytes. What is checked is what is read: the mode is that of the open file, links followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise KeyFileError(
            f"got {path}, which cannot be opened ({error.strerror}), expected a file of your own",
            hint="the file belongs to another user",
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise UnsafePermissionsError(
                f"got {path} with mode {mode:04o}, expected 0600: others than its owner may use it",
                hint=f"chmod 600 {path}, and change the passphrase if others could have read it",
            )
        return stream.read(limit + 1)


def _passphrase_keys(passphrase: bytes, kdf: dict[str, Any]) -> tuple[bytes, bytes]:
    if kdf["name"] != "argon2id":
        raise ValueError("unknown kdf")
    memory, iterations, lanes = int(kdf["memory_kib"]), int(kdf["iterations"]), int(kdf["lanes"])
    if not (8 * lanes <= memory <= MAX_MEMORY_KIB and 1 <= iterations <= MAX_ITERATIONS and 1 <= lanes <= 16):  # noqa: PLR2004
        raise ValueError("kdf cost out of bounds")
    salt = bytes.fromhex(kdf["salt"])
    root = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory).derive(passphrase)
    sealing, check = (HKDFExpand(SHA256(), n, info).derive(root) for n, info in ((32, b"seal"), (16, b"check")))
    return sealing, check


def _try_open(key: bytes, nonce: bytes, sealed: bytes, header: dict[str, Any]) -> bytes | None:
    try:
        return AESGCM(key).decrypt(nonce, sealed, canonical_json(header))
    except (InvalidTag, ValueError):
        return None


def _corrupt(path: Path, got: str) -> CorruptKeyFileError:
    return CorruptKeyFileError(
        f"{path} is not a whole key file: got {got}, expected {FORMAT}", hint="restore the key file from a backup"
    )
