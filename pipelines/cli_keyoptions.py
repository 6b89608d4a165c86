"""What the commands ``keys …`` share: options, and how they become passphrases, scopes and dates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countermark.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from pipelines.keycommands import Place
    from pipelines.passphrase import PassphraseSource
    from watermarks.keyring import KeyScope

RingArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Key ring file.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="Key of the ring.")]
FileOption = Annotated[Path | None, typer.Option("--passphrase-file", help="0600 file with the passphrase.")]
FdOption = Annotated[int | None, typer.Option("--passphrase-fd", metavar="N", help="File descriptor to read it from.")]
KeyringOption = Annotated[
    str | None, typer.Option("--passphrase-keyring", metavar="NAME", help="Entry of the operating system's keyring.")
]
CopyFileOption = Annotated[Path | None, typer.Option("--copy-passphrase-file", help="The same for the copy.")]
CopyFdOption = Annotated[int | None, typer.Option("--copy-passphrase-fd", metavar="N", help="The same for the copy.")]
LedgerOption = Annotated[
    str | None, typer.Option("--ledger", metavar="WHERE", help="Ledger that takes the key events: a file or a URL.")
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="DATE", help="End of service: 2027-01-31 or 2027-01-31T12:00:00Z.")
]
PurposeOption = Annotated[str, typer.Option("--purpose", help="A word or two for people.")]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option("--scope", metavar="KIND=NAME", help="model, deployment, dataset or recipient (repeatable)."),
]


def passphrase_source(
    file: Path | None, fd: int | None, keyring: str | None = None, *, option: str = "--passphrase"
) -> PassphraseSource:
    """Where the options say the passphrase is; without any, a prompt."""
    from pipelines.passphrase import PassphraseSource

    return PassphraseSource(file=file, fd=fd, keyring=keyring, option=option)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseOptions:
    """Where the passphrase of a ring is."""

    passphrase_file: FileOption = None
    passphrase_fd: FdOption = None
    passphrase_keyring: KeyringOption = None

    def read(self) -> bytes:
        """The passphrase of a ring that exists."""
        return self._source().read()

    def place(self, ring: Path, *, new: bool = False, ledger: str | None = None) -> Place:
        """The key file and its passphrase, read now; a missing file is said before anyone is asked for one."""
        from pipelines.keycommands import Place
        from watermarks.keystore import no_key_file

        source = self._source()
        if not new and not ring.exists():
            raise no_key_file(ring)
        return Place(path=ring, passphrase=source.read(new=new), ledger=ledger)

    def _source(self) -> PassphraseSource:
        return passphrase_source(self.passphrase_file, self.passphrase_fd, self.passphrase_keyring)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """Where the passphrase of a ring's sealed copy is."""

    copy_passphrase_file: CopyFileOption = None
    copy_passphrase_fd: CopyFdOption = None

    def source(self) -> PassphraseSource:
        """To be read, or to be chosen."""
        return passphrase_source(self.copy_passphrase_file, self.copy_passphrase_fd, option="--copy-passphrase")


def key_scope(pairs: list[str] | None) -> KeyScope:
    """``--scope KIND=NAME`` as a scope.

    Raises:
        UsageError: another form, an unknown kind, or one kind twice.
    """
    from dataclasses import fields

    from watermarks.keyring import KeyScope

    known = [field.name for field in fields(KeyScope)]
    found: dict[str, str] = {}
    for pair in pairs or []:
        kind, equals, name = pair.partition("=")
        if not equals or kind not in known or kind in found:
            raise UsageError(f"got --scope {pair!r}, expected KIND=NAME, each KIND once, of: {', '.join(known)}")
        found[kind] = name
    return KeyScope(**found)


def moment(text: str | None) -> datetime | None:
    """A date, meaning its first second in UTC, or a moment with its zone.

    Raises:
        UsageError: another form.
    """
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"got date {text!r}, expected one like 2027-01-31 or 2027-01-31T12:00:00Z") from None
    whole_day = "T" not in text and " " not in text
    return found.replace(tzinfo=UTC) if whole_day else found
