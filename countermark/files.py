"""Durable files: what is named is complete, and what is complete is on the disk.

The pattern is always the same: write into a temporary neighbour, fsync it, rename it over the final name, fsync the
folder. A crash leaves the old content or the new, never half of one. The price is one fsync a file; a file *system*
that reorders the rename before the data in spite of fsync is outside what user space can mend.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from countermark.errors import RunLockedError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ENOTDIR}
_FULL = "No space left on device"
_TEMPORARY_PREFIX = ".partial-"
PRIVATE_FILE_MODE = 0o600
PRIVATE_DIR_MODE = 0o700
PUBLIC_FILE_MODE = 0o644


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or an unwritable folder into a :class:`StorageError` that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRNOS:
            raise
        if error.errno == errno.EACCES and _elsewhere(error.filename, path):
            raise UsageError(
                f"got {error.filename}, which may not be read ({os.strerror(errno.EACCES)}), expected the right to",
                hint="ask its owner for it, or name another file",
            ) from error
        raise _storage_error(path, os.strerror(error.errno or 0)) from error
    except Exception as error:
        if _FULL not in str(error):  # safetensors and others raise classes of their own for a full disk
            raise
        raise _storage_error(path, _FULL) from error


def _elsewhere(name: object, path: Path) -> bool:
    """Whether an error is about another file than those that are written in the folder of ``path``."""
    return isinstance(name, (str, os.PathLike)) and path.parent.absolute() not in Path(name).absolute().parents


def fsync_dir(folder: Path) -> None:
    """Makes renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes, *, mode: int = PUBLIC_FILE_MODE) -> None:
    """Replaces ``path`` by ``data``: old or new after a crash, never a mixture. ``mode`` holds from birth.

    Raises:
        StorageError: full disk or unwritable folder; the old file is then untouched.
    """
    with storage_errors(path):
        temporary = path.with_name(f"{_TEMPORARY_PREFIX}{path.name}-{os.getpid()}")
        temporary.unlink(missing_ok=True)  # a left-over would keep its own mode
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)


def append_line(path: Path, line: str, *, mode: int = PUBLIC_FILE_MODE) -> None:
    """Appends one line durably; used for logs whose readers ignore a torn last line."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_dir(folder: Path, *, mode: int = 0o755) -> Path:
    """Creates ``folder`` (and parents) and returns it; an existing folder is left as it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise _storage_error(folder, error.strerror or str(error)) from error
    return folder


@contextmanager
def building(final: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``final`` if the block succeeds, and vanishes if it does not.

    ``final`` must not exist yet. Every file is fsynced before the rename, and the parent after it, so that the name
    ``final`` means *complete*.
    """
    make_dir(final.parent)
    with storage_errors(final):
        temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY_PREFIX}{final.name}-", dir=final.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            for path in sorted(temporary.rglob("*")):
                if path.is_file():
                    _fsync_file(path)
                elif path.is_dir():
                    fsync_dir(path)
            fsync_dir(temporary)
            temporary.rename(final)
            fsync_dir(final.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def sweep_partial(folder: Path) -> None:
    """Removes what a killed process left half-made directly under ``folder``. Call only under the run's lock."""
    if not folder.is_dir():
        return
    for path in folder.glob(f"{_TEMPORARY_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, *, hint: str) -> Iterator[None]:
    """Holds ``folder`` against every other process that asks for it likewise; a killed one lets go.

    Raises:
        RunLockedError: another process holds it.
    """
    with storage_errors(folder):
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLockedError(
                f"got a folder {folder} in which another process is at work, expected a free one", hint=hint
            ) from None
        yield
    finally:
        os.close(descriptor)


def sha256_bytes(data: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Lower-case hex SHA-256 of a file, streamed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _storage_error(path: Path, got: str) -> StorageError:
    return StorageError(
        f"could not write {path}: got {got!r}, expected a writable folder with room",
        hint="free some space or choose another folder with --out; what was complete before is untouched",
    )


def _fsync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
