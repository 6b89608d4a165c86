"""A stage: inputs, a config and a context in; one artifact out; callable alone under the same name as in a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from countermark.errors import IntegrityError
from countermark.manifest import digest, read_json
from watermarks.keystore import load_ring, read_secret_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.progress import Progress
    from watermarks.keyring import KeyEntry, KeyRing
    from watermarks.keys import Key


COMMITMENT_FILE = "commitment.json"
SPENT_FILE = "spent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a stage may use besides its inputs.

    Args:
        config: the whole, validated config.
        owner: the owner's private folder (keys, sealed records); never inside an artifact.
        work: this stage's journal folder: survives a kill, is removed when the stage completes.
        progress: opens progress bars.
    """

    config: RunConfig
    owner: Path
    work: Path
    progress: Progress

    def key(self, key_id: str | None = None, *, marking: bool = False) -> Key:
        """The owner's key, salted with the public value B where the config has one; ``marking`` needs an active one.

        A run's or release's own key is the one that it committed to, whatever became the primary since.
        """
        ring = self._ring()
        return self._salted(ring.get(key_id or self._own(ring), marking=marking))

    def usable_keys(self) -> list[Key]:
        """Every key of the ring that is not destroyed, salted likewise."""
        return [key for key, _ in self.keys_with_lives(all_keys=True)]

    def keys_with_lives(self, key_ids: Sequence[str] = (), *, all_keys: bool = False) -> list[tuple[Key, KeyEntry]]:
        """Keys to verify with, salted likewise, each with its life, so that a report can name the state.

        Those of ``key_ids``; or every key that is not destroyed; or, where nothing is asked, the config's or primary.
        """
        ring = self._ring()
        if all_keys:
            return [(self._salted(key), entry) for key, entry in ring.usable()]
        keys = [ring.get(key_id) for key_id in key_ids or (self._own(ring),)]
        return [(self._salted(key), ring.entry(key.key_id)) for key in keys]

    def _own(self, ring: KeyRing) -> str | None:
        """The key that the config names, or that the commitment made here is to; None for the ring's primary.

        Raises:
            IntegrityError: the ring has no such key.
        """
        made = self.owner.parent / "artifacts" / "keys" / COMMITMENT_FILE
        if self.config.keys.key_id or not made.exists():
            return self.config.keys.key_id
        committed = str(read_json(made)["key_id"])
        if committed not in {entry.key_id for entry in ring.entries}:
            raise IntegrityError(
                f"got key ring {self.ring_path()} without key {committed}, expected the one that was committed to",
                hint="name the key ring that this release was marked with: --keys FILE",
            )
        return committed

    def _ring(self) -> KeyRing:
        return load_ring(self.ring_path(), read_secret_file(self.passphrase_path()))

    def _salted(self, key: Key) -> Key:
        public = self.config.keys.public_value
        return key.with_salt(public.value.encode()) if public else key

    def ring_path(self) -> Path:
        """Where the sealed key ring is; relative paths count from the run folder."""
        return self.owner.parent / self.config.keys.ring

    def spent_path(self) -> Path:
        """What audits under keys of the ring have spent and opened: beside the ring, since releases share its keys."""
        return self.ring_path().parent / SPENT_FILE

    def passphrase_path(self) -> Path:
        """Where the passphrase is."""
        return self.owner.parent / self.config.keys.passphrase_file


class StageFunction(Protocol):
    """The work: fills ``out`` and returns extra manifest fields."""

    def __call__(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run.

    Args:
        name: its name in a run and on the command line.
        inputs: names of the stages whose artifacts it reads.
        run: the work.
        settings: the part of the config that decides its output (enters its manifest's config digest).
    """

    name: str
    inputs: tuple[str, ...]
    run: StageFunction
    settings: Callable[[RunConfig], Any]

    def fields(self, inputs: Mapping[str, Artifact], config: RunConfig) -> dict[str, Any]:
        """What identifies the work before it is done: same fields, same output."""
        return {
            "stage": self.name,
            "seed": config.seed,
            "config_digest": digest(self.settings(config)),
            "parents": {name: inputs[name].digest for name in self.inputs},
        }
