"""Stage ``keys``: makes or opens the key ring, and commits to the key *before* anything is marked."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, make_dir
from countermark.manifest import canonical_json
from watermarks.keys import DERIVATION_VERSION, new_ring
from watermarks.keystore import read_secret_file, save_ring

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.stage import Context


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides this stage's output, besides the ring itself."""
    value = config.keys.public_value
    return {"key_id": config.keys.key_id, "public_value": value.model_dump() if value else None}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Writes ``commitment.json``: public, and without a byte of the key."""
    del inputs
    ensure_ring(context.ring_path(), context.passphrase_path())
    config = context.config
    commitment = make_commitment(context.key().key_id, context, config)
    atomic_write(out / "commitment.json", canonical_json(commitment))
    return {"key_id": commitment["key_id"], "commitment": commitment["sha256"]}


def ensure_ring(ring: Path, passphrase: Path) -> bool:
    """Makes passphrase file and key ring where there are none; True if a ring was made.

    The passphrase comes first: a crash between the two leaves a passphrase without a ring, and the next call goes on.
    """
    if ring.exists():
        return False
    if not passphrase.exists():
        make_dir(passphrase.parent, mode=PRIVATE_DIR_MODE)
        atomic_write(passphrase, secrets.token_hex(24).encode() + b"\n", mode=PRIVATE_FILE_MODE)
    save_ring(ring, new_ring(), read_secret_file(passphrase))
    return True


def make_commitment(key_id: str, context: Context, config: RunConfig) -> dict[str, Any]:
    """The commitment to a key and a marking config, with the public value B where there is one.

    Raises:
        UsageError: B was drawn for another commitment than this one.
    """
    config_digest = config.marking_digest()
    sha256 = context.key().commit(config_digest)
    value = config.keys.public_value
    if value and value.commitment != sha256:
        raise UsageError(
            f"got a public value for commitment {value.commitment[:16]}…, expected one for {sha256[:16]}…",
            hint="run `countermark keys commit`, publish it, then take a public value that came later",
        )
    return {
        "sha256": sha256,
        "key_id": key_id,
        "config_digest": config_digest,
        "derivation": DERIVATION_VERSION,
        "public_value": value.model_dump() if value else None,
    }
