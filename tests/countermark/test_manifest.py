"""Manifests: whatever changes in a folder is noticed and named, and nothing outside it is ever read."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countermark.errors import IntegrityError
from countermark.files import sha256_bytes
from countermark.manifest import (
    MANIFEST_NAME,
    canonical_json,
    digest,
    file_table,
    read_checked_json,
    read_json,
    verify_folder,
    write_checked_json,
    write_manifest,
)

CONTENT = {"rows.parquet": b"PAR1" + bytes(range(200)), "deep/er/model.bin": b"weights" * 20, "empty": b""}
FIELDS = {"stage": "mark", "seed": 7, "parents": {"keys": "ab" * 32}, "share": 0.25, "text": "ü"}
SHARED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _make(folder):
    for name, data in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return write_manifest(folder, FIELDS)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "artifact"
    made.mkdir()
    _make(made)
    return made


def _edit_manifest(folder, change):
    path = folder / MANIFEST_NAME
    path.write_bytes(canonical_json(change(json.loads(path.read_bytes()))))


def test_a_whole_folder_verifies(folder):
    manifest, found = verify_folder(folder)
    assert found == sha256_bytes((folder / MANIFEST_NAME).read_bytes())
    assert {name: manifest[name] for name in FIELDS} == FIELDS
    assert manifest["files"] == {n: {"bytes": len(d), "sha256": sha256_bytes(d)} for n, d in CONTENT.items()}


def test_the_digest_depends_on_content_and_fields_alone(folder, tmp_path):
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.append(_make(tmp_path / name))
        os.utime(tmp_path / name / "empty", (1, 1))
        digests.append(verify_folder(tmp_path / name)[1])
    assert set(digests) == {verify_folder(folder)[1]}
    text = (folder / MANIFEST_NAME).read_text("utf-8")
    assert str(folder) not in text
    assert os.uname().nodename not in json.loads(text).values()


@SHARED
@given(
    name=st.sampled_from([n for n, d in CONTENT.items() if d]), position=st.integers(0, 10**6), mask=st.integers(1, 255)
)
def test_any_flipped_bit_names_its_file(folder, name, position, mask):
    path = folder / name
    data = bytearray(CONTENT[name])
    data[position % len(data)] ^= mask
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=f"{name}.*damaged"):
        verify_folder(folder)
    path.write_bytes(CONTENT[name])
    verify_folder(folder)


@SHARED
@given(name=st.sampled_from(list(CONTENT)), length=st.integers(0, 300))
def test_any_other_length_names_its_file(folder, name, length):
    data = (CONTENT[name] + b"\0" * 300)[:length]
    (folder / name).write_bytes(data)
    if data == CONTENT[name]:
        verify_folder(folder)
        return
    with pytest.raises(IntegrityError, match=name):
        verify_folder(folder)
    (folder / name).write_bytes(CONTENT[name])


@pytest.mark.long
@pytest.mark.parametrize("mask", [0x01, 0x04, 0x20, 0x80])
def test_no_flipped_bit_of_the_manifest_keeps_its_digest(folder, mask):
    path = folder / MANIFEST_NAME
    data = path.read_bytes()
    whole = sha256_bytes(data)
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= mask
        path.write_bytes(flipped)
        with suppress(IntegrityError):  # refused, or at least another manifest; nothing else is ever raised
            assert verify_folder(folder)[1] != whole


def test_every_truncated_manifest_is_refused(folder):
    path = folder / MANIFEST_NAME
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(IntegrityError, match=MANIFEST_NAME):
            verify_folder(folder)


@pytest.mark.parametrize("name", ["extra", "deep/extra", "new/extra", ".hidden", "deep/er/manifest.json"])
def test_an_extra_file_is_named(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(IntegrityError, match=name):
        verify_folder(folder)


@pytest.mark.parametrize("name", CONTENT)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        verify_folder(folder)


def test_a_missing_folder_or_manifest_is_named(folder, tmp_path):
    (folder / MANIFEST_NAME).unlink()
    for path in (folder, tmp_path / "none"):
        with pytest.raises(IntegrityError, match=MANIFEST_NAME):
            verify_folder(path)


@pytest.mark.parametrize("target", ["same", "absent", "folder"])
def test_a_link_in_place_of_a_file_is_named(folder, tmp_path, target):
    copy = tmp_path / "same"
    copy.write_bytes(CONTENT["rows.parquet"])
    (tmp_path / "folder").mkdir()
    (folder / "rows.parquet").unlink()
    (folder / "rows.parquet").symlink_to(tmp_path / target)
    with pytest.raises(IntegrityError, match=r"rows\.parquet"):
        verify_folder(folder)


def test_a_linked_folder_is_refused(folder, tmp_path):
    shutil.move(folder / "deep", tmp_path / "deep")
    (folder / "deep").symlink_to(tmp_path / "deep")
    with pytest.raises(IntegrityError, match="deep"):
        verify_folder(folder)


def test_a_folder_in_place_of_a_file_is_named(folder):
    (folder / "empty").unlink()
    (folder / "empty").mkdir()
    with pytest.raises(IntegrityError, match="empty"):
        verify_folder(folder)


def test_links_are_never_put_into_a_manifest(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(IntegrityError, match="link"):
        file_table(folder)


@pytest.mark.parametrize("name", ["../outside", "deep/../../outside", "/etc/hostname", ".."])
def test_paths_that_leave_the_folder_are_refused(folder, name):
    outside = folder.parent / "outside"
    outside.write_bytes(b"x")
    entry = {"bytes": 1, "sha256": sha256_bytes(b"x")}
    _edit_manifest(folder, lambda m: {**m, "files": {**m["files"], name: entry}})
    with pytest.raises(IntegrityError, match="paths inside the folder"):
        verify_folder(folder)


@pytest.mark.parametrize("name", ["deep/./er/model.bin", "deep//er/model.bin", "", ".", "deep"])
def test_other_spellings_of_a_path_are_refused(folder, name):
    entry = {"bytes": len(CONTENT["deep/er/model.bin"]), "sha256": sha256_bytes(CONTENT["deep/er/model.bin"])}
    _edit_manifest(folder, lambda m: {**m, "files": {**m["files"], name: entry}})
    with pytest.raises(IntegrityError):
        verify_folder(folder)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_refused(folder, number):
    _edit_manifest(folder, lambda m: {**m, "format": number})
    with pytest.raises(IntegrityError, match="format"):
        verify_folder(folder)


@pytest.mark.parametrize("files", [None, [], "x", 7])
def test_a_manifest_without_a_file_table_is_refused(folder, files):
    _edit_manifest(folder, lambda m: {**m, "files": files})
    with pytest.raises(IntegrityError, match="file table"):
        verify_folder(folder)


@pytest.mark.parametrize("entry", [None, [], {}, {"bytes": 0}, {"sha256": "0"}, 7, {"bytes": "0", "sha256": 1}])
def test_an_entry_of_another_shape_is_refused(folder, entry):
    _edit_manifest(folder, lambda m: {**m, "files": {**m["files"], "empty": entry}})
    with pytest.raises(IntegrityError):
        verify_folder(folder)


@pytest.mark.parametrize(
    "text",
    ["NaN", '{"files": {}, "x": 1e999}', '{"files": {}, "x": 9999999999999999999}', '{"files": {}, "x": "\\ud800"}'],
)
def test_what_canonical_json_cannot_say_is_refused(folder, text):
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(IntegrityError, match=MANIFEST_NAME):
        verify_folder(folder)


def test_a_manifest_that_is_pretty_printed_is_refused(folder):
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1))
    with pytest.raises(IntegrityError, match="canonical"):
        verify_folder(folder)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2.0**52), 2.0**52) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_canonical_json_is_json_of_one_spelling(value):
    data = canonical_json(value)
    read = json.loads(data)
    assert read == value
    assert canonical_json(read) == data
    assert digest(read) == sha256_bytes(data)


def test_canonical_json_by_hand():
    assert canonical_json({"b": 1.0, "a": [1e21, -0.0, 1e-7, "ü\n"], "A": None}) == (
        '{"A":null,"a":[1e+21,0,1e-7,"ü\\n"],"b":1}'.encode()
    )
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


@SHARED
@given(body=JSON, position=st.integers(0, 10**6), mask=st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
def test_a_checked_file_notices_its_own_damage(tmp_path, body, position, mask):
    path = tmp_path / "checked.json"
    write_checked_json(path, body)
    assert read_checked_json(path) == body
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= mask
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"checked\.json"):
        read_checked_json(path)


@pytest.mark.parametrize("value", [2.0**53, 1e16, -1e20])
def test_a_large_float_can_be_read_again(tmp_path, value):
    write_checked_json(tmp_path / "f", {"value": value})
    assert read_checked_json(tmp_path / "f") == {"value": value}


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "{", '{"body": 1}', '{"sha256": "x"}', "[" * 100_000, "\x00"])
def test_what_is_no_checked_file_is_refused(tmp_path, text):
    (tmp_path / "f").write_text(text)
    with pytest.raises(IntegrityError, match="/f"):
        read_checked_json(tmp_path / "f")


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("countermark.manifest.MAX_JSON_BYTES", 10)
    (tmp_path / "f").write_text("[" + " " * 20 + "]")
    with pytest.raises(IntegrityError, match="at most 10"):
        read_json(tmp_path / "f")


def test_a_folder_in_place_of_json_is_refused(tmp_path):
    with pytest.raises(IntegrityError):
        read_json(tmp_path)
