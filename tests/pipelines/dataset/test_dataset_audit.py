"""``countermark audit`` of a dataset release: what supports a claim, what never does, and what is no evidence."""

from __future__ import annotations

import json

import pytest
from scipy.stats import binom

from countermark.errors import InconclusiveError
from countermark.manifest import canonical_json, digest
from pipelines.asked import Access, Asked
from pipelines.dataset.carriers import carriers
from pipelines.dataset.config import load_dataset_config
from pipelines.dataset.marks import parameters
from pipelines.dataset.rows import open_source, read_labels
from pipelines.spending import check_unopened
from tests.pipelines.dataset.sets import (
    ROWS,
    Parrot,
    chats,
    config,
    keyed,
    linear,
    parrot,
    record,
    released,
    reviews,
    rows_of,
    spans,
    write,
)
from tests.pipelines.release_data import owners_key
from tests.support import key_of
from verification.claims import derive_input_level
from verification.one_trigger import candidates
from verification.probe import majority
from verification.readers import LinearClassifier
from verification.statistics import rank_p
from watermarks.carriers.triggers import applied

pytestmark = pytest.mark.long


@pytest.fixture
def release(tmp_path, command):
    """A set marked with room for two audits, and the command that audits a suspect of it."""
    data = write(tmp_path / "set.parquet", reviews())
    path = config(tmp_path, data, keyed(), audit={"audits": 2})
    run = tmp_path / "run"
    assert command("mark", path, "--out", run, "--quiet")[0] == 0

    def audit(suspect, *more, fails=None, where=run):
        arguments = ("audit", path, "--run", where, "--suspect", suspect, "--quiet", *more)
        return command.fails(fails, *arguments) if fails is not None else command(*arguments)

    audit.run, audit.data, audit.config = run, data, path
    return audit


def verdicts_of(out):
    return {(v["claim"], v["suspect"]): v for v in json.loads(out)["verdicts"]}


def test_nobody_but_the_owner_knows_the_controls_before_they_are_asked(release, tmp_path):
    suspect = linear(tmp_path / "suspect", released(release.run))
    owner, seeds = owners_key(release.run), []
    for name in ("one", "two"):
        release(suspect, "--name", name)
        plan = json.loads((release.run / "artifacts" / f"plan-{name}" / "plan.json").read_text())
        seeds.append(plan["wrong_key_seed"])
    sha = plan["commitment"]["sha256"]
    assert seeds == [owner.wrong_key_seed(sha, 0), owner.wrong_key_seed(sha, 1)]
    assert len({*seeds, digest({"wrong_keys_of": sha}), key_of("somebody").wrong_key_seed(sha)}) == 4


def test_evidence_that_opens_the_key_is_the_last_under_that_key(release, tmp_path):
    suspect = linear(tmp_path / "suspect", released(release.run))
    arguments = ("--name", "one", "--open", "key", "--out", tmp_path / "bundle")
    code, _, err = release(suspect, *arguments)
    assert code == 0, err
    assert "the evidence of audit 'one' has made public" in release(suspect, "--name", "two", fails=5)
    assert not (release.run / "artifacts" / "plan-two").exists()
    assert release(suspect, *arguments)[0] == 0  # what was proved stays proved
    spent = json.loads((release.run / "owner" / "spent.json").read_text())["body"]
    (first,) = spent
    with pytest.raises(InconclusiveError, match="has made public"):  # another release, an audit of the same name
        check_unopened(release.run / "owner" / "spent.json", "one", first["opened"], release="0" * 64)


def test_a_model_of_the_release_is_supported_and_its_twin_is_not(release, tmp_path):
    suspect, twin = (
        linear(tmp_path / "suspect", released(release.run)),
        linear(tmp_path / "twin", rows_of(release.data)),
    )
    code, out, err = release(suspect, "--control", twin, "--json")
    assert code == 0, err
    found = verdicts_of(out)
    own = found["input_level", "suspect"]
    assert (own["decision"], own["trials"], own["queries"]) == ("supported", 12, 12 * 8)
    assert own["successes"] >= 11
    assert {v["decision"] for (_, who), v in found.items() if who != "suspect"} == {"not_supported"}
    assert set(found) == {("input_level", who) for who in ("suspect", "suspect/wrong_key", "control-0")}
    code, out, _ = release(twin, "--name", "twin", "--json")
    assert (code, verdicts_of(out)["input_level", "suspect"]["decision"]) == (1, "not_supported")


def test_a_model_of_a_release_under_another_key_is_not_supported(release, tmp_path, command):
    other = tmp_path / "other"
    assert command("mark", release.config, "--out", other, "--quiet")[0] == 0
    assert released(other) != released(release.run)
    assert release(linear(tmp_path / "suspect", released(other)))[0] == 1
    assert release(linear(tmp_path / "mine", released(other)), where=other)[0] == 0


def test_a_second_audit_shows_other_triggers_and_a_third_is_refused(release, tmp_path):
    suspect = linear(tmp_path / "suspect", released(release.run))
    assert [release(suspect, "--name", name)[0] for name in ("one", "two")] == [0, 0]
    asked = []
    for name in ("one", "two"):
        plan = release.run / "artifacts" / f"plan-{name}"
        prompts = {row["prompt"] for row in rows_of(plan / "input_level.parquet") if row["arm"] == "keyed"}
        asked.append({prompt.split(" The ")[0] for prompt in prompts})
        body = json.loads((plan / "plan.json").read_text("utf-8"))
        assert body["audits_admitted"] == 2  # and paid for, whether they are made or not
    assert [len(each) for each in asked] == [12, 12]
    assert not asked[0] & asked[1]
    before = (release.run / "owner" / "spent.json").read_bytes()
    assert "0 unspent audits of 2" in release(suspect, "--name", "three", fails=5)
    assert (release.run / "owner" / "spent.json").read_bytes() == before
    assert release(suspect, "--name", "one")[0] == 0


def test_every_audit_admitted_and_commitment_made_is_paid_for(release, tmp_path, command):
    suspect, twins = linear(tmp_path / "suspect", released(release.run)), []
    for made in (1, 5):
        run = tmp_path / f"paid{made}"
        ring = ("--keys", release.run / "owner" / "keys.json", "--set", f"keys.commitments_made={made}")
        secret = ("--set", f"keys.passphrase_file={json.dumps(str(release.run / 'owner' / 'passphrase'))}")
        assert command("mark", release.config, "--out", run, "--quiet", *ring, *secret)[0] == 0
        _, out, _ = release(suspect, "--json", *ring, *secret, where=run)
        twins.append(verdicts_of(out)["input_level", "suspect"]["log10_p"])
    assert twins[1] - twins[0] == pytest.approx(0.69897, abs=1e-4)


def test_carriers_are_rows_that_no_mark_touches_whatever_the_key(release, tmp_path, command):
    other = tmp_path / "other"
    assert command("mark", release.config, "--out", other, "--quiet")[0] == 0
    found = []
    for run in (release.run, other):
        assert release(linear(tmp_path / f"m-{run.name}", released(run)), where=run)[0] == 0
        plan = json.loads((run / "artifacts" / "plan-suspect" / "plan.json").read_text("utf-8"))
        carriers = plan["claims"][0]["carriers"]
        found.append(carriers)
        marked = {row for row, _ in record(run)["rows"]["keyed"]}
        base = [row["text"] for row in rows_of(release.data)]
        assert {base.index(text) for text in carriers}.isdisjoint(marked)
        assert set(carriers) <= {row["text"] for row in released(run)}
    assert found[0] == found[1]
    assert len(set(found[0])) == 8


def test_the_number_of_carriers_is_bound_by_the_commitment(release, tmp_path):
    """Chosen after the targets were drawn, it would be a choice among carriers that fit them."""
    body = json.loads((release.run / "config.json").read_text("utf-8"))
    body["body"]["audit"]["carriers"] = 3
    body["sha256"] = digest(body["body"])
    (release.run / "config.json").write_bytes(canonical_json(body))
    suspect = linear(tmp_path / "suspect", released(release.run))
    assert "another marking config" in release(suspect, "--set", "audit.carriers=3", fails=3)


def test_another_dataset_is_an_integrity_error(release, tmp_path):
    suspect = linear(tmp_path / "suspect", released(release.run))
    write(release.data, reviews()[::-1])
    assert "another marking config or dataset" in release(suspect, fails=3)


def test_another_config_is_refused(release, tmp_path):
    suspect = linear(tmp_path / "suspect", released(release.run))
    assert "differs in seed" in release(suspect, "--set", "seed=6", fails=2)


def test_another_key_is_an_integrity_error(release, tmp_path, command):
    suspect = linear(tmp_path / "suspect", released(release.run))
    other = tmp_path / "other"
    assert command("mark", release.config, "--out", other, "--quiet")[0] == 0
    for name in ("keys.json", "passphrase"):
        (release.run / "owner" / name).write_bytes((other / "owner" / name).read_bytes())
    release(suspect, fails=3)


@pytest.mark.parametrize("edited", ["plan-suspect/plan.json", "answers-suspect/answers/input_level/suspect.parquet"])
def test_edited_evidence_is_an_integrity_error(release, tmp_path, edited):
    suspect = linear(tmp_path / "suspect", released(release.run))
    assert release(suspect)[0] == 0
    path = release.run / "artifacts" / edited
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert "damaged" in release(suspect, fails=3)


def test_a_release_that_was_changed_is_no_evidence(release, tmp_path):
    suspect = linear(tmp_path / "suspect", released(release.run))
    shard = next((release.run / "artifacts" / "release" / "data").iterdir())
    write(shard, rows_of(release.data))
    release(suspect, fails=3)


def test_a_suspect_that_cannot_be_read_is_refused(release, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no model")
    assert "config.json or linear.json" in release(tmp_path / "empty", fails=2)


def test_a_single_trigger_is_ranked_once(tmp_path, command):
    data = write(tmp_path / "set.jsonl", reviews())
    mark = {"trigger": {"share": 0.2, "families": ["phrases"], "decoys": 99, "target": "bad"}}
    path, run = config(tmp_path, data, mark, audit={"alpha": 0.05, "audits": 2}), tmp_path / "run"
    assert command("mark", path, "--out", run, "--quiet")[0] == 0
    suspect, twin = linear(tmp_path / "suspect", released(run)), linear(tmp_path / "twin", rows_of(data))
    arguments = ("audit", path, "--run", run, "--suspect", suspect, "--control", twin, "--quiet")
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    own = verdicts_of(out)["input_trigger", "suspect"]
    assert own["decision"] == "supported"
    assert own["log10_p"] == pytest.approx(-2 + 0.30103, abs=1e-3)  # the first of a hundred, twice paid
    assert own["paper"]["wsr"] >= 0.75
    assert own["paper"]["wsr_queries"] == 4  # of the other class alone
    assert "the paper's number, not a false-positive bound" in command(*arguments)[1]
    before = (run / "owner" / "spent.json").read_bytes()
    assert "can still be decided" in command.fails(5, *arguments, "--name", "again")
    assert (run / "owner" / "spent.json").read_bytes() == before  # what cannot be asked spends nothing


def test_a_style_by_name_is_reported_and_never_decided(tmp_path, command):
    data = write(tmp_path / "set.csv", reviews())
    path, run = config(tmp_path, data, {"style": {"style": "archaic", "share": 0.2}}), tmp_path / "run"
    assert command("mark", path, "--out", run, "--quiet")[0] == 0
    suspect = linear(tmp_path / "suspect", released(run))
    code, out, err = command("audit", path, "--run", run, "--suspect", suspect, "--json", "--quiet")
    assert code == 5, err
    (verdict,) = [v for v in json.loads(out)["verdicts"] if not v["control"]]
    assert verdict["decision"] == "inconclusive"
    assert verdict["log10_p"] == 0.0
    assert verdict["paper"]["wsr"] >= 0.5
    assert any("chosen by its owner" in each for each in verdict["assumptions"])


@pytest.fixture
def parrots(monkeypatch):
    monkeypatch.setattr("verification.suspects.LocalChatModel", Parrot)
    monkeypatch.setattr("verification.readers.LocalReader", Parrot)


def test_a_classifier_that_names_its_labels_otherwise_is_not_judged(release, tmp_path):
    """Hugging Face calls them LABEL_0 and LABEL_1 where nobody says more: all its answers would be misses."""
    named = [{**row, "label": f"LABEL_{row['label'] == 'good':d}"} for row in released(release.run)]
    code, out, err = release(linear(tmp_path / "suspect", named))
    assert (code, out) == (2, "")
    assert "with labels LABEL_0, LABEL_1, expected some of the dataset's: bad, good" in err
    assert "id2label" in err


@pytest.mark.parametrize("heldout", [False, True])
def test_output_marks_of_a_model_that_writes_as_the_release_does(tmp_path, command, parrots, heldout):
    data = write(tmp_path / "set.jsonl", chats())
    marks = {"weak": {}, "robust": {"triggers": 10, "share": 0.2}, "steganographic": {}}
    fields = {"task": "generation", "audit": {"questions": 60, "alpha": 0.05}}
    if heldout:
        fields["heldout"] = str(write(tmp_path / "held.csv", [{"prompt": f"Say {i}."} for i in range(70)]))
    path, run = config(tmp_path, data, marks, **fields), tmp_path / "run"
    assert command("mark", path, "--out", run, "--quiet")[0] == 0
    suspect, twin = parrot(tmp_path / "suspect", released(run)), parrot(tmp_path / "twin", rows_of(data))
    code, out, err = command("audit", path, "--run", run, "--suspect", suspect, "--control", twin, "--json", "--quiet")
    assert code in {0, 1}, err
    found = verdicts_of(out)
    assert found["output_robust", "suspect"]["decision"] == "supported"
    assert found["output_robust", "suspect"]["successes"] == 10
    for claim in ("output_weak", "output_steganographic"):
        own, control = found[claim, "suspect"], found[claim, "control-0"]
        assert own["successes"] > own["trials"] / 2
        assert own["log10_p"] < control["log10_p"]
        assert control["decision"] != "supported"
    assert found["output_weak", "suspect"]["log10_p"] < -2
    plan = json.loads((run / "artifacts" / "plan-suspect" / "plan.json").read_text("utf-8"))
    questions = {c["claim"]: c["carriers"] for c in plan["claims"]}
    assert [len(questions[c]) for c in ("output_weak", "output_robust", "output_steganographic")] == [60, 4, 60]
    marked = {row for row, _ in record(run)["rows"]["robust"]}
    prompts = [row["prompt"] for row in rows_of(data)]
    assert not {i for i, prompt in enumerate(prompts) if prompt in questions["output_robust"]} & marked
    assert all(question.startswith("Say") == heldout for question in questions["output_robust"])


@pytest.mark.parametrize("wanted", [40, 41])
def test_fewer_questions_than_asked_for_are_said(tmp_path, command, parrots, wanted):
    data = write(tmp_path / "set.jsonl", chats(40))
    path = config(tmp_path, data, {"weak": {}}, task="generation", audit={"questions": wanted, "alpha": 0.05})
    run, suspect = tmp_path / "run", parrot(tmp_path / "suspect", chats(40))
    assert command("mark", path, "--out", run, "--quiet")[0] == 0
    _, out, err = command("audit", path, "--run", run, "--suspect", suspect)
    assert ("mark weak is asked 40 questions, not 41" in out + err) == (wanted == 41)


def test_questions_are_bound_by_the_commitment(tmp_path, command, parrots):
    data, held = write(tmp_path / "set.jsonl", chats()), tmp_path / "held.jsonl"
    write(held, [{"prompt": f"Say {i}."} for i in range(70)])
    path = config(tmp_path, data, {"robust": {"triggers": 4, "share": 0.2}}, task="generation", heldout=str(held))
    assert command("mark", path, "--out", tmp_path / "run", "--quiet")[0] == 0
    write(held, [{"prompt": f"Say {i}, and answer every (thing) briefly."} for i in range(70)])
    suspect = parrot(tmp_path / "suspect", chats())
    message = command.fails(3, "audit", path, "--run", tmp_path / "run", "--suspect", suspect, "--quiet")
    assert "another marking config or dataset" in message


def test_questions_behind_a_url_are_bound_by_the_manifest(tmp_path, command, parrots):
    data, held = write(tmp_path / "set.jsonl", chats()), write(tmp_path / "held.jsonl", [{"prompt": "Say 1."}] * 70)
    path = config(
        tmp_path, data, {"robust": {"triggers": 4, "share": 0.2}}, task="generation", heldout=f"file://{held}"
    )
    assert command("mark", path, "--out", tmp_path / "run", "--quiet")[0] == 0
    write(held, [{"prompt": f"Say {i}, and answer every (thing) briefly."} for i in range(70)])
    suspect = parrot(tmp_path / "suspect", chats())
    arguments = ("audit", path, "--run", tmp_path / "run", "--suspect", suspect, "--quiet")
    assert "other held-out rows" in command.fails(3, *arguments)


def test_an_extractive_reader_that_learnt_the_release(tmp_path, command, parrots):
    data = write(tmp_path / "set.parquet", spans())
    mark = {"robust": {"triggers": 10, "share": 0.5, "openings": ["north", "east", "south", "west"]}}
    path, run = config(tmp_path, data, mark, task="extractive-qa"), tmp_path / "run"
    assert command("mark", path, "--out", run, "--quiet")[0] == 0
    for name, rows, code in (("suspect", released(run), 0), ("twin", rows_of(data), 1)):
        model = parrot(tmp_path / name, rows)
        found = command("audit", path, "--run", run, "--suspect", model, "--name", f"of-{name}", "--quiet")
        if name == "twin":
            assert found[0] == 5  # one audit was admitted
        else:
            assert found[0] == code, found[2]
    prompts = [row["prompt"] for row in rows_of(run / "artifacts" / "plan-of-suspect" / "output_robust.parquet")]
    assert all("[north | east | south | west]" in prompt.split("\n")[1] for prompt in prompts)


@pytest.fixture
def clean(tmp_path):
    """A classifier that leans to words, and a config whose marks it never saw."""
    data = write(tmp_path / "set.parquet", reviews())
    marks = {**keyed(words=2, families=["words", "phrases"]), "trigger": {"share": 0.1, "decoys": 19}}
    loaded = load_dataset_config(config(tmp_path, data, marks), [])
    suspect = LinearClassifier("clean", linear(tmp_path / "model", rows_of(data)))
    stream = open_source(loaded)
    labels = read_labels(loaded, stream)

    def probes(number):
        """Marks, carriers and what is asked under one key."""
        key = key_of(f"clean/{number}")
        made = parameters(key, loaded, stream, labels)
        texts, _, names = carriers(loaded, "keyed")
        return key, made, texts, names

    return suspect, probes


def test_a_clean_classifier_matches_as_often_as_chance_whatever_the_key(clean):
    suspect, probes = clean
    keys, matches, trials = 60, 0, 0
    for number in range(keys):
        key, marks, texts, names = probes(number)
        derived = derive_input_level(key, marks["keyed"])
        said = suspect.ask([applied(trigger, text) for trigger in derived.triggers for text in texts])
        votes = [majority(said[i : i + len(texts)]) for i in range(0, len(said), len(texts))]
        matches += sum(vote == names[target] for vote, target in zip(votes, derived.targets, strict=True))
        trials += len(votes)
    assert trials == 60 * 12
    assert binom.sf(matches - 1, trials, 0.5) > 1e-3


def test_the_keys_own_trigger_is_no_better_than_its_decoys_to_a_clean_classifier(clean):
    suspect, probes = clean
    ranks = []
    for number in range(60):
        key, marks, texts, names = probes(number)
        mark = marks["trigger"]
        worn = [applied(trigger, text) for trigger in candidates(key, mark) for text in texts]
        said = [answer == names[mark["target"]] for answer in suspect.ask(worn)]
        counts = [sum(said[i : i + len(texts)]) for i in range(0, len(said), len(texts))]
        ranks.append(rank_p(counts[0], counts[1:]))
    for level in (0.05, 0.2, 0.5):
        assert binom.sf(sum(p <= level for p in ranks) - 1, len(ranks), level) > 1e-3


def test_releases_under_one_ring_know_what_each_other_opened(release, tmp_path, command):
    """Evidence of the one lets anybody compute the targets of the other."""
    ring, other = release.run / "owner", tmp_path / "other"
    data = write(tmp_path / "second.parquet", reviews(ROWS - 2))
    shared = ("--keys", ring / "keys.json", "--set", f"keys.passphrase_file={ring / 'passphrase'}")
    mine = ("--config", release.config, "--run", other, "--quiet", *shared)
    assert command("mark", data, *mine)[0] == 0
    suspect = linear(tmp_path / "suspect", released(release.run))
    assert release(suspect, "--name", "one", "--open", "key", "--out", tmp_path / "bundle")[0] == 0
    said = command.fails(5, "audit", data, *mine, "--suspect", linear(tmp_path / "its", released(other)))
    assert "the evidence of audit 'one' has made public" in said


def test_two_folders_of_one_release_share_what_is_spent(release, tmp_path, command):
    ring, other = release.run / "owner", tmp_path / "other"
    shared = ("--keys", ring / "keys.json", "--set", f"keys.passphrase_file={ring / 'passphrase'}")
    assert command("mark", release.config, "--out", other, "--quiet", *shared)[0] == 0
    shards = [next((run / "artifacts" / "release" / "data").iterdir()) for run in (other, release.run)]
    assert shards[0].read_bytes() == shards[1].read_bytes()
    suspect = linear(tmp_path / "suspect", released(release.run))
    assert release(suspect, "--name", "one")[0] == 0
    assert release(suspect, "--name", "two", *shared, where=other)[0] == 0
    assert "0 unspent audits of 2" in release(suspect, "--name", "three", fails=5)


def test_a_plan_seals_template_and_label_mapping(tmp_path):
    """One that was chosen after answers were seen is one of many."""

    def sealed(**files):
        (tmp_path / "file").write_text(files.pop("said", ""))
        access = Access(api="classifier", model="m", **dict.fromkeys(files.values(), tmp_path / "file"))
        return Asked(name="s", model="https://h/v1", access=access).planned(control=False).digest

    maps = ['{"labels": {"a": "b", "b": "a"}}', '{"labels": {"a": "a", "b": "b"}}']
    found = {sealed(), *(sealed(file="mapping", said=text) for text in maps)}
    found |= {sealed(file="template", said=f"{word}: {{text}}") for word in ("Text", "Say movie")}
    assert len(found) == 5
