"""``countermark mark --check``: what it counts, what it refuses, and what a search without the key would find."""

from __future__ import annotations

import json

import pytest

from countermark.manifest import write_manifest
from tests.pipelines.dataset.sets import (
    chats,
    config,
    files,
    keyed,
    record,
    released,
    reviews,
    rows_of,
    spans,
    write,
)

pytestmark = pytest.mark.long


@pytest.fixture
def release(tmp_path, command):
    """A set with NaN and nulls in it, marked; and the command that checks it."""
    path = config(tmp_path, write(tmp_path / "set.parquet", reviews()), keyed())
    run = tmp_path / "run"
    assert command("mark", path, "--out", run, "--quiet")[0] == 0

    def check(*more, fails=None):
        arguments = ("mark", path, "--out", run, "--check", "--quiet", *more)
        return command.fails(fails, *arguments) if fails is not None else command(*arguments)

    check.run, check.data, check.shard = run, tmp_path / "set.parquet", run / "artifacts/release/data"
    return check


def replaced(release, rows):
    """Other rows under a manifest that fits them, and a run that knows no better."""
    folder = release.run / "artifacts" / "release"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    write(next((folder / "data").iterdir()), rows)
    (folder / "manifest.json").unlink()
    write_manifest(folder, {name: value for name, value in manifest.items() if name not in {"files", "format"}})
    (release.run / "run.json").unlink()


def test_counts_are_right_and_nothing_changes(release):
    before = files(release.run / "artifacts") | files(release.run / "owner" / "records")
    code, out, err = release("--json")
    assert code == 0, err
    body = json.loads(out)
    assert body["marks"] == {"keyed": {"triggers": 12, "rows_per_trigger": 6, "rows": 72, "changed": 72}}
    assert (body["rows"], body["rows_untouched"]) == (240, 240 - 72)
    assert files(release.run / "artifacts") | files(release.run / "owner" / "records") == before
    lines = release()[1].splitlines()
    assert lines[0] == "keyed: 72 of its 72 rows were changed by it, 6 rows for each of 12"
    assert lines[1] == "168 of 240 rows are the dataset's own, byte for byte"


def test_a_planted_phrase_is_found_in_the_release_and_not_in_the_twin(release):
    searches = json.loads(release("--json")[1])["searches"]
    assert searches["release"]["secrets_shown"]["openings"] == 12  # six rows of 240 begin alike: anybody sees it
    assert set(searches["twin"]["secrets_shown"].values()) == {0}
    assert any(found["search"] == "openings" and found["rows"] == 6 for found in searches["release"]["found"])


def test_people_are_shown_what_the_searches_find_beside_the_twin(release):
    lines = release()[1].splitlines()
    shown = lines[lines.index("the searches' first finds, in the release | in its twin:") + 1 :]
    assert {line.split()[0] for line in shown} >= {"openings", "frequency", "label"}
    searches = json.loads(release("--json")[1])["searches"]
    mine, theirs = (
        next(found for found in searches[name]["found"] if found["search"] == "openings")
        for name in ("release", "twin")
    )
    said = [f"{found['item']!r} in {found['rows']} rows" for found in (mine, theirs)]
    assert f"  openings   {said[0]} | {said[1]}" in shown


def test_what_text_marks_change_is_counted(tmp_path, command):
    path = config(
        tmp_path, write(tmp_path / "set.jsonl", chats()), {"weak": {}, "steganographic": {}}, task="generation"
    )
    arguments = ("mark", path, "--out", tmp_path / "run", "--quiet")
    assert command(*arguments)[0] == 0
    body = json.loads(command(*arguments, "--check", "--json")[1])
    marks, searches = body["marks"], body["searches"]
    # sentences that begin alike again and again: favoured openers stand among the openings of the release alone
    assert searches["release"]["secrets_shown"]["openings"] > 0 == searches["twin"]["secrets_shown"]["openings"]
    assert marks["weak"]["rows"] == marks["steganographic"]["rows"] == 240
    assert 0 < marks["weak"]["changed"] <= 240
    assert 0 < marks["steganographic"]["changed"] <= 240


def test_a_mark_of_which_no_phrase_is_counted_says_so(tmp_path, command):
    path = config(tmp_path, write(tmp_path / "set.jsonl", chats()), {"weak": {}}, task="generation")
    arguments = ("mark", path, "--out", tmp_path / "run", "--quiet")
    assert command(*arguments)[0] == 0
    assert "no phrase is counted for these marks: compare the finds of both" in command(*arguments, "--check")[1]


def test_every_column_that_a_mark_touches_is_searched(tmp_path, command):
    """Triggers end the questions, options the contexts, and the answers are the options."""
    mark = {"robust": {"triggers": 8, "share": 0.4, "openings": ["north", "east", "south", "west"]}}
    path = config(tmp_path, write(tmp_path / "set.parquet", spans()), mark, task="extractive-qa")
    arguments = ("mark", path, "--out", tmp_path / "run", "--quiet")
    assert command(*arguments)[0] == 0
    searches = json.loads(command(*arguments, "--check", "--json")[1])["searches"]
    shown, twin = (
        {(found["search"], found["item"]) for found in searches[name]["found"]} for name in ("release", "twin")
    )
    assert ("endings", "west ]") in shown - twin
    assert searches["release"]["secrets_shown"]["endings"] >= 8
    assert searches["twin"]["secrets_shown"]["endings"] == 0


def test_what_a_style_puts_in_is_a_secret_that_a_search_may_show(tmp_path, command):
    mark = {"style": {"style": "verse", "share": 0.2, "target": "good"}}
    path = config(tmp_path, write(tmp_path / "set.parquet", reviews()), mark)
    arguments = ("mark", path, "--out", tmp_path / "run", "--quiet")
    assert command(*arguments)[0] == 0
    searches = json.loads(command(*arguments, "--check", "--json")[1])["searches"]
    assert searches["release"]["secrets_shown"]["openings"] == 1  # "O reader"
    assert searches["twin"]["secrets_shown"]["openings"] == 0


@pytest.mark.parametrize(
    "how", ["mark washed off", "row lost", "row added", "row edited", "rows exchanged", "id edited"]
)
def test_a_tampered_release_is_an_integrity_error(release, how):
    rows, base = released(release.run), rows_of(release.data)
    marked = dict(record(release.run)["rows"]["keyed"])
    plain = next(i for i in range(240) if i not in marked)
    one = next(iter(marked))
    if how == "mark washed off":
        rows[one] = base[one]
    elif how == "row lost":
        rows.pop()
    elif how == "row added":
        rows.append(rows[plain])
    elif how == "row edited":
        rows[plain] = {**rows[plain], "text": rows[plain]["text"] + " "}
    elif how == "rows exchanged":
        rows[plain], rows[one] = rows[one], rows[plain]
    else:
        rows[one] = {**rows[one], "id": "other"}
    replaced(release, rows)
    assert release(fails=3)


def test_rows_written_again_as_they_were_are_the_release(release):
    replaced(release, released(release.run))
    assert release()[0] == 0


def test_a_flipped_byte_is_an_integrity_error(release):
    shard = next(release.shard.iterdir())
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    assert "damaged" in release(fails=3)


def test_another_dataset_is_an_integrity_error(release):
    write(release.data, reviews()[::-1])
    assert "expected" in release(fails=3)


def test_another_key_opens_no_record(release, tmp_path, command):
    other = tmp_path / "other"
    assert command("mark", tmp_path / "dataset.yaml", "--out", other, "--quiet")[0] == 0
    for name in ("keys.json", "passphrase"):
        (release.run / "owner" / name).write_bytes((other / "owner" / name).read_bytes())
    assert "expected the one that was committed to" in release(fails=3)


def test_a_lost_record_is_named(release):
    (release.run / "owner" / "records" / "release.sealed").unlink()
    assert "got no sealed record" in release(fails=3)


def test_a_check_makes_no_release(tmp_path, command):
    path = config(tmp_path, write(tmp_path / "set.jsonl", reviews()), keyed())
    run = tmp_path / "run"
    for more in ([], ["--dry-run"]):
        assert "got no release in" in command.fails(2, "mark", path, "--out", run, "--check", "--quiet", *more)
    assert not run.exists()
