"""Several key files at once: a key id leads to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countermark.errors import UsageError

if TYPE_CHECKING:
    from watermarks.keyring import KeyEntry, KeyRing
    from watermarks.keys import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Keychain:
    """Several rings at once, named by their files; a key id leads to one of them.

    Raises:
        UsageError: an id is in two of them: which of the two was meant would be a guess.
    """

    rings: tuple[tuple[str, KeyRing], ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for name, ring in self.rings:
            for entry in ring.entries:
                if entry.key_id in seen:
                    raise UsageError(
                        f"got key {entry.key_id} in {seen[entry.key_id]} and in {name}, expected it in one of them",
                        hint="one is a copy of the other: name one of the two",
                    )
                seen[entry.key_id] = name

    def find(self, key_id: str) -> tuple[str, KeyRing]:
        """Name and ring of the file that holds ``key_id``.

        Raises:
            UsageError: none does.
        """
        for name, ring in self.rings:
            if any(entry.key_id == key_id for entry in ring.entries):
                return name, ring
        names = ", ".join(name for name, _ in self.rings)
        raise UsageError(f"got key id {key_id!r}, expected one of a key in: {names or 'no file'}")

    def get(self, key_id: str, *, marking: bool = False) -> Key:
        """The key ``key_id`` of whichever ring holds it, as :meth:`KeyRing.get`."""
        return self.find(key_id)[1].get(key_id, marking=marking)

    def usable(self) -> list[tuple[Key, KeyEntry]]:
        """Every key of every ring under which evidence can be verified here."""
        return [pair for _, ring in self.rings for pair in ring.usable()]
