"""Passphrases: from a file, a descriptor, the system's keyring or a prompt, and from nowhere else."""

from __future__ import annotations

import getpass
import os
import stat
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest

from countermark.errors import KeyFileError, MissingAssetError, UnsafePermissionsError, UsageError
from pipelines.passphrase import PassphraseSource, forget, make_passphrase_file, remember


@pytest.fixture
def pipe():
    """Makes a readable descriptor that holds some bytes."""
    opened = []

    def make(data):
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        opened.append(reading)
        return reading

    yield make
    for each in opened:
        os.close(each)


@pytest.fixture
def entries(monkeypatch):
    """A package ``keyring`` that keeps its entries in a dict."""
    kept = {}
    fake = SimpleNamespace(
        get_password=lambda service, name: kept.get((service, name)),
        set_password=lambda service, name, word: kept.__setitem__((service, name), word),
        delete_password=lambda service, name: kept.pop((service, name)),
    )
    monkeypatch.setitem(sys.modules, "keyring", fake)
    return kept


@pytest.fixture
def terminal(monkeypatch):
    """A terminal at which somebody types these answers."""

    def types(*answers):
        left = iter(answers)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr(getpass, "getpass", lambda _: next(left))

    return types


def test_a_file(tmp_path):
    path = tmp_path / "word"
    path.touch(mode=0o600)
    path.write_bytes(b"open sesame\n")
    assert PassphraseSource(file=path).read() == b"open sesame"
    path.chmod(0o640)
    with pytest.raises(UnsafePermissionsError):
        PassphraseSource(file=path).read()


@pytest.mark.parametrize(("data", "word"), [(b"open\n", b"open"), (b"open", b"open"), (b"\xff\n\n", b"\xff\n")])
def test_a_descriptor(pipe, data, word):
    assert PassphraseSource(fd=pipe(data)).read() == word


@pytest.mark.parametrize("data", [b"", b"\n", b"x" * 65_537], ids=["empty", "newline", "huge"])
def test_a_descriptor_without_a_passphrase(data):
    descriptor = os.memfd_create("word")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with pytest.raises(KeyFileError):
            PassphraseSource(fd=descriptor).read()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [-1, 987])
def test_a_descriptor_that_is_not_open(number):
    with pytest.raises(UsageError, match=f"--passphrase-fd {number}"):
        PassphraseSource(fd=number).read()


def test_one_place_at_most(tmp_path):
    with pytest.raises(UsageError, match="--copy-passphrase-file and --copy-passphrase-fd"):
        PassphraseSource(file=tmp_path, fd=3, option="--copy-passphrase")


def test_the_keyring_remembers_and_forgets(entries):
    remember("films", "öffne dich".encode())
    assert entries == {("countermark", "films"): "öffne dich"}
    assert PassphraseSource(keyring="films").read() == "öffne dich".encode()
    forget("films")
    with pytest.raises(KeyFileError, match="'films'"):
        PassphraseSource(keyring="films").read()


def test_a_keyring_holds_text_only(entries):
    with pytest.raises(KeyFileError, match="UTF-8"):
        remember("films", b"\xff")


def test_a_keyring_that_fails_shows_no_argument(monkeypatch):
    def fails(service, name, word):
        raise RuntimeError(f"cannot store {word}")

    monkeypatch.setitem(sys.modules, "keyring", SimpleNamespace(set_password=fails))
    with pytest.raises(KeyFileError, match="RuntimeError") as caught:
        remember("films", b"open sesame")
    assert "sesame" not in caught.value.diagnostics()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingAssetError, match="keyring") as caught:
        PassphraseSource(keyring="films").read()
    assert "countermark[keyring]" in caught.value.hint


def test_a_prompt_asks_twice_for_a_new_one(terminal):
    terminal("open")
    assert PassphraseSource().read() == b"open"
    terminal("open", "open")
    assert PassphraseSource().read(new=True) == b"open"
    terminal("open", "opne")
    with pytest.raises(UsageError, match="differ"):
        PassphraseSource().read(new=True)
    terminal("")
    with pytest.raises(KeyFileError, match="empty"):
        PassphraseSource().read()


def test_a_prompt_needs_a_terminal_that_hides(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(UsageError, match="no terminal") as caught:
        PassphraseSource(option="--new-passphrase").read()
    assert "--new-passphrase-fd" in caught.value.hint

    def echoes(_):
        warnings.warn("it would be shown", getpass.GetPassWarning, stacklevel=1)
        return "open"

    terminal()
    monkeypatch.setattr(getpass, "getpass", echoes)
    with pytest.raises(UsageError, match="hide"):
        PassphraseSource().read()


def test_a_source_shows_no_passphrase_and_reads_no_environment(monkeypatch):
    for name in ("COUNTERMARK_PASSPHRASE", "PASSPHRASE"):
        monkeypatch.setenv(name, "open")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(UsageError):
        PassphraseSource().read()


def test_of_many_that_make_a_passphrase_file_one_does(tmp_path):
    path = tmp_path / "owner" / "passphrase"
    threads = [threading.Thread(target=make_passphrase_file, args=(path,)) for _ in range(8)]
    seen = []
    for thread in threads:
        thread.start()
    while not seen or any(thread.is_alive() for thread in threads):
        seen += [path.read_bytes()] if path.exists() else []
    assert set(seen) == {path.read_bytes()}
    assert [each.name for each in path.parent.iterdir()] == ["passphrase"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
