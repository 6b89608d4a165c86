"""The owner's sealed records: what an audit needs of the marking, never the key, readable only with the key.

The sealing key is derived from the content's own digest, so each key seals one plaintext: a fixed nonce is safe, and
the same record has the same bytes on every run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from countermark.errors import IntegrityError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, make_dir, sha256_bytes
from countermark.manifest import canonical_json

if TYPE_CHECKING:
    from pathlib import Path

    from watermarks.keys import Key

_NONCE = bytes(12)
_DIGEST_BYTES = 32


def seal_record(key: Key, owner: Path, name: str, record: dict[str, Any]) -> str:
    """Writes ``owner/records/<name>.sealed`` and returns the file's SHA-256."""
    plain = canonical_json(record)
    digest = bytes.fromhex(sha256_bytes(plain))
    sealed = digest + AESGCM(_record_key(key, digest)).encrypt(_NONCE, plain, digest)
    folder = make_dir(owner / "records", mode=PRIVATE_DIR_MODE)
    atomic_write(folder / f"{name}.sealed", sealed, mode=PRIVATE_FILE_MODE)
    return sha256_bytes(sealed)


def open_record(key: Key, owner: Path, name: str, expected_sha256: str) -> dict[str, Any]:
    """The record that :func:`seal_record` wrote.

    Raises:
        IntegrityError: missing, another file than the manifest names, or sealed with another key.
    """
    path = owner / "records" / f"{name}.sealed"
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(
            f"got no sealed record {path}, expected one", hint="restore it, or start over with --fresh"
        ) from None
    if sha256_bytes(sealed) != expected_sha256:
        raise IntegrityError(
            f"{path} is damaged: got another SHA-256 than the mark's manifest names", hint="restore it from a copy"
        )
    digest = sealed[:_DIGEST_BYTES]
    try:
        plain = AESGCM(_record_key(key, digest)).decrypt(_NONCE, sealed[_DIGEST_BYTES:], digest)
    except InvalidTag:
        raise IntegrityError(
            f"got key {key.key_id}, which does not open {path}", hint="use the key the release was marked with"
        ) from None
    record: dict[str, Any] = json.loads(plain)
    return record


def _record_key(key: Key, digest: bytes) -> bytes:
    return key.derive({"purpose": "record", "digest": digest.hex()})
