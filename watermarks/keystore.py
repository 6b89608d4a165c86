"""The sealed key file: a JSON header in the clear, the ring inside AES-256-GCM under an argon2id passphrase key.

0600 from birth inside a folder of its own, replaced atomically, refused when others may read it. A wrong passphrase and
a damaged file are different errors: the header carries a keyed check value, so that the two can be told apart.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import stat
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from countermark.errors import CorruptKeyFileError, KeyFileError, UnsafePermissionsError, WrongPassphraseError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, make_dir
from countermark.manifest import canonical_json
from watermarks.keys import Key, KeyRing, KeyState

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "countermark-keyring/1"
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_MEMORY_KIB = 1024 * 1024  # a hostile header must not make us allocate more
MAX_ITERATIONS = 16
_KDF = {"name": "argon2id", "iterations": 3, "lanes": 4, "memory_kib": 65536}


def save_ring(path: Path, ring: KeyRing, passphrase: bytes) -> None:
    """Seals ``ring`` into ``path``: old file or new after a crash, never neither."""
    make_dir(path.parent, mode=PRIVATE_DIR_MODE)
    header: dict[str, Any] = {"format": FORMAT, "kdf": {**_KDF, "salt": secrets.token_hex(16)}, "aead": "aes-256-gcm"}
    sealing, check = _passphrase_keys(passphrase, header["kdf"])
    header["check"] = check.hex()
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(sealing).encrypt(nonce, canonical_json(_ring_to_json(ring)), canonical_json(header))
    body = {**header, "nonce": nonce.hex(), "sealed": base64.b64encode(sealed).decode()}
    atomic_write(path, canonical_json(body) + b"\n", mode=PRIVATE_FILE_MODE)


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
            hint="check keys.passphrase_file; if the passphrase is surely right, the file's header was damaged",
        )
    try:
        return _ring_from_json(json.loads(opened))
    except (KeyError, ValueError, TypeError):
        raise _corrupt(path, "a ring of unknown shape") from None


def read_secret_file(path: Path) -> bytes:
    """A passphrase from a file that only its owner may read; one trailing newline is dropped.

    Raises:
        KeyFileError: missing or empty. UnsafePermissionsError: others may read it.
    """
    try:
        _require_private(path)
        data = path.read_bytes().removesuffix(b"\n")
    except (FileNotFoundError, IsADirectoryError):
        raise KeyFileError(
            f"got no passphrase file {path}, expected one", hint="name it with keys.passphrase_file, mode 0600"
        ) from None
    if not data:
        raise KeyFileError(f"got an empty passphrase file {path}, expected a passphrase")
    return data


def _read_body(path: Path) -> dict[str, Any]:
    try:
        _require_private(path)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _corrupt(path, f"{path.stat().st_size} bytes")
        body = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise KeyFileError(
            f"got no key file {path}, expected one", hint="make one with `countermark keys new`"
        ) from None
    except (ValueError, RecursionError):
        raise _corrupt(path, "bytes that are not JSON") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT or body.get("aead") != "aes-256-gcm":
        raise _corrupt(path, "another format")
    return body


def _require_private(path: Path) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - follows the link on purpose: the target counts
    if mode & 0o077:
        raise UnsafePermissionsError(
            f"got {path} with mode {mode:04o}, expected 0600: others than its owner may use it",
            hint=f"chmod 600 {path}, and change the passphrase if others could have read it",
        )


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


def _ring_to_json(ring: KeyRing) -> dict[str, Any]:
    entries = [
        {"id": k.key_id, "secret": k.secret.hex(), "nonce": k.nonce.hex(), "state": str(state)}
        for k, state in zip(ring.keys, ring.states, strict=True)
    ]
    return {"keys": entries, "primary": ring.primary}


def _ring_from_json(body: dict[str, Any]) -> KeyRing:
    keys = tuple(
        Key(key_id=e["id"], secret=bytes.fromhex(e["secret"]), nonce=bytes.fromhex(e["nonce"])) for e in body["keys"]
    )
    return KeyRing(keys=keys, states=tuple(KeyState(e["state"]) for e in body["keys"]), primary=body["primary"])


def _corrupt(path: Path, got: str) -> CorruptKeyFileError:
    return CorruptKeyFileError(
        f"{path} is not a whole key file: got {got}, expected {FORMAT}", hint="restore the key file from a backup"
    )
