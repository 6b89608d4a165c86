"""Stage ``keys``: makes or opens the key ring, and commits to the key *before* anything is marked."""

from __future__ import annotations

from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import atomic_write
from countermark.manifest import canonical_json
from pipelines.passphrase import make_passphrase_file
from pipelines.stage import COMMITMENT_FILE
from watermarks.keyfile import KeyFile
from watermarks.keylife import commit, new_ring
from watermarks.keys import DERIVATION_VERSION
from watermarks.keystore import load_ring, read_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.stage import Context
    from watermarks.keyfile import Record
    from watermarks.keyring import Standing


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides this stage's output, besides the ring itself."""
    value = config.keys.public_value
    return {"key_id": config.keys.key_id, "public_value": value.model_dump() if value else None}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Writes ``commitment.json``: public, and without a byte of the key."""
    del inputs
    with _recorder(context.config.keys.ledger) as record:
        ensure_ring(context.ring_path(), context.passphrase_path(), record=record)
        commitment = make_commitment(context.key().key_id, context, context.config)
        list_commitment(commitment, context, record=record)
    atomic_write(out / COMMITMENT_FILE, canonical_json(commitment))
    return {"key_id": commitment["key_id"], "commitment": commitment["sha256"]}


@contextmanager
def _recorder(ledger: str | None) -> Iterator[Record | None]:
    """What tells the configured ledger of key events; None without one."""
    if ledger is None:
        yield None
        return
    from pipelines.ledgering import key_recorder, open_ledger

    with closing(open_ledger(ledger)) as opened:
        yield key_recorder(opened)


def ensure_ring(ring: Path, passphrase: Path, *, now: datetime | None = None, record: Record | None = None) -> bool:
    """Makes passphrase file and key ring where there are none; True if a ring was made.

    The passphrase comes first: a crash between the two leaves a passphrase without a ring, and the next call goes on.
    """
    if ring.exists():
        return False
    make_passphrase_file(passphrase)
    try:
        KeyFile(ring).create(new_ring(now=now or datetime.now(UTC)), read_secret_file(passphrase), record=record)
    except UsageError:
        if not ring.exists():
            raise
        return False  # another process was quicker, with the same passphrase file
    return True


def make_commitment(key_id: str, context: Context, config: RunConfig) -> dict[str, Any]:
    """The commitment to a key and a marking config, with the public value B where there is one.

    Raises:
        UsageError: B was drawn for another commitment than this one.
    """
    config_digest = config.marking_digest()
    sha256 = context.key(key_id).commit(config_digest)
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


def commitments_paid(context: Context) -> int:
    """How many commitments a verdict pays for: what the config owns to, and no fewer than the ring lists.

    An owner could commit to many keys or configs for one release and open the one that fits: the ring lists all that
    were made under the release's name, by any of its keys.
    """
    ring = load_ring(context.ring_path(), read_secret_file(context.passphrase_path()))
    listed = sum(made["what"] == context.config.name for made in ring.commitments())
    return int(max(context.config.keys.commitments_made, listed))


def standing(context: Context, *, now: datetime | None = None) -> Standing:
    """Where the key of a run or release stands today, for what is said of evidence under it."""
    ring = load_ring(context.ring_path(), read_secret_file(context.passphrase_path()))
    return ring.entry(context.key().key_id).standing(now or datetime.now(UTC))


def standing_line(found: Standing) -> str:
    """The standing as people read it; a key that nobody should mark with any more is never passed over."""
    return f"evidence under key {found.key_id}, which is {found}"


def list_commitment(
    commitment: Mapping[str, Any], context: Context, *, now: datetime | None = None, record: Record | None = None
) -> None:
    """Lists a commitment in the key ring, before anyone sees it; one that is listed needs no write.

    Raises:
        StorageError: the ring cannot be written, and the commitment is not in it.
    """
    file, passphrase = KeyFile(context.ring_path()), read_secret_file(context.passphrase_path())
    key_id, digest, at = commitment["key_id"], commitment["config_digest"], now or datetime.now(UTC)
    what = context.config.name
    if commit(file.read(passphrase), key_id, digest, now=at, what=what)[1] is not None:
        file.change(passphrase, lambda ring: commit(ring, key_id, digest, now=at, what=what), record=record)
