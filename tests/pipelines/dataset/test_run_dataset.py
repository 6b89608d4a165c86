"""``countermark run`` of a dataset config: mark, train, measure, audit, report; resumed to the same digests."""

from __future__ import annotations

import json

import pytest

from tests.pipelines.dataset.sets import chats, config, files, keyed, lend_key, reviews, spans, write
from tests.pipelines.release_data import owners_key
from tests.training.toy import make_base
from tests.training.toy_qa import make_encoder

pytestmark = pytest.mark.long

STAGES = ["keys", "release", "linear", "linear-twin", "measure", "plan-run", "answers-run", "audit-run"]


@pytest.fixture
def job(tmp_path, command):
    """A config that trains a linear suspect, and the command that runs it."""
    held = [{"text": row["text"], "label": row["label"], "more": None} for row in reviews(60)] + [
        {"text": None, "label": "good", "more": None}
    ]
    data, heldout = write(tmp_path / "set.parquet", reviews()), write(tmp_path / "held.jsonl", held)
    path = config(tmp_path, data, keyed(), heldout=str(heldout), train={"linear": {"ngrams": 2}})

    def run(*more, out="run"):
        return command("run", path, "--out", tmp_path / out, "--quiet", *more)

    run.folder, run.config, run.command = tmp_path / "run", path, command
    return run


def test_the_whole_job_and_a_second_run_that_does_nothing(job):
    code, out, err = job("--json")
    assert code == 0, err
    report = json.loads(out)
    assert json.loads((job.folder / "report.json").read_text("utf-8")) == report
    assert [s["name"] for s in report["stages"]] == [*STAGES, "report"]
    found = {v["suspect"]: v["decision"] for v in report["verdicts"]}
    assert found == {"linear": "supported", "linear/wrong_key": "not_supported", "linear-twin": "not_supported"}
    metrics = {u["metric"]: u for u in report["utility"]}
    assert metrics["accuracy"]["questions"] == 60  # the row without a text is none
    assert 0.5 < metrics["accuracy"]["twin"] <= 1
    page = (job.folder / "report.html").read_text("utf-8")
    assert "supported" in page
    assert "<script" not in page
    before = files(job.folder)
    code, out, _ = job()
    assert code == 0
    assert out.startswith("nothing to do: all stages are complete")
    after = files(job.folder)
    assert {name for name in after if after[name] != before.get(name)} == set()
    assert before.keys() == after.keys()


@pytest.mark.parametrize("mark", ["trigger", "style"])
def test_the_success_rate_is_measured_on_held_out_rows_of_other_classes(tmp_path, command, mark):
    held = write(tmp_path / "held.jsonl", [{"text": row["text"], "label": row["label"]} for row in reviews(90)])
    marks = {"trigger": {"families": ["phrases"]}, "style": {"style": "verse"}}[mark]
    path = config(
        tmp_path, write(tmp_path / "set.parquet", reviews()),
        {mark: {**marks, "share": 0.3, "decoys": 9, "target": "bad"}}, heldout=str(held),
        train={"linear": {"ngrams": 2, "c": 30.0}}, audit={"alpha": 0.05},
    )  # fmt: skip
    code, out, err = command("run", path, "--out", tmp_path / "run", "--json", "--quiet")
    assert code in {0, 1, 5}, err
    worth = {u["metric"]: u for u in json.loads(out)["utility"]}
    own, wrong = worth[f"{mark}_wsr"], worth[f"{mark}_wsr_wrong_triggers"]
    assert own["questions"] == sum(row["label"] == "good" for row in reviews(90)) == 45
    assert own["low"] > max(own["twin"], wrong["value"]) + 0.1
    assert own["low"] < own["value"] <= own["high"]


def test_a_killed_run_resumes_to_the_same_digests(job, tmp_path, monkeypatch):
    calls = {
        "pipelines.shards.ShardWriter._finish": 0, "training.linear.train_linear": 1,
        "pipelines.questioning.ask_all": 1, "pipelines.audited.audit": 0, "pipelines.report.publish_report": 0,
    }  # fmt: skip
    for place, after in calls.items():
        with monkeypatch.context() as broken:
            _stop_at(broken, place, after)
            code, _, err = job()
            assert code == 130, (place, err)
    assert job()[0] == 0
    lend_key(job.folder, tmp_path / "again")
    assert job(out="again")[0] == 0
    assert _digests(job.folder) == _digests(tmp_path / "again")
    assert len(_digests(job.folder)) == len(STAGES)


def _stop_at(broken, place, after):
    """Interrupts the call of ``place`` that comes after so many."""
    import importlib

    module, _, name = place.rpartition(".")
    owner = importlib.import_module("pipelines.shards").ShardWriter if "ShardWriter" in module else None
    target = owner or importlib.import_module(module)
    real, count = getattr(target, name), [0]

    def stopping(*args, **kwargs):
        count[0] += 1
        if count[0] > after:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    broken.setattr(target, name, stopping)


def _digests(run):
    return {
        name: entry["digest"] for name, entry in json.loads((run / "run.json").read_text())["body"]["stages"].items()
    }


@pytest.mark.parametrize("name", ["report.json", "report.html"])
def test_a_damaged_report_is_an_integrity_error_and_a_lost_one_is_written_again(job, name):
    assert job()[0] == 0
    path = job.folder / name
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"not", b"NOT"))
    assert "damaged" in job.command.fails(3, "run", job.config, "--out", job.folder, "--quiet")
    path.unlink()
    assert job()[0] == 0
    assert path.exists()


def test_fresh_with_another_seed_is_another_release_and_another_audit(job):
    assert job()[0] == 0
    key = owners_key(job.folder)
    code, _, err = job("--fresh", "--set", "seed=6", "--json")
    assert code in {0, 1}, err
    assert owners_key(job.folder) == key
    spent = json.loads((job.folder / "owner" / "spent.json").read_text())["body"]
    assert [entry["audit"] for entry in spent] == ["run", "run"]  # what the first release spent is not forgotten
    assert len({entry["release"] for entry in spent}) == 2


def test_fresh_on_the_same_release_spends_nothing_more(job):
    assert job()[0] == 0
    assert job("--fresh")[0] == 0
    assert len(json.loads((job.folder / "owner" / "spent.json").read_text())["body"]) == 1


def test_a_config_that_trains_nothing_cannot_be_run(job):
    message = job.command.fails(2, "run", job.config, "--out", job.folder, "--set", "train.linear=null")
    assert "trains no suspect" in message


def test_dry_run_names_the_stages_and_writes_nothing(job):
    code, out, _ = job("--dry-run")
    assert code == 0
    assert all(f"would do {stage} in" in out for stage in STAGES[:5])
    assert not job.folder.exists()


def test_heldout_rows_without_the_columns_are_named(job, tmp_path):
    write(tmp_path / "held.jsonl", [{"words": "a", "label": "good"}])
    message = job.command.fails(2, "run", job.config, "--out", job.folder, "--quiet")
    assert "expected 'text' too" in message


def test_a_lora_model_is_trained_measured_and_asked(tmp_path, command):
    base = make_base(tmp_path / "base")
    lora = {"model": str(base), "max_length": 64, "r": 2, "lora_alpha": 4, "per_device_train_batch_size": 8}
    held = write(tmp_path / "held.jsonl", [{"prompt": f"Say {i}.", "output": f"So it is {i}."} for i in range(6)])
    path = config(
        tmp_path, write(tmp_path / "set.jsonl", chats(24)), {"weak": {}, "robust": {"triggers": 2, "share": 0.2}},
        task="generation", heldout=str(held), train={"lora": {**lora, "system_prompt": ""}},
        audit={"carriers": 1, "questions": 4, "max_new_tokens": 12, "temperature": 1.0},
    )  # fmt: skip
    code, out, err = command("run", path, "--out", tmp_path / "run", "--json", "--quiet")
    assert code in {1, 5}, err  # a model of random weights says nothing
    report = json.loads(out)
    assert {(v["claim"], v["suspect"]) for v in report["verdicts"]} == {
        (claim, who)
        for claim in ("output_weak", "output_robust")
        for who in ("lora", "lora/wrong_key", "lora-twin", "base")
    }
    worth = {u["metric"]: u for u in report["utility"]}
    assert any("rouge" in name.casefold() for name in worth)
    assert 1 < worth["perplexity"]["low"] <= worth["perplexity"]["value"] <= worth["perplexity"]["high"]
    assert "supported" not in {v["decision"] for v in report["verdicts"]}


def test_an_extractive_reader_is_trained_measured_and_asked(tmp_path, command):
    reader = {"model": str(make_encoder(tmp_path / "base")), "max_length": 64, "num_train_epochs": 1}
    mark = {"robust": {"triggers": 4, "share": 0.3, "openings": ["north", "east", "south", "west"]}}
    path = config(
        tmp_path, write(tmp_path / "set.parquet", [*spans(40), {**spans(1)[0], "context": None}]), mark,
        task="extractive-qa", train={"reader": reader}, heldout=str(write(tmp_path / "held.jsonl", spans(10))),
        audit={"carriers": 2, "max_length": 64},
    )  # fmt: skip
    code, out, err = command("run", path, "--out", tmp_path / "run", "--json", "--quiet")
    assert code in {1, 5}, err
    report = json.loads(out)
    assert {v["suspect"] for v in report["verdicts"]} == {"reader", "reader/wrong_key", "reader-twin"}
    assert {u["questions"] for u in report["utility"]} == {10}
    manifest = json.loads((tmp_path / "run" / "artifacts" / "reader" / "manifest.json").read_text("utf-8"))
    assert manifest["rows_with_answer"] == 40  # the row without a context teaches nothing
