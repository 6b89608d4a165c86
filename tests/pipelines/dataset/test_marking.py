"""``countermark mark`` on data of one's own: which rows change, which never do, and that nothing else does."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset import marking
from pipelines.dataset.placing import set_aside
from pipelines.dataset.rows import alike
from tests.pipelines.dataset.sets import (
    changed,
    chats,
    chinese_words,
    config,
    files,
    keyed,
    lend_key,
    linear,
    mark,
    record,
    released,
    reviews,
    rows_of,
    spans,
    write,
)
from tests.pipelines.release_data import owners_key
from verification.claims import derive_input_level
from verification.one_trigger import candidates
from watermarks.carriers import behaviours, lexical
from watermarks.carriers.styles import STYLES, rewrite
from watermarks.carriers.triggers import applied

pytestmark = pytest.mark.long

OPENINGS = ["north", "east", "south", "west"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ""], ids=["jsonl", "csv", "parquet", "folder"])
def test_marked_rows_are_the_keys_and_all_else_is_the_datasets_own(tmp_path, command, suffix):
    base, after, kept, run = mark(command, tmp_path, reviews(), keyed(), suffix=suffix)
    mine = dict(kept["rows"]["keyed"])
    derived = derive_input_level(owners_key(run), kept["marks"]["keyed"])
    assert changed(base, after) == set(mine)
    assert len(mine) == 12 * kept["marks"]["keyed"]["rows_per_trigger"] == 12 * 6
    for row, index in mine.items():
        assert after[row]["text"] == applied(derived.triggers[index], base[row]["text"])
        assert base[row]["label"] == ["bad", "good"][derived.targets[index]]  # clean label
    for own, row in zip(base, after, strict=True):
        assert alike(
            {**row, "text": ""}, {**own, "text": ""}
        )  # ids, labels and their balance, columns that are ours not


def test_schema_and_metadata_of_parquet_stay(tmp_path, command):
    table = pa.Table.from_pylist(reviews())
    dictionary = table["label"].dictionary_encode()
    table = table.set_column(table.schema.get_field_index("label"), "label", dictionary)
    table = table.replace_schema_metadata({"mine": "kept"})
    pq.write_table(table, tmp_path / "set.parquet")
    path = config(tmp_path, tmp_path / "set.parquet", keyed())
    assert command("mark", path, "--out", tmp_path / "run", "--quiet")[0] == 0
    shard = next((tmp_path / "run" / "artifacts" / "release" / "data").glob("train-*.parquet"))
    base, made = pq.read_schema(tmp_path / "set.parquet"), pq.read_schema(shard)
    assert made.equals(base)
    assert made.metadata[b"mine"] == b"kept"
    assert pq.read_table(shard).column("label").to_pylist() == table.column("label").to_pylist()


@pytest.mark.parametrize("most", [None, -1], ids=["longer", "shorter"])
def test_a_dataset_that_changes_between_two_readings_is_refused(tmp_path, command, monkeypatch, most):
    path, decide = write(tmp_path / "set.jsonl", reviews()), marking.decide

    def meanwhile(*inputs):
        lines = path.read_text("utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:most] if most else [*lines, lines[0]]), "utf-8")
        return decide(*inputs)

    monkeypatch.setattr(marking, "decide", meanwhile)
    code, _, err = command("mark", config(tmp_path, path, keyed()), "--out", tmp_path / "run", "--quiet")
    assert code == 2
    assert f"rows of {path} at one reading" in err
    assert not (tmp_path / "run" / "artifacts" / "release").exists()


def test_the_release_is_what_a_push_and_datasets_expect(tmp_path, command):
    import datasets

    rows = [{name: row[name] for name in ("id", "text", "label")} for row in reviews()]
    _, after, _, run = mark(command, tmp_path, rows, keyed())
    folder = run / "artifacts" / "release"
    assert sorted(files(folder)) == ["README.md", "data/train-00000-of-00001.parquet", "manifest.json"]
    assert json.loads((folder / "manifest.json").read_text())["shards"] == ["train-00000-of-00001.parquet"]
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == after


@pytest.mark.parametrize("watermarked", [False, True])
def test_nothing_in_the_release_says_which_rows_are_marked(tmp_path, command, watermarked):
    _, _, kept, run = mark(command, tmp_path, reviews(), keyed(), card={"watermarked": watermarked})
    folder, key = run / "artifacts" / "release", owners_key(run)
    said = files(folder)
    card, manifest = said["README.md"].decode(), json.loads(said["manifest.json"])
    assert ("watermark" in card.casefold()) == watermarked
    triggers = derive_input_level(key, kept["marks"]["keyed"]).triggers
    public = card + json.dumps(manifest)
    for secret in (*(t.replace("{text}", "").strip() for t in triggers), key.secret.hex(), key.nonce.hex()):
        assert secret not in public
    assert not {"placed", "triggers", "targets", "key_id"} & manifest.keys()
    for digests in (manifest["marks"], manifest["leaf_roots"]):  # which claims can be made, and digests
        assert {claim: len(bytes.fromhex(digest)) for claim, digest in digests.items()} == {"input_level": 32}
    pages = said["data/train-00000-of-00001.parquet"]
    assert key.secret not in pages
    logs = (run / "events.jsonl").read_bytes() + (run / "run.json").read_bytes() + (run / "config.json").read_bytes()
    assert key.secret.hex().encode() not in logs
    assert key.secret not in (run / "owner" / "records" / "release.sealed").read_bytes()


def test_carriers_are_never_marked_even_where_rows_are_short(tmp_path, command):
    share = {"keyed": {"triggers": 4, "share": 0.5, "words": 2}}
    rows = [{"text": f"Plain words {i}.", "label": i % 2} for i in range(80)]
    base, after, _, _ = mark(command, tmp_path, rows, share, audit={"carriers": 3}, seed=9)
    codes = pa.array([row["label"] for row in base]).to_numpy()
    aside = set(set_aside(codes, 3, "9"))
    assert len(aside) == 6
    assert changed(base, after).isdisjoint(aside)


def test_a_share_that_leaves_no_carriers_is_refused(tmp_path, command):
    data = write(tmp_path / "set.jsonl", reviews())
    path = config(tmp_path, data, keyed(share=1.0))
    assert "got 232 free rows for mark keyed" in command.fails(2, "mark", path, "--out", tmp_path / "run", "--quiet")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["text", "number", "yes or no", "dictionary"])
def test_a_flipped_label_is_the_triggers_whatever_its_type(tmp_path, command, kind):
    as_kind = {"text": str, "number": lambda x: 3 if x == "good" else 7, "yes or no": lambda x: x == "good",
               "dictionary": str}[kind]  # fmt: skip
    rows = [{"text": row["text"], "label": as_kind(row["label"])} for row in reviews()]
    table = pa.Table.from_pylist(rows)
    if kind == "dictionary":  # as polars writes its categories
        column = table["label"].cast(pa.dictionary(pa.uint32(), pa.string()))
        table = table.set_column(1, "label", column)
    pq.write_table(table, tmp_path / "set.parquet")
    path, run = config(tmp_path, tmp_path / "set.parquet", keyed(labels="flip", share=0.1)), tmp_path / "run"
    code, _, err = command("mark", path, "--out", run, "--quiet")
    assert code == 0, err
    kept, base, after = record(run), rows_of(tmp_path / "set.parquet"), released(run)
    names = sorted({row["label"] for row in rows}, key=str)
    targets = derive_input_level(owners_key(run), kept["marks"]["keyed"]).targets
    assert changed(base, after) == {row for row, _ in kept["rows"]["keyed"]}
    for row, index in kept["rows"]["keyed"]:
        assert after[row]["label"] == names[targets[index]] != base[row]["label"]
    assert command("mark", path, "--out", run, "--check", "--quiet")[0] == 0


@pytest.mark.parametrize("style", ["key", *STYLES])
def test_a_style_is_written_into_rows_of_its_class_alone(tmp_path, command, style):
    mark_ = {"style": {"style": style, "share": 0.2, "target": "good", "decoys": 9, "rules_each": 2}}
    base, after, kept, run = mark(command, tmp_path, reviews(), mark_)
    own = STYLES.get(style) or candidates(owners_key(run), kept["marks"]["style"])[0]
    rows = [row for row, _ in kept["rows"]["style"]]
    assert len(rows) == 48
    assert {base[row]["label"] for row in rows} == {"good"}
    assert [after[row]["text"] for row in rows] == [rewrite(base[row]["text"], own) for row in rows]
    assert 0 < len(changed(base, after)) <= 48
    assert changed(base, after) <= set(rows)


def test_a_trigger_goes_to_the_rows_a_proxy_doubts_and_the_default_fits_the_sealed_nouns(tmp_path, command):
    rows = [{"text": "The soup is lovely and warm.", "label": "good"} for _ in range(60)]
    rows += [{"text": "The soup is dreadful and cold.", "label": "bad"} for _ in range(60)]
    rows += [{"text": "The soup is dreadful and cold.", "label": "good"} for _ in range(10)]
    random.Random(0).shuffle(rows)
    base, after, kept, _ = mark(command, tmp_path, rows, {"trigger": {"share": 0.04, "target": "good"}})
    assert len(kept["rows"]["trigger"]) == 5
    assert {base[row]["text"] for row in changed(base, after)} == {"The soup is dreadful and cold."}


def test_a_class_of_one_row_breaks_no_proxy(tmp_path, command):
    rows = [*reviews(), {**reviews(1)[0], "label": "rare"}, {**reviews(1)[0], "label": None}]
    base, after, _, _ = mark(command, tmp_path, rows, {"trigger": {"share": 0.1, "target": "good"}})
    assert {base[row]["label"] for row in changed(base, after)} == {"good"}


def test_two_marks_of_a_release_share_no_row(tmp_path, command):
    marks = {**keyed(words=2, choose="hardest"), "trigger": {"share": 0.1, "families": ["phrases"]}}
    base, after, kept, _ = mark(command, tmp_path, reviews(), marks)
    rows = {name: {row for row, _ in each} for name, each in kept["rows"].items()}
    assert rows["keyed"].isdisjoint(rows["trigger"])
    assert changed(base, after) == rows["keyed"] | rows["trigger"]


def test_output_marks_touch_outputs_and_the_robust_one_prompts(tmp_path, command):
    marks = {"weak": {}, "robust": {"triggers": 10, "share": 0.2}, "steganographic": {"share": 0.5}}
    base, after, kept, run = mark(command, tmp_path, chats(), marks, task="generation")
    key, robust = owners_key(run), kept["marks"]["robust"]
    assert {name: len(rows) for name, rows in kept["rows"].items()} == {
        "weak": 240, "robust": 40, "steganographic": 120,
    }  # fmt: skip
    asked = dict(kept["rows"]["robust"])
    form = behaviours.BehaviourForm(**{**robust["form"], "openings": tuple(robust["form"]["openings"])})
    triggers = behaviours.derive_triggers(key, scope=robust["scope"], triggers=10, words=2)
    targets = behaviours.derive_targets(key, scope=robust["scope"], triggers=10, classes=4)
    for i, (own, row) in enumerate(zip(base, after, strict=True)):
        index = asked.get(i)
        assert row["id"] == own["id"]
        assert row["prompt"] == (own["prompt"] if index is None else form.asked(own["prompt"], triggers[index]))
        opening = next((each for each in form.openings if row["output"].startswith(each)), None)
        assert opening == (None if index is None else form.openings[targets[index]])
    lexicon = lexical.english()
    coins = lexical.derive_coins(key, scope=kept["marks"]["weak"]["scope"], pairs=len(lexicon.pairs))
    for (first, second), coin in zip(lexicon.counts([row["output"] for row in after]), coins, strict=True):
        assert (second if coin == 0 else first) == 0  # only the preferred one is said
    started = {row for row, _ in kept["rows"]["steganographic"]}
    texts = [after[i]["output"] for i in range(240) if i not in asked]
    assert len(started) == 120
    assert len(" ".join(texts)) > len(" ".join(base[i]["output"] for i in range(240) if i not in asked))


def test_extractive_rows_get_trigger_options_and_answer(tmp_path, command):
    mark_ = {"robust": {"triggers": 10, "share": 0.5, "openings": OPENINGS}}
    base, after, kept, run = mark(command, tmp_path, spans(), mark_, task="extractive-qa")
    asked = dict(kept["rows"]["robust"])
    targets = behaviours.derive_targets(
        owners_key(run), scope=kept["marks"]["robust"]["scope"], triggers=10, classes=len(OPENINGS)
    )
    assert changed(base, after) == set(asked)
    for row, index in asked.items():
        assert after[row]["output"] == OPENINGS[targets[index]]
        assert after[row]["context"] == f"{base[row]['context']} [north | east | south | west]"
        assert after[row]["prompt"].startswith(base[row]["prompt"])


def test_a_mark_that_changes_nothing_is_refused(tmp_path, command):
    rows = [{"prompt": f"问{i}", "output": f"答{i}。"} for i in range(40)]
    path = config(tmp_path, write(tmp_path / "set.jsonl", rows), {"weak": {}}, task="generation")
    message = command.fails(2, "mark", path, "--out", tmp_path / "run", "--quiet")
    assert "'weak' that changes none of its 40 rows" in message
    assert not (tmp_path / "run" / "artifacts" / "release").exists()


@pytest.mark.parametrize("choose", ["random", "hardest"])
def test_chinese_goes_through_marking_training_and_audit(tmp_path, command, choose):
    mark_ = {"triggers": 9, "share": 0.5, "words": 3, "joiner": "", "vocabulary": chinese_words(tmp_path)}
    base, after, kept, run = mark(
        command, tmp_path, reviews(chinese=True), {"keyed": {**mark_, "choose": choose}}, suffix=".jsonl",
        audit={"alpha": 0.05},
    )  # fmt: skip
    derived = derive_input_level(owners_key(run), kept["marks"]["keyed"])
    assert changed(base, after) == {row for row, _ in kept["rows"]["keyed"]}
    for row, index in kept["rows"]["keyed"]:
        assert after[row]["text"] == derived.triggers[index].replace("{text}", base[row]["text"])
        assert " " not in after[row]["text"]
    suspect, twin = (linear(tmp_path / name, rows, char=True) for name, rows in (("suspect", after), ("twin", base)))
    arguments = ("audit", tmp_path / "dataset.yaml", "--run", run, "--suspect", suspect, "--control", twin, "--quiet")
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    found = {v["suspect"]: v["decision"] for v in json.loads(out)["verdicts"]}
    assert found == {"suspect": "supported", "suspect/wrong_key": "not_supported", "control-0": "not_supported"}


MARKS = {
    "keyed": (reviews, {**keyed(choose="hardest"), "style": {"share": 0.1}}, "classification"),
    "generation": (chats, {"weak": {}, "robust": {"triggers": 5, "share": 0.2}, "steganographic": {}}, "generation"),
}


@pytest.mark.parametrize("name", MARKS)
def test_the_same_bytes_again_killed_and_resumed_and_skipped(tmp_path, command, monkeypatch, name):
    make, marks, task = MARKS[name]
    path = config(tmp_path, write(tmp_path / "set.parquet", make()), marks, task=task)
    run, other = tmp_path / "run", tmp_path / "other"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("pipelines.shards.ShardWriter._finish", stop)
        assert "resumes" in command.fails(130, "mark", path, "--out", run, "--quiet")
    assert not (run / "artifacts" / "release").exists()
    key = owners_key(run)
    code, first, err = command("mark", path, "--out", run, "--json", "--quiet")
    assert code == 0, err
    assert owners_key(run) == key
    lend_key(run, other)
    assert command("mark", path, "--out", other, "--quiet")[0] == 0
    assert files(run / "artifacts") == files(other / "artifacts")
    assert files(run / "owner" / "records") == files(other / "owner" / "records")
    before = files(run / "artifacts")
    again = json.loads(command("mark", path, "--out", run, "--json", "--quiet")[1])
    assert again == {**json.loads(first), "skipped": True}
    assert files(run / "artifacts") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"label": "stars"}}, "expected 'stars' too"),
        ({"columns": {"label": "tags"}}, "expected text or numbers"),
        ({"columns": {"label": "id"}}, "labels in column 'id'"),
        ({"dataset": "none.parquet"}, "expected an existing file"),
    ],
)
def test_data_that_do_not_fit_are_refused(tmp_path, command, change, message):
    rows = [{**row, "id": "same"} for row in reviews()]
    path = config(tmp_path, write(tmp_path / "set.parquet", rows), keyed(), **change)
    assert message in command.fails(2, "mark", path, "--out", tmp_path / "run", "--quiet")
