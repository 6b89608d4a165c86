"""Where a passphrase comes from: a private file, a file descriptor, the operating system's keyring, or a prompt.

Never an argument and never the environment: both are shown to other processes, and both end in logs.
"""

from __future__ import annotations

import getpass
import importlib
import os
import secrets
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import KeyFileError, MissingAssetError, UsageError
from countermark.files import PRIVATE_DIR_MODE, PRIVATE_FILE_MODE, atomic_write, fsync_dir, make_dir, storage_errors
from watermarks.keystore import MAX_SECRET_BYTES, read_secret_file

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "countermark"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseSource:
    """At most one place to read from; none is a prompt at the terminal.

    Args:
        file: a file of mode 0600; one trailing newline is dropped.
        fd: an open file descriptor of this process, read to its end; one trailing newline is dropped.
        keyring: an entry of the operating system's keyring, under the service ``countermark``.
        option: what the options are called, for messages.
    """

    file: Path | None = None
    fd: int | None = None
    keyring: str | None = None
    option: str = "--passphrase"

    def __post_init__(self) -> None:
        named = [name for name in ("file", "fd", "keyring") if getattr(self, name) is not None]
        if len(named) > 1:
            got = " and ".join(f"{self.option}-{name}" for name in named)
            raise UsageError(f"got {got}, expected at most one of them")

    def read(self, *, new: bool = False) -> bytes:
        """The passphrase; a ``new`` one is asked for twice at a prompt.

        Raises:
            KeyFileError: the place holds none, or others may read it.
            MissingAssetError: no package ``keyring``.
            UsageError: a prompt without a terminal, or two answers that differ.
        """
        if self.file is not None:
            return read_secret_file(self.file)
        if self.fd is not None:
            return _read_descriptor(self.fd, f"{self.option}-fd")
        if self.keyring is not None:
            return _read_keyring(self.keyring)
        return _prompt(self.option, twice=new)


def make_passphrase_file(path: Path) -> None:
    """A file with a random passphrase, where there is none; of two processes that make it at once, one does."""
    if path.exists():
        return
    make_dir(path.parent, mode=PRIVATE_DIR_MODE)
    with storage_errors(path):
        drawn = path.with_name(f".partial-{path.name}-{secrets.token_hex(8)}")
        atomic_write(drawn, secrets.token_hex(24).encode() + b"\n", mode=PRIVATE_FILE_MODE)
        try:
            os.link(drawn, path)  # unlike a rename, a link never replaces: the other's passphrase may be in use already
        except FileExistsError:
            drawn.unlink()
        except OSError:  # a file system without links: nothing better than a rename is to be had
            drawn.rename(path)
        else:
            drawn.unlink()
        fsync_dir(path.parent)


def remember(entry: str, passphrase: bytes) -> None:
    """Puts a passphrase into the operating system's keyring.

    Raises:
        MissingAssetError: no package ``keyring``. KeyFileError: no keyring that works, or no text.
    """
    try:
        text = passphrase.decode()
    except UnicodeDecodeError:
        raise KeyFileError("got a passphrase that is not UTF-8, expected text: a keyring holds nothing else") from None
    _call("set_password", entry, text)


def forget(entry: str) -> None:
    """Takes it out again.

    Raises:
        MissingAssetError: no package ``keyring``. KeyFileError: no such entry.
    """
    _call("delete_password", entry)


def _read_descriptor(descriptor: int, option: str) -> bytes:
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(MAX_SECRET_BYTES + 1).removesuffix(b"\n")
    except (OSError, ValueError):  # a negative number is a ValueError
        raise UsageError(
            f"got {option} {descriptor}, which cannot be read, expected an open descriptor",
            hint="for example: countermark keys show FILE --passphrase-fd 3 3< passphrase",
        ) from None
    if not data or len(data) > MAX_SECRET_BYTES:
        raise KeyFileError(f"got {'a huge' if data else 'no'} passphrase from {option} {descriptor}, expected one")
    return data


def _read_keyring(entry: str) -> bytes:
    found = _call("get_password", entry)
    if not found:
        raise KeyFileError(
            f"got no passphrase under {entry!r} in the keyring's service {SERVICE!r}, expected one",
            hint="put it there with `countermark keys remember`",
        )
    return str(found).encode()


def _call(name: str, entry: str, *arguments: str) -> Any:  # noqa: ANN401 - a library without a base type
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise MissingAssetError(
            "got no package 'keyring', expected it: it talks to the operating system's keyring",
            hint="pip install 'countermark[keyring]', or name a passphrase file or descriptor",
        ) from None
    try:
        return getattr(keyring, name)(SERVICE, entry, *arguments)
    except Exception as error:  # noqa: BLE001 - every back-end of it has errors of its own, and none is ours
        kind = type(error).__name__  # not its message, which may quote the arguments
        raise KeyFileError(
            f"got {kind} from the operating system's keyring for {entry!r}, expected an answer",
            hint="unlock the keyring, or name a passphrase file or descriptor",
        ) from None


def _prompt(option: str, *, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError(
            "got no passphrase and no terminal to ask at, expected one of them",
            hint=f"name {option}-file, {option}-fd or {option}-keyring",
        )
    what = "New passphrase: " if twice else "Passphrase: "
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # it would echo what is typed
        try:
            typed = getpass.getpass(what)
            if twice and getpass.getpass("The same again: ") != typed:
                raise UsageError("got two passphrases that differ, expected the same twice")
        except (getpass.GetPassWarning, EOFError):
            raise UsageError("got a terminal that does not hide what is typed, expected one that does") from None
    if not typed:
        raise KeyFileError("got an empty passphrase, expected one")
    return typed.encode("utf-8", "surrogateescape")
