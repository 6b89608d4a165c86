"""Every error a user can meet, as one tree.

::

    CountermarkError                      70  internal: a bug in countermark
    ├── UsageError                         2  the command asked for something that cannot be
    │   ├── ConfigError                    2  a line of a config file (carries file, line and dotted key)
    │   ├── MissingAssetError              2  a model or data file is not installed
    │   ├── StorageError                   2  the disk is full, or a folder cannot be written
    │   ├── RunLockedError                 2  another process works in this run folder
    │   └── KeyFileError                   2  a key file that cannot be opened …
    │       ├── WrongPassphraseError       2  … with this passphrase
    │       └── UnsafePermissionsError     2  … because others may read it
    ├── IntegrityError                     3  bytes are not the ones that were written
    │   └── CorruptKeyFileError            3  a key file is not one, or was damaged
    ├── SuspectUnreachableError            4  a suspect does not answer
    └── InconclusiveError                  5  the evidence cannot decide

An error prints as two lines: ``error:`` what was got and what was expected, and ``hint:`` what to do about it.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_NOT_SUPPORTED = 1
EXIT_USAGE = 2
EXIT_INTEGRITY = 3
EXIT_UNREACHABLE = 4
EXIT_INCONCLUSIVE = 5
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130

__all__ = [
    "EXIT_INCONCLUSIVE",
    "EXIT_INTEGRITY",
    "EXIT_INTERNAL",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_SUPPORTED",
    "EXIT_OK",
    "EXIT_UNREACHABLE",
    "EXIT_USAGE",
    "ConfigError",
    "CorruptKeyFileError",
    "CountermarkError",
    "InconclusiveError",
    "IntegrityError",
    "KeyFileError",
    "MissingAssetError",
    "RunLockedError",
    "StorageError",
    "SuspectUnreachableError",
    "UnsafePermissionsError",
    "UsageError",
    "WrongPassphraseError",
]


class CountermarkError(Exception):
    """Root of the tree: a message that says got and expected, and a hint that says what to do."""

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def diagnostics(self) -> str:
        """The two lines a person reads on stderr."""
        hint = self.hint or "run the same command with --help to see what it expects"
        return f"error: {_one_line(self.message)}\nhint: {_one_line(hint)}"


class UsageError(CountermarkError):
    """The command, its arguments or its files ask for something that cannot be."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """A config file is wrong at a known place."""


class MissingAssetError(UsageError):
    """A model, data file or optional package is not installed."""


class StorageError(UsageError):
    """The disk is full or a folder cannot be written."""


class RunLockedError(UsageError):
    """Another process is at work in the same run folder."""


class KeyFileError(UsageError):
    """A key file cannot be opened."""


class WrongPassphraseError(KeyFileError):
    """The key file is whole, and this passphrase does not open it."""


class UnsafePermissionsError(KeyFileError):
    """A secret file can be read by others than its owner."""


class IntegrityError(CountermarkError):
    """Bytes on disk are not the bytes that were written, or do not belong together."""

    exit_code = EXIT_INTEGRITY


class CorruptKeyFileError(IntegrityError):
    """A key file is damaged, or is no key file."""


class SuspectUnreachableError(CountermarkError):
    """A suspect does not answer."""

    exit_code = EXIT_UNREACHABLE


class InconclusiveError(CountermarkError):
    """The evidence at hand cannot decide the claim."""

    exit_code = EXIT_INCONCLUSIVE


def _one_line(text: str) -> str:
    return " ".join(text.split())
