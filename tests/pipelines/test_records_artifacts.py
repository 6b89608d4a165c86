"""Sealed records open with their key alone, and artifacts are checked before they are read."""

from __future__ import annotations

import stat

import pytest

from countermark.errors import IntegrityError
from countermark.files import sha256_bytes
from pipelines.artifact import new_artifact, open_artifact, read_rows, write_rows
from pipelines.records import open_record, seal_record
from tests.support import key_of

KEY = key_of("owner")
RECORD = {"placements": [{"id": "r1", "trigger": 3}], "text": "很好"}
SCHEMA = {"id": "string", "label": "int64", "text": "string"}
ROWS = [{"id": f"r{i}", "label": i % 2, "text": "很好 \x00 <b>"} for i in range(50)]


@pytest.fixture
def sealed(tmp_path):
    return tmp_path, seal_record(KEY, tmp_path, "mark", RECORD)


def test_a_record_opens_to_what_was_sealed(sealed):
    owner, digest = sealed
    assert open_record(KEY, owner, "mark", digest) == RECORD
    path = owner / "records" / "mark.sealed"
    assert sha256_bytes(path.read_bytes()) == digest
    assert b"placements" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_same_record_has_the_same_bytes_and_another_has_others(sealed, tmp_path):
    _, digest = sealed
    assert seal_record(KEY, tmp_path / "b", "mark", RECORD) == digest
    assert seal_record(KEY, tmp_path / "c", "mark", {**RECORD, "x": 1}) != digest
    assert seal_record(key_of("other"), tmp_path / "d", "mark", RECORD) != digest
    first, second = ((tmp_path / n / "records" / "mark.sealed").read_bytes() for n in ("b", "c"))
    assert first[32:64] != second[32:64]  # no key stream is used twice


def test_every_flipped_byte_and_every_cut_is_noticed(sealed):
    owner, digest = sealed
    path = owner / "records" / "mark.sealed"
    data = path.read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        for bad in (bytes(damaged), data[:position]):
            path.write_bytes(bad)
            with pytest.raises(IntegrityError, match=r"mark\.sealed"):
                open_record(KEY, owner, "mark", digest)
            with pytest.raises(IntegrityError):  # even if the manifest's digest was changed along with it
                open_record(KEY, owner, "mark", sha256_bytes(bad))


def test_a_whole_record_of_another_release_is_refused(sealed):
    owner, digest = sealed
    other = seal_record(KEY, owner, "mark", {**RECORD, "text": "another"})
    assert open_record(KEY, owner, "mark", other)["text"] == "another"
    with pytest.raises(IntegrityError, match=r"mark\.sealed"):
        open_record(KEY, owner, "mark", digest)


def test_another_key_or_name_does_not_open_it(sealed):
    owner, digest = sealed
    with pytest.raises(IntegrityError, match="does not open"):
        open_record(key_of("other"), owner, "mark", digest)
    with pytest.raises(IntegrityError, match="no sealed record"):
        open_record(KEY, owner, "none", digest)


def _failing(path):
    with new_artifact(path, {}) as out:
        write_rows(out / "rows.parquet", ROWS, SCHEMA)
        write_rows(out / "more.parquet", [{}], SCHEMA)


def test_an_artifact_is_complete_or_absent(tmp_path):
    fields = {"stage": "s"}
    with new_artifact(tmp_path / "a", fields) as out:
        write_rows(out / "deep" / "rows.parquet", ROWS, SCHEMA)
        fields["rows"] = len(ROWS)
        assert not (tmp_path / "a").exists()
    found = open_artifact(tmp_path / "a")
    assert found.manifest["rows"] == 50
    assert read_rows(found.path / "deep" / "rows.parquet") == ROWS
    with pytest.raises(KeyError):
        _failing(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_rows_of_the_same_content_have_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_rows(tmp_path / name, ROWS, SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_in_rows_is_noticed_before_they_are_read(tmp_path):
    with new_artifact(tmp_path / "a", {}) as out:
        write_rows(out / "rows.parquet", ROWS, SCHEMA)
    path = tmp_path / "a" / "rows.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"rows\.parquet"):
        open_artifact(tmp_path / "a")


def test_an_artifact_does_not_print_its_manifest(tmp_path):
    with new_artifact(tmp_path / "a", {"secretish": "value"}):
        pass
    assert "value" not in repr(open_artifact(tmp_path / "a"))
