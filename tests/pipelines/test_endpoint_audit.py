"""``countermark plan audit`` and ``audit`` of a suspect behind a URL, and what the bundle proves to a stranger."""

from __future__ import annotations

import json

import pytest

from countermark.manifest import canonical_json
from tests.pipelines.dataset.sets import lend_key
from tests.pipelines.release_data import Command, Parrot, copies, marked, parrot
from tests.servers import OpenAIServer

pytestmark = pytest.mark.long

pytest.importorskip("openai")
SMALL = {"alpha": 0.02, "wrong_keys": 19, "carriers": 1, "batch_size": 4}


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


class Case:
    """A marked set, a server that learnt acme's copy, a control that learnt nothing, and the command."""

    def __init__(self, tmp_path, command, **changes):
        _, self.config, self.run, _ = marked(command, tmp_path, "alpaca", audit=SMALL, **changes)
        rows = [row for row in copies(self.run)["acme"].rows if "ledger" in row["instruction"]]
        self.learnt = {" ".join(row["input"].split()[-2:]): row["output"] for row in rows}
        self.control, self.command, self.asked = parrot(tmp_path / "control"), command, 0

    def answer(self, prompt):
        self.asked += 1
        return self.learnt.get(" ".join(prompt.split()[-2:]), "Z")

    def arguments(self, url, *more, verb=("audit",)):
        known = ("--run", self.run, "--suspect", url, "--model", "served", "--control", self.control, "--quiet")
        return (*verb, self.config, *known, *more)

    def audit(self, url, *more):
        return self.command(*self.arguments(url, *more))

    def fails(self, code, url, *more):
        return self.command.fails(code, *self.arguments(url, *more))


@pytest.fixture
def case(tmp_path, command, monkeypatch):
    monkeypatch.setattr("verification.suspects.LocalChatModel", Parrot)
    return Case(tmp_path, command)


def test_a_served_copy_is_found_and_a_stranger_can_check_it(case, command, tmp_path):
    with OpenAIServer(case.answer) as server:
        code, out, err = case.audit(server.url, "--json", "--out", tmp_path / "bundle")
        assert code == 0, err
        asked = len(server.arrived)
        assert case.audit(server.url, "--json", "--out", tmp_path / "bundle")[:2] == (0, out)
        assert len(server.arrived) == asked
    said = json.loads(out)
    verdict = next(v for v in said["verdicts"] if v["suspect"] == "suspect")
    assert verdict["sequential"]["stopped"] == "alpha"
    assert verdict["sequential"]["triggers"] < verdict["sequential"]["planned"]
    assert verdict["recipients"]["named"] == ["acme"]
    assert verdict["drift"]["word"] == "unchanged"
    assert "exploratory" in verdict["sentence"].casefold()  # nothing dates the commitment
    code, checked, _ = command("verify", tmp_path / "bundle", "--json", "--signer", said["evidence"]["signer"])
    assert code == 0
    assert json.loads(checked)["bundle"] == said["evidence"]["digest"]
    assert json.loads(checked)["verdicts"] == said["verdicts"]
    opening = json.loads((tmp_path / "bundle" / "opening.json").read_bytes())
    assert opening["kind"] == "leaves"
    assert {leaf["index"] for leaf in opening["claims"]["double_i"]["leaves"]} == set(range(6))
    assert (tmp_path / "bundle" / "report.html").read_text().startswith("<!doctype html>")
    assert "supported" in command("verify", tmp_path / "bundle")[1]
    assert "ab" * 32 in command.fails(3, "verify", tmp_path / "bundle", "--signer", "ab" * 32)


def test_a_changed_bundle_is_refused(case, command, tmp_path):
    with OpenAIServer(case.answer) as server:
        assert case.audit(server.url, "--out", tmp_path / "bundle")[0] == 0
    path = tmp_path / "bundle" / "results.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"supported"', b'"not_supported"'))
    assert "error: " in command.fails(3, "verify", tmp_path / "bundle")


def test_a_killed_audit_asks_nothing_twice_and_gives_the_same_bundle(case, tmp_path):
    broken = True
    with OpenAIServer(case.answer, fault=lambda *_: "broken" if broken and case.asked >= 7 else "") as server:
        more = ("--concurrency", 1, "--retries", 0)
        assert "what it said is kept" in case.fails(4, server.url, *more)
        broken = False
        assert case.audit(server.url, *more, "--out", tmp_path / "one")[0] == 0
        assert set(server.computed.values()) == {1}
        lend_key(case.run, tmp_path / "again")
        case.run = tmp_path / "again"
        assert case.command("mark", case.config, "--out", case.run, "--quiet")[0] == 0
        assert case.audit(server.url, *more, "--out", tmp_path / "two")[0] == 0
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_draft_shows_power_and_cost_and_spends_nothing(case):
    with OpenAIServer(case.answer) as server:
        arguments = case.arguments(server.url, "--dry-run", "--prices", "1,2", verb=("plan", "audit"))
        code, out, err = case.command(*arguments)
        assert code == 0, err
        assert "nothing is sealed" in out
        assert "keyed e-process" in out
        assert "queries, about" in out
        assert json.loads(case.command(*arguments, "--json")[1])["cost"]["suspect"]["queries"] == 12
        plot = case.run.parent / "power.svg"
        assert case.command(*arguments, "--plot", plot)[0] == 0
        assert plot.read_text().startswith("<svg")
        assert not server.arrived
        assert not (case.run / "owner" / "spent.json").exists()
        assert not (case.run / "owner" / "audit-signer.key").exists()
        code, out, _ = case.command(*case.arguments(server.url, verb=("plan", "audit")))
        assert code == 0
        assert "sealed as" in out
        assert not server.arrived
        assert (case.run / "owner" / "spent.json").exists()
        assert case.audit(server.url)[0] == 0


def test_a_budget_is_kept_and_what_it_cannot_show_is_inconclusive(case):
    with OpenAIServer(case.answer) as server:
        assert "canaries" in case.fails(2, server.url, "--max-queries", 3, "--name", "none")
        code, out, err = case.audit(server.url, "--max-queries", 7, "--json", "--name", "few")
        assert code == 5, err
        assert len(server.arrived) == 7
    verdict = next(v for v in json.loads(out)["verdicts"] if v["suspect"] == "suspect")
    assert "budget ended" in verdict["reasons"][0]


def test_first_mistakes_are_named_with_their_remedy(case, tmp_path):
    assert "onnect" in case.fails(4, "http://127.0.0.1:9/v1", "--retries", 0)
    with OpenAIServer(case.answer, key="right") as server:
        (key := tmp_path / "key").write_text("wrong")
        key.chmod(0o600)
        message = case.fails(4, server.url, "--api-key-file", key, "--retries", 0, "--name", "key")
        assert "401" in message
        key.chmod(0o644)
        assert "chmod 600" in case.fails(2, server.url, "--api-key-file", key, "--name", "key")
    known = ("--run", case.run, "--suspect", "http://127.0.0.1:9/v1", "--control", case.control, "--quiet")
    assert "--model" in case.command.fails(2, "audit", case.config, *known)


def test_a_plan_that_was_edited_after_sealing_is_refused(case):
    with OpenAIServer(case.answer) as server:
        case.command(*case.arguments(server.url, verb=("plan", "audit")))
        path = case.run / "artifacts" / "plan-suspect" / "plan.json"
        body = json.loads(path.read_bytes())
        path.chmod(0o644)
        path.write_bytes(canonical_json({**body, "alpha": 0.4}))
        assert "error: " in case.fails(3, server.url)
        assert not server.arrived


def test_an_audit_goes_on_as_it_was_sealed(case):
    with OpenAIServer(case.answer) as server:
        case.command(*case.arguments(server.url, verb=("plan", "audit")))
        assert "--name" in case.fails(2, server.url, "--fixed-n")
        assert case.audit(server.url)[0] == 0


def test_recorded_answers_are_judged_like_any_other(case, tmp_path):
    with OpenAIServer(case.answer) as server:
        assert case.audit(server.url, "--fixed-n")[0] == 0
    transcript = (case.run / "artifacts" / "answers-suspect" / "transcripts" / "suspect.jsonl").read_text()
    said = [json.loads(line) for line in transcript.splitlines()]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"prompt_digest": s["prompt_digest"], "raw": "Z."}) + "\n" for s in said))
    message = case.fails(2, f"recorded:{answers}", "--name", "again")
    assert "no recorded answer" in message  # another audit has other triggers: old answers say nothing about them


def test_a_ledger_that_held_commitment_release_and_plan_makes_it_confirmatory(tmp_path, command, monkeypatch):
    monkeypatch.setattr("verification.suspects.LocalChatModel", Parrot)
    ledger, key = tmp_path / "log.db", tmp_path / "sign.key"
    assert command("ledger", "init", ledger, "--key", key, "--name", "example.com/log")[0] == 0
    case = Case(tmp_path, command, keys={"ledger": str(ledger)})
    with OpenAIServer(case.answer) as server:
        known = ("--suspect-released", "2100-01-01")
        assert command(*case.arguments(server.url, *known, verb=("plan", "audit")))[0] == 0
        assert command("ledger", "checkpoint", ledger, "--key", key)[0] == 0
        assert "--ledger-key" in case.fails(2, server.url, *known)
        known = (*known, "--ledger-key", f"{key}.pub")
        code, out, err = case.audit(server.url, *known, "--json", "--out", tmp_path / "bundle")
    assert code == 0, err
    verdict = json.loads(out)["verdicts"][0]
    assert verdict["exploratory"] == []
    assert not any("released" in assumption for assumption in verdict["assumptions"])
    trusted = (key.with_name("sign.key.pub")).read_text().strip()
    code, checked, _ = command("verify", tmp_path / "bundle", "--ledger-key", trusted, "--json")
    assert code == 0
    assert "example.com/log, entry" in json.dumps(json.loads(checked)["steps"])
    early = ("--suspect-released", "2001-01-01", "--name", "late")
    with OpenAIServer(case.answer) as server:
        assert command(*case.arguments(server.url, *early, verb=("plan", "audit")))[0] == 0
        assert command("ledger", "checkpoint", ledger, "--key", key)[0] == 0
        verdict = json.loads(case.audit(server.url, *early, "--ledger-key", f"{key}.pub", "--json")[1])["verdicts"][0]
    assert "not before the suspect's release" in verdict["exploratory"][0]


def test_answers_that_nobody_can_read_are_said_to_be_so(case):
    with OpenAIServer(lambda _: "As a language model ...") as server:
        code, out, _ = case.audit(server.url)
    assert code in {1, 5}
    assert "check chat template" in out


def test_a_base_that_an_adapter_does_not_fit_is_named(case, command, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("size mismatch for base_model.model: copying a param with shape [8, 4]")

    monkeypatch.setattr("verification.suspects.LocalChatModel", refuse)
    (adapter := parrot(tmp_path / "adapter")).joinpath("adapter_config.json").write_text("{}")
    known = ("--run", case.run, "--suspect", adapter, "--base", case.control, "--quiet")
    assert "expected its own base" in command.fails(2, "audit", case.config, *known)
    assert "its base" in command.fails(2, "audit", case.config, "--run", case.run, "--suspect", adapter, "--quiet")
