"""Durable files: old or new, private from birth, and nothing left behind when the disk says no."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countermark import files
from countermark.errors import StorageError
from countermark.files import (
    append_line,
    atomic_write,
    building,
    make_dir,
    sha256_bytes,
    sha256_file,
    storage_errors,
    sweep_partial,
)


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def _fail(number):
    def failing(*_, **__):
        raise OSError(number, os.strerror(number))

    return failing


class Refusing:
    """A stream whose disk is full at the first byte, or half way."""

    def __init__(self, stream, after):
        self._stream, self._after = stream, after

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._stream.close()

    def write(self, data):
        self._stream.write(data[: self._after])
        self._stream.flush()
        raise OSError(errno.ENOSPC, "No space left on device")


def _break(monkeypatch, where, number=errno.ENOSPC):
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", _fail(number))
    elif where == "rename":
        monkeypatch.setattr(Path, "replace", _fail(number))
        monkeypatch.setattr(Path, "rename", _fail(number))
    elif where == "open":
        monkeypatch.setattr(os, "open", _fail(number))
    else:
        real = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *a, **k: Refusing(real(*a, **k), 2 if where == "half" else 0))


STEPS = ["open", "write", "half", "fsync", "rename"]


@pytest.mark.parametrize("where", STEPS)
@pytest.mark.parametrize("before", [None, b"old"], ids=["absent", "present"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, where, before):
    path = tmp_path / "file"
    if before is not None:
        atomic_write(path, before)
    _break(monkeypatch, where)
    with pytest.raises(StorageError, match=str(path)) as caught:
        atomic_write(path, b"new and longer")
    monkeypatch.undo()
    assert caught.value.exit_code == 2
    assert (path.read_bytes() if path.exists() else None) == before
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["file"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_what_the_disk_says_is_a_storage_error(tmp_path, monkeypatch, number):
    _break(monkeypatch, "fsync", number)
    with pytest.raises(StorageError):
        atomic_write(tmp_path / "file", b"x")


def test_what_is_no_matter_of_storage_passes_through(tmp_path):
    with pytest.raises(OSError, match="Input/output") as caught, storage_errors(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
    assert not isinstance(caught.value, StorageError)
    with pytest.raises(KeyboardInterrupt), building(tmp_path / "folder"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_what_is_written_is_what_is_read(tmp_path, first, second):
    path = tmp_path / "file"
    for data in (first, second):
        atomic_write(path, data)
        assert path.read_bytes() == data
        assert sha256_file(path) == sha256_bytes(data)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_the_mode_holds_from_birth(tmp_path, monkeypatch, mode):
    born = []
    real = os.fdopen

    def watched(descriptor, *args, **more):
        born.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, *args, **more)

    monkeypatch.setattr(os, "fdopen", watched)
    old = os.umask(0)
    try:
        atomic_write(tmp_path / "file", b"x", mode=mode)
    finally:
        os.umask(old)
    assert born == [mode]
    assert _mode(tmp_path / "file") == mode


def test_a_public_file_that_is_replaced_becomes_private(tmp_path):
    atomic_write(tmp_path / "file", b"x", mode=0o644)
    atomic_write(tmp_path / "file", b"y", mode=0o600)
    assert _mode(tmp_path / "file") == 0o600


def test_a_left_over_temporary_does_not_lend_its_mode(tmp_path):
    left = tmp_path / f"{files._TEMPORARY_PREFIX}file-{os.getpid()}"
    left.write_bytes(b"torn")
    left.chmod(0o644)
    atomic_write(tmp_path / "file", b"secret", mode=0o600)
    assert _mode(tmp_path / "file") == 0o600


def test_a_planted_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / f"{files._TEMPORARY_PREFIX}file-{os.getpid()}").symlink_to(victim)
    try:
        atomic_write(tmp_path / "file", b"x")
    except OSError:
        pass
    except StorageError:
        pass
    assert victim.read_bytes() == b"mine"


def test_file_and_folder_are_synced_in_that_order(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def watched(descriptor):
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else (tmp_path / "file").exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomic_write(tmp_path / "file", b"x")
    assert synced == [False, "folder"]


def test_building_gives_a_complete_folder(tmp_path):
    final = tmp_path / "a" / "final"
    with building(final) as folder:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "file").write_text("x")
        assert not final.exists()
        assert folder.parent == final.parent
    assert (final / "deep" / "er" / "file").read_text() == "x"
    assert [p.name for p in final.parent.iterdir()] == ["final"]
    assert _mode(final) == 0o755


def _build(final, then):
    with building(final) as folder:
        (folder / "half").write_text("x")
        then()


def _raise(error):
    raise error


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), SystemExit()])
def test_building_leaves_nothing_on_failure(tmp_path, error):
    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        _build(tmp_path / "final", lambda: _raise(error))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["fsync", "rename"])
def test_building_leaves_nothing_when_the_disk_is_full_at_the_end(tmp_path, monkeypatch, where):
    with pytest.raises(StorageError):
        _build(tmp_path / "final", lambda: _break(monkeypatch, where))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_building_never_replaces_what_is_complete(tmp_path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").write_text("x")
    with pytest.raises(OSError, match="not empty"), building(final) as folder:
        (folder / "new").write_text("y")
    assert [p.name for p in final.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_sweeping_takes_partial_things_and_nothing_else(tmp_path):
    (tmp_path / ".partial-file-1").write_text("x")
    (tmp_path / ".partial-dir").mkdir()
    (tmp_path / ".partial-dir" / "x").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".partial-inner").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    sweep_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "kept"]
    assert (tmp_path / "kept" / ".partial-inner").exists()
    sweep_partial(tmp_path / "absent")


def test_lines_are_appended(tmp_path):
    for line in ("one", "zwei ü"):
        append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_text("utf-8") == "one\nzwei ü\n"


def test_a_folder_where_a_file_is(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        make_dir(tmp_path / "file" / "below")
    assert _mode(make_dir(tmp_path / "private", mode=0o700)) == 0o700
