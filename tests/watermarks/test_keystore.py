"""The sealed key file: private from birth, whole or refused, and a wrong passphrase is not a damaged file."""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rfc8785 import CanonicalizationError

from countermark.errors import (
    CorruptKeyFileError,
    IntegrityError,
    KeyFileError,
    StorageError,
    UnsafePermissionsError,
    WrongPassphraseError,
)
from countermark.manifest import canonical_json, digest
from tests.support import key_of
from watermarks import keystore
from watermarks.keyfile import KeyFile
from watermarks.keylife import add, distribute, new_ring, promote
from watermarks.keystore import load_ring, read_secret_file, save_ring

PASSPHRASE = b"correct horse"
NOW = datetime(2026, 11, 22, 10, 20, 18, tzinfo=UTC)
RING = new_ring(now=NOW, key=key_of("old"), ring_id="ring_test")
RING = add(RING, key_of("new"), now=NOW)[0]
RING = distribute(RING, "ck_new", now=NOW)[0]
RING = promote(RING, "ck_new", now=NOW, until=NOW.replace(year=2027))[0]


@pytest.fixture(scope="module", autouse=True)
def _cheap_kdf():
    """The real function at its smallest cost, so that thousands of openings take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystore, "_KDF", {"name": "argon2id", "iterations": 1, "lanes": 1, "memory_kib": 64})
        yield


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    path = tmp_path_factory.mktemp("ring") / "owner" / "keys.json"
    save_ring(path, RING, PASSPHRASE)
    return path


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    return path


def test_what_is_sealed_opens_to_the_same_ring(sealed):
    assert load_ring(sealed, PASSPHRASE) == RING


def test_the_file_shows_no_secret_and_two_seals_share_nothing(sealed, tmp_path):
    save_ring(tmp_path / "again.json", RING, PASSPHRASE)
    first, second = (json.loads(p.read_bytes()) for p in (sealed, tmp_path / "again.json"))
    for key in (key_of("old"), key_of("new")):
        assert key.secret not in sealed.read_bytes()
        assert key.secret.hex().encode() not in sealed.read_bytes()
    for name in ("nonce", "sealed", "check"):
        assert first[name] != second[name]
    assert first["kdf"]["salt"] != second["kdf"]["salt"]


def test_the_file_is_private_from_birth(tmp_path, monkeypatch):
    seen = []
    real_open = os.open

    def watched(path, flags, mode=0o777, **more):
        descriptor = real_open(path, flags, mode, **more)
        if flags & os.O_CREAT:
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    old = os.umask(0)
    try:
        monkeypatch.setattr(os, "open", watched)
        save_ring(tmp_path / "private" / "keys.json", RING, PASSPHRASE)
    finally:
        os.umask(old)
    assert seen == [0o600]
    assert stat.S_IMODE((tmp_path / "private" / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o602, 0o777])
def test_a_file_that_others_may_use_is_refused(sealed, target, mode):
    target.write_bytes(sealed.read_bytes())
    target.chmod(mode)
    with pytest.raises(UnsafePermissionsError, match=f"{mode:04o}"):
        load_ring(target, PASSPHRASE)
    with pytest.raises(UnsafePermissionsError):
        read_secret_file(target)


def test_a_link_does_not_hide_an_open_file(sealed, target, tmp_path):
    target.write_bytes(sealed.read_bytes())
    target.chmod(0o644)
    link = tmp_path / "link.json"
    link.symlink_to(target)
    with pytest.raises(UnsafePermissionsError):
        load_ring(link, PASSPHRASE)


@pytest.mark.parametrize("passphrase", [b"", b"correct hors", b"correct horse ", b"Correct horse", b"\x00"])
def test_a_wrong_passphrase_is_not_a_damaged_file(sealed, passphrase):
    with pytest.raises(WrongPassphraseError):
        load_ring(sealed, passphrase)


def test_no_file_is_another_error(tmp_path):
    with pytest.raises(KeyFileError, match="no key file"):
        load_ring(tmp_path / "none.json", PASSPHRASE)


def _opens_to_nothing_else(target, data):
    """Damage is refused by one of the two classes; nothing ever opens to another ring, or fails in another way."""
    target.write_bytes(data)
    try:
        assert load_ring(target, PASSPHRASE) == RING
    except (CorruptKeyFileError, WrongPassphraseError) as error:
        return type(error)
    return None


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a file without history, for tests that damage every byte of it."""
    path = tmp_path_factory.mktemp("small") / "keys.json"
    save_ring(path, replace(new_ring(now=NOW, key=key_of("old")), history=()), PASSPHRASE)
    return path.read_bytes()


@pytest.mark.parametrize(("passphrase", "bit"), [(PASSPHRASE, 0), (PASSPHRASE, 5), (b"another", 3)])
def test_a_flipped_bit_in_any_byte_is_damage_whatever_the_passphrase(small, target, passphrase, bit):
    for position in range(len(small)):
        damaged = bytearray(small)
        damaged[position] ^= 1 << (position + bit) % 8
        target.write_bytes(damaged)
        with pytest.raises(CorruptKeyFileError):
            load_ring(target, passphrase)


def _whole(body):
    """The file of these fields, its checksum right: what a forger would write."""
    named = {name: value for name, value in body.items() if name != "sha256"}
    return canonical_json({**named, "sha256": digest(named)}) + b"\n"


def test_a_forgers_checksum_does_not_hide_that_the_seal_is_broken(sealed, target):
    body = json.loads(sealed.read_bytes())
    for name in ("sealed", "nonce"):
        text = body[name]
        swapped = {**body, name: text[:8] + ("0" if text[8] != "0" else "1") + text[9:]}
        assert _opens_to_nothing_else(target, _whole(swapped)) is CorruptKeyFileError
    assert _opens_to_nothing_else(target, _whole({**body, "format": "countermark-keyring/1"})) is CorruptKeyFileError
    assert _opens_to_nothing_else(target, _whole({**body, "check": "00" * 16})) is WrongPassphraseError


def test_another_spelling_of_the_same_fields_is_damage(sealed, target):
    body = json.loads(sealed.read_bytes())
    for data in (json.dumps(body).encode(), canonical_json(body), canonical_json(body) + b"\n\n"):
        assert _opens_to_nothing_else(target, data) is CorruptKeyFileError


def test_every_truncation_is_a_damaged_file(small, target):
    for length in range(len(small)):
        assert _opens_to_nothing_else(target, small[:length]) is CorruptKeyFileError


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_key_file(target, data):
    assert _opens_to_nothing_else(target, data) is CorruptKeyFileError


def _edit(sealed, **fields):
    body = json.loads(sealed.read_bytes())
    kdf = {k: v for k, v in {**body["kdf"], **fields}.items() if v is not ...}
    try:
        return _whole({**body, "kdf": kdf})
    except CanonicalizationError:  # JSON proper has no NaN: its checksum cannot be right
        return json.dumps({**body, "kdf": kdf}).encode()


HOSTILE = {
    "memory": {"memory_kib": 2**40},
    "a little too much memory": {"memory_kib": 1024 * 1024 + 1},
    "iterations": {"iterations": 10**9},
    "no iterations": {"iterations": 0},
    "negative": {"memory_kib": -64},
    "lanes": {"lanes": 2**24, "memory_kib": 2**30},
    "no lanes": {"lanes": 0},
    "not a number": {"memory_kib": "lots"},
    "null": {"iterations": None},
    "list": {"lanes": [1]},
    "nan": {"memory_kib": float("nan")},
    "infinity": {"memory_kib": float("inf")},
    "missing": {"memory_kib": ...},
    "another function": {"name": "pbkdf2"},
    "short salt": {"salt": "00"},
    "no salt": {"salt": None},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_costs_nothing(sealed, target, monkeypatch, name):
    real = keystore.Argon2id

    def bounded(**cost):
        assert cost["memory_cost"] <= keystore.MAX_MEMORY_KIB
        assert cost["iterations"] <= keystore.MAX_ITERATIONS
        return real(**cost)

    monkeypatch.setattr(keystore, "Argon2id", bounded)
    assert _opens_to_nothing_else(target, _edit(sealed, **HOSTILE[name])) is CorruptKeyFileError


@pytest.mark.parametrize("data", [b"[]", b"null", b"{}", b'"x"', b"7", b"[" * 100_000], ids=lambda d: str(d[:4]))
def test_json_of_another_shape(target, data):
    assert _opens_to_nothing_else(target, data) is CorruptKeyFileError


def test_a_huge_file_is_not_read(target):
    with target.open("r+b") as stream:
        stream.truncate(keystore.MAX_FILE_BYTES + 1)
    with pytest.raises(CorruptKeyFileError):
        load_ring(target, PASSPHRASE)


def test_a_corrupt_file_is_an_integrity_error_and_a_wrong_passphrase_is_not():
    assert issubclass(CorruptKeyFileError, IntegrityError)
    assert not issubclass(WrongPassphraseError, IntegrityError)


def test_an_interrupted_save_leaves_the_old_ring(target, monkeypatch):
    save_ring(target, RING, PASSPHRASE)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = new_ring(now=NOW, key=key_of("x"))
    with pytest.raises(StorageError):
        save_ring(target, other, PASSPHRASE)
    monkeypatch.undo()
    assert load_ring(target, PASSPHRASE) == RING


@pytest.mark.parametrize(
    ("content", "expected"), [(b"word\n", b"word"), (b"word", b"word"), (b" w \n\n", b" w \n"), (b"\xff", b"\xff")]
)
def test_a_passphrase_file_loses_one_newline(target, content, expected):
    target.write_bytes(content)
    assert read_secret_file(target) == expected


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_passphrase_file_is_refused(target, content):
    target.write_bytes(content)
    with pytest.raises(KeyFileError, match="empty"):
        read_secret_file(target)


def test_a_missing_passphrase_file_is_refused(tmp_path):
    with pytest.raises(KeyFileError, match="no passphrase file"):
        read_secret_file(tmp_path / "none")


def test_a_file_of_another_user_is_an_error_of_its_own(target, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    for read in (read_secret_file, lambda path: load_ring(path, PASSPHRASE)):
        with pytest.raises(KeyFileError, match="Permission denied"):
            read(target)


def test_a_ring_too_large_to_be_read_again_is_not_written(target, monkeypatch):
    save_ring(target, RING, PASSPHRASE)
    monkeypatch.setattr(keystore, "MAX_FILE_BYTES", target.stat().st_size - 1)
    with pytest.raises(StorageError, match="bytes"):
        save_ring(target, RING, PASSPHRASE)
    monkeypatch.undo()
    assert load_ring(target, PASSPHRASE) == RING


V1 = {  # sealed by the version before this one, with argon2id at its smallest cost
    "keys": [("old", "verify_only"), ("gone", "destroyed"), ("new", "active")],
    "primary": "ck_new",
}


def _v1(path):
    """A file of format 1, byte for byte as it was written then."""
    header = {
        "format": "countermark-keyring/1", "aead": "aes-256-gcm",
        "kdf": {"name": "argon2id", "iterations": 1, "lanes": 1, "memory_kib": 64, "salt": "00" * 16},
    }  # fmt: skip
    sealing, check = keystore._passphrase_keys(PASSPHRASE, header["kdf"])
    header["check"] = check.hex()
    inside = {
        "keys": [
            {"id": f"ck_{n}", "secret": key_of(n).secret.hex(), "nonce": key_of(n).nonce.hex(), "state": state}
            for n, state in V1["keys"]
        ],
        "primary": V1["primary"],
    }
    sealed = AESGCM(sealing).encrypt(bytes(12), canonical_json(inside), canonical_json(header))
    body = {**header, "nonce": "00" * 12, "sealed": base64.b64encode(sealed).decode()}
    path.write_bytes(canonical_json(body) + b"\n")


def test_a_file_of_format_1_opens_and_is_written_as_2_at_the_next_change(target):
    _v1(target)
    ring = load_ring(target, PASSPHRASE)
    assert ring == load_ring(target, PASSPHRASE)
    assert [(e.key_id, e.version, str(e.state)) for e in ring.entries] == [
        ("ck_old", 1, "verify_only"), ("ck_gone", 2, "destroyed"), ("ck_new", 3, "active"),
    ]  # fmt: skip
    assert ring.entry("ck_gone").key is None
    assert ring.get() == key_of("new")
    assert ring.history == ()
    changed = KeyFile(target).change(PASSPHRASE, lambda r: add(r, key_of("next"), now=NOW))
    assert json.loads(target.read_bytes())["format"] == "countermark-keyring/2"
    assert load_ring(target, PASSPHRASE) == changed
    assert [event.kind for event in changed.history] == ["add"]
    assert changed.ring_id == ring.ring_id
    again = KeyFile(target).change(PASSPHRASE, lambda r: promote(*distributed(r), now=NOW))
    assert again.history[-1].before == "verify_only"


def distributed(ring):
    return distribute(ring, "ck_next", now=NOW)[0], "ck_next"


def test_a_damaged_file_of_format_1_is_still_told_from_a_wrong_passphrase(target):
    _v1(target)
    body = json.loads(target.read_bytes())
    with pytest.raises(WrongPassphraseError):
        load_ring(target, b"another")
    target.write_bytes(canonical_json({**body, "nonce": "01" + body["nonce"][2:]}))
    with pytest.raises(CorruptKeyFileError):
        load_ring(target, PASSPHRASE)
