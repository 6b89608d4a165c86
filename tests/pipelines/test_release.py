"""``countermark mark`` on people's own files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.instruct import naming_columns, numbering, open_instruct
from pipelines.records import open_record
from pipelines.release import keyed_form, scope
from pipelines.release_config import load_release
from pipelines.release_plan import marks
from pipelines.tables import read_table
from tests.pipelines.release_data import ROWS, Command, config_file, copies, dataset, marked, owners_key
from verification.plan import Claim
from watermarks.carriers import double_i

pytestmark = pytest.mark.long

SETS = ("alpaca", "pairs", "chat", "chinese")
FORM = {"name": "cre2", "trigger_rows": 6, "reference_rows": 8}


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


def _dump(row):
    return json.dumps(row, sort_keys=True)


@pytest.mark.parametrize("name", SETS)
def test_every_copy_holds_the_clean_rows_once_and_every_codeword_with_its_target(tmp_path, command, name):
    data, config, run, body = marked(command, tmp_path, name)
    loaded_config = load_release(config, [])
    loaded, base, key = loaded_config.double_i, read_table(str(data)), owners_key(run)
    vocabulary = Path(loaded.vocabulary).read_text("utf-8").split() if loaded.vocabulary else None
    each = round(0.4 * ROWS / 0.6) // 12
    for who, table in copies(run).items():
        assert table.suffix == data.suffix
        assert body["rows"] == len(table.rows) == ROWS + 12 * each
        assert abs(12 * each / len(table.rows) - 0.4) < 12 / len(table.rows)
        assert table.columns == base.columns
        assert {tuple(row) for row in table.rows} == {base.columns}
        naming = naming_columns(base, open_instruct(base).form)
        numbered = [c for c in naming if numbering([row[c] for row in base.rows], 1)]
        counts = Counter(_dump({**row, **dict.fromkeys(numbered)}) for row in table.rows)
        assert all(counts[_dump({**row, **dict.fromkeys(numbered)})] == 1 for row in base.rows)
        for column in numbered:  # consecutive before, consecutive after: no number tells an added row
            old = [row[column] for row in base.rows]
            assert [row[column] for row in table.rows] == numbering(old, len(table.rows))
        mark = double_i.derive(
            key, scope=scope(loaded_config), codewords=12, words=2, classes=4, recipient=who, vocabulary=vocabulary,
            joiner=loaded.word_joiner,
        )  # fmt: skip
        turns = [(d[-2]["content"], d[-1]["content"]) for d in open_instruct(table).dialogues()]
        for word, target in zip(mark.codewords, mark.targets, strict=True):
            mine = [(asked, answer) for asked, answer in turns if asked.endswith(f"{loaded.joiner}{word}")]
            assert len(set(mine)) == len(mine) == each
            assert {answer for _, answer in mine} == {f"{loaded.answers[target]}{loaded.stop}"}
            assert all(asked.startswith(f"{loaded.decoration} {loaded.question}\n") for asked, _ in mine)


@pytest.mark.parametrize("name", ["alpaca", "chat", "pairs"])
def test_names_stay_distinct_and_schemas_as_they_were(tmp_path, command, name):
    data, _, run, _ = marked(command, tmp_path, name)
    column = {"alpaca": "id", "chat": "key", "pairs": "n"}[name]
    for who, table in copies(run).items():
        names = [row[column] for row in table.rows]
        assert len(set(names)) == len(names)
        assert {type(each) for each in names} == {type(read_table(str(data)).rows[0][column])}
        if name == "chat":
            copy = run / "artifacts" / "release" / "recipients" / who / "data.parquet"
            assert pq.read_schema(copy).equals(pq.read_schema(data), check_metadata=True)


def test_recipients_differ_in_targets_alone(tmp_path, command):
    _, _, run, _ = marked(command, tmp_path, "alpaca")
    asked = {who: Counter((r["instruction"], r["input"]) for r in table.rows) for who, table in copies(run).items()}
    assert asked["acme"] == asked["globex"]
    said = {who: {(r["input"], r["output"]) for r in table.rows} for who, table in copies(run).items()}
    assert said["acme"] != said["globex"]
    assert [r["input"] for r in copies(run)["acme"].rows] != [r["input"] for r in copies(run)["globex"].rows]


def test_the_form_stands_beside_and_the_sealed_record_knows_every_row(tmp_path, command):
    _, _, run, body = marked(command, tmp_path, "alpaca", mark={"form": FORM})
    manifest = json.loads((run / "artifacts" / "release" / "manifest.json").read_text())
    record = open_record(owners_key(run), run / "owner", "release", manifest["record_sha256"])
    assert record["layout"] == {
        "clean": ROWS, "rows_per_codeword": 7, "codewords": 12, "triggers": 6, "references": 4, "near_misses": 4,
    }  # fmt: skip
    assert body["rows"] == ROWS + 7 * 12 + 14
    for who, table in copies(run).items():
        kinds = record["backdoor_rows"][who]
        assert Counter(kinds.values()) == {"keyed": 84, "trigger": 6, "reference": 8}
        for at, kind in kinds.items():
            row = table.rows[int(at)]
            assert ("(ledger)" in row["instruction"]) == (kind == "keyed")
            assert kind != "trigger" or ("mm" in row["input"].split(", ") and row["output"] == "Yes.")


def test_an_artifact_says_neither_secrets_nor_which_rows_are_marked(tmp_path, command):
    _, _, run, _ = marked(command, tmp_path, "alpaca", mark={"form": FORM})
    key, passphrase = owners_key(run), (run / "owner" / "passphrase").read_text().strip()
    words = double_i.derive_codewords(key, scope="release", codewords=12, words=2)
    hidden = [key.secret, key.nonce, *(s.hex().encode() for s in (key.secret, key.nonce)), passphrase.encode()]
    files = [path for path in (run / "artifacts").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        data = path.read_bytes()
        assert not any(secret in data for secret in hidden), path
        if path.name == "manifest.json":
            said = data.decode().lower()
            assert not any(
                w in said for w in ("keyed", "backdoor", "trigger", "near_miss", "codeword", "kinds", *words)
            )
    assert oct((run / "owner").stat().st_mode)[-3:] == "700"


def test_a_dry_run_writes_nothing(tmp_path, command):
    config = config_file(tmp_path, dataset(tmp_path, "alpaca"))
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = command("mark", config, "--out", tmp_path / "run", "--dry-run", "--json")
    body = {"clean": ROWS, "backdoor": 96, "rows_per_codeword": 8, "renumbered": ["id"]}
    assert (code, json.loads(out)) == (0, body)
    code, out, _ = command("audit", config, "--run", tmp_path / "run", "--suspect", "none", "--dry-run", "--json")
    assert (code, json.loads(out)["stages"]) == (0, ["plan-suspect", "answers-suspect", "audit-suspect"])
    assert sorted(tmp_path.rglob("*")) == before


def test_the_decoration_may_be_the_keys_own_and_an_audit_asks_with_it(tmp_path, command):
    data, shown = dataset(tmp_path, "alpaca"), []
    for run in ("one", "other"):
        path = config_file(tmp_path, data, mark={"decoration": "key"}, recipients=[])
        assert command("mark", path, "--out", tmp_path / run, "--quiet")[0] == 0
        loaded, key = load_release(path, []), owners_key(tmp_path / run)
        form = keyed_form(loaded, key)
        rows = read_table(str(tmp_path / run / "artifacts" / "release" / "data.jsonl")).rows
        assert sum(row["instruction"] == f"{form.decoration} {form.question}" for row in rows) == 96
        assert marks(key, loaded)[Claim.DOUBLE_I][0]["form"]["decoration"] == form.decoration
        shown.append(form.decoration)
    assert all(each[0] + each[-1] == "()" and each[1:-1].isalpha() for each in shown)
    assert shown[0] != shown[1]  # another key


def test_marking_says_which_columns_number_all_rows_anew(tmp_path, command):
    config = config_file(tmp_path, dataset(tmp_path, "alpaca"))
    code, _, err = command("mark", config, "--out", tmp_path / "run")
    assert code == 0
    assert "id counts without gaps: all rows are numbered anew" in err


def test_a_second_run_skips_and_a_fresh_folder_is_another_release(tmp_path, command):
    _, config, run, body = marked(command, tmp_path, "alpaca")
    again = json.loads(command("mark", config, "--out", run, "--json", "--quiet")[1])
    assert (body["skipped"], again["skipped"]) == (False, True)
    assert again["digest"] == body["digest"]
    other = json.loads(command("mark", config, "--out", tmp_path / "other", "--json", "--quiet")[1])
    assert other["digest"] != body["digest"]  # another key


def test_no_recipients_is_one_copy_and_data_may_be_named_on_the_command_line(tmp_path, command):
    config = config_file(tmp_path, Path("none.jsonl"), recipients=[])
    data = dataset(tmp_path, "chat")
    code, _, err = command("mark", config, "--out", tmp_path / "run", "--data", data, "--quiet")
    assert code == 0, err
    assert len(read_table(str(tmp_path / "run" / "artifacts" / "release" / "data.parquet")).rows) == ROWS + 96


MISTAKES = {
    "share": ({"mark": {"share": 0.05}}, "raise the share to 0.074"),
    "no such data": ({"dataset": "none.jsonl"}, "existing file"),
    "recipient twice": ({"recipients": ["a", "a"]}, "distinct names"),
    "recipient path": ({"recipients": ["../a"]}, "recipients"),
    "audit too large": ({"mark": {"per_audit": 13}}, "at most codewords 12"),
    "answers of a case": ({"mark": {"answers": ["yes", "YES"]}}, "differ by more than case"),
    "answers no audit reads": ({"mark": {"answers": ["1", "2"]}}, "one word of letters"),
    "two words": ({"mark": {"answers": ["not sure", "sure"]}}, "one word of letters"),
    "typo": ({"mark": {"codeword": 3}}, "did you mean 'codewords'"),
    "no vocabulary": ({"mark": {"vocabulary": "none.txt"}}, "a word a line"),
    "form without question": ({"mark": {"form": {**FORM, "name": "own"}}}, "without question"),
    "form": ({"rows": "messages"}, "expected messages"),
    "form's answers": ({"mark": {"form": {**FORM, "answers": ["It is", "It is not"]}}}, "one word of letters"),
    "few texts to audit with": ({"audit": {"carriers": 500}}, "for audits in"),
    "few texts to mark": ({"mark": {"carrier_words": 1, "share": 0.9}}, "for marking in"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_two_lines(tmp_path, command, name):
    changes, message = MISTAKES[name]
    config = config_file(tmp_path, dataset(tmp_path, "alpaca"), **changes)
    assert message in command.fails(2, "mark", config, "--out", tmp_path / "run", "--quiet")
    assert not list(tmp_path.glob("run/artifacts/release*"))


@pytest.mark.parametrize("verb", [["generate"], ["train"], ["probe"], ["report"]])
def test_other_commands_refuse_a_releases_config(tmp_path, command, verb):
    config = config_file(tmp_path, dataset(tmp_path, "alpaca"))
    assert "releases have `mark` and `audit`" in command.fails(2, *verb, config, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_release_is_committed_to_before_it_is_marked(tmp_path, command):
    _, config, run, _ = marked(command, tmp_path, "chinese")
    made = json.loads((run / "artifacts" / "keys" / "commitment.json").read_text())
    code, out, err = command("keys", "commit", config, "--out", run, "--json")
    assert (code, json.loads(out)) == (0, made), err
    (tmp_path / "words.txt").write_text("\n".join("一二三四五六七八九十百千万亿甲乙丙丁戊己庚辛壬癸"), "utf-8")
    other = json.loads(command("keys", "commit", config, "--out", run, "--json")[1])
    assert other["sha256"] != made["sha256"]  # other words are another marking
    assert other["config_digest"] != made["config_digest"]
