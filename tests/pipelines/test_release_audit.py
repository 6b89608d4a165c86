"""``countermark audit`` of a release: every audit its own codewords, its own suspect, and no question twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from countermark.errors import InconclusiveError, UsageError
from pipelines.spending import allocate
from tests.pipelines.release_data import Command, Parrot, copies, marked, parrot
from tests.training.toy import make_base
from watermarks.keyfile import KeyFile
from watermarks.keylife import add, commit, distribute, promote, revoke
from watermarks.keys import new_key
from watermarks.keystore import read_secret_file

pytestmark = pytest.mark.long


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


def test_codewords_are_spent_in_order_and_never_twice(tmp_path):
    path = tmp_path / "spent.json"
    assert [allocate(path, name, f"digest-{name}", total=14, each=6) for name in ("a", "b", "a", "b")] == [0, 6, 0, 6]
    with pytest.raises(UsageError, match="another suspect"):
        allocate(path, "a", "digest-b", total=14, each=6)
    before = path.read_bytes()
    with pytest.raises(InconclusiveError, match="2 unspent codewords of 14, expected 6"):
        allocate(path, "c", "digest-c", total=14, each=6)
    assert path.read_bytes() == before


def test_an_audit_of_a_random_model_ends_without_support(tmp_path, command):
    _, config, run, _ = marked(command, tmp_path, "alpaca")
    suspect, control = make_base(tmp_path / "suspect"), make_base(tmp_path / "control")
    arguments = ("audit", config, "--run", run, "--suspect", suspect, "--control", control, "--json", "--quiet")
    code, out, err = command(*arguments)
    assert code == 1, err
    verdicts = {v["suspect"]: v for v in json.loads(out)["verdicts"]}
    assert set(verdicts) == {"suspect", "suspect/wrong_key", "control-0"}
    assert (verdicts["suspect"]["decision"], verdicts["suspect"]["trials"]) == ("not_supported", 6)
    assert verdicts["suspect"]["queries"] == 18
    assert command(*arguments)[:2] == (code, out)


@pytest.fixture
def release(tmp_path, command, monkeypatch):
    """A marked Alpaca set, a suspect that learnt acme's copy, and a control that learnt nothing."""
    monkeypatch.setattr("verification.suspects.LocalChatModel", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    small = {"alpha": 0.001, "wrong_keys": 19, "carriers": 3, "batch_size": 4}
    _, config, run, _ = marked(command, tmp_path, "alpaca", audit=small)
    rows = [row for row in copies(run)["acme"].rows if "ledger" in row["instruction"]]
    suspect, control = parrot(tmp_path / "suspect", rows), parrot(tmp_path / "control")

    def audit(*more, who=suspect, call=command):
        return call("audit", config, "--run", run, "--suspect", who, "--control", control, "--quiet", *more)

    audit.run, audit.fails = run, lambda code, *more: audit(*more, call=lambda *a: command.fails(code, *a))
    return audit


def test_a_leaked_copy_is_supported_named_and_not_asked_again(release, tmp_path):
    code, out, err = release()
    assert code == 0, err
    assert "recipients: the copy of acme (Holm over 2)" in out
    assert "control control-0 of double_i: gave too few of the counted answers" in out
    assert Parrot.asked == 18 * 3  # suspect and control, and a wrong key's codewords for the suspect
    assert release()[:2] == (0, out)
    assert Parrot.asked == 18 * 3


def test_every_audit_shows_other_codewords_until_there_are_none(release):
    assert [release("--name", name)[0] for name in ("one", "two")] == [0, 0]
    plans = [json.loads((release.run / f"artifacts/plan-{n}/manifest.json").read_text()) for n in ("one", "two")]
    assert [(plan["first"], plan["count"]) for plan in plans] == [(0, 6), (6, 6)]
    assert "0 unspent codewords of 12" in release.fails(5, "--name", "three")
    assert release("--name", "one")[0] == 0


def test_an_interrupted_audit_goes_on_where_it_was(release, monkeypatch):
    ask = Parrot.ask

    def stop(self, prompts):
        if Parrot.asked >= 8:
            raise KeyboardInterrupt
        return ask(self, prompts)

    with monkeypatch.context() as broken:
        broken.setattr(Parrot, "ask", stop)
        assert "resumes" in release.fails(130)
    assert Parrot.asked == 8
    assert release()[0] == 0
    assert Parrot.asked == 18 * 3  # nothing was asked twice, and no other codewords were shown
    assert len(json.loads((release.run / "owner" / "spent.json").read_text())["body"]) == 1


@pytest.mark.parametrize("when", ["before the answers", "after the verdict"])
def test_a_suspect_that_changed_is_refused(release, tmp_path, monkeypatch, when):
    if when == "after the verdict":
        assert release()[0] == 0
    else:
        with monkeypatch.context() as broken:
            broken.setattr(Parrot, "ask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert release()[0] == 130
    parrot(tmp_path / "suspect", [])
    assert "audit it under a new --name" in release.fails(3)
    assert release("--name", "again")[0] == 1


def test_a_name_belongs_to_one_suspect(release, tmp_path):
    assert release()[0] == 0
    code, out, err = release(who=parrot(tmp_path / "other", []))
    assert (code, out) == (2, "")
    assert "begin another audit with --name" in err


def test_a_codeword_that_ends_in_another_is_no_row_of_the_other(tmp_path, command, monkeypatch):
    monkeypatch.setattr("verification.suspects.LocalChatModel", Parrot)
    words = ["tea", "coat", "ship", "lamp", "road", "bell"]
    (tmp_path / "words.txt").write_text("\n".join([*words, *(f"big {word}" for word in words)]))
    mark = {"vocabulary": str(tmp_path / "words.txt"), "words": 1}
    _, config, run, _ = marked(command, tmp_path, "alpaca", mark=mark)
    code, out, err = command("audit", config, "--run", run, "--suspect", parrot(tmp_path / "m"), "--json", "--quiet")
    assert code == 1, err  # and not 3: the release is the one that was marked
    assert json.loads(out)["verdicts"][0]["successes"] == 0


def test_the_state_of_the_key_stands_beside_the_evidence(release):
    _, out, _ = release("--json")
    assert json.loads(out)["key"]["state"] == "active"
    ring = KeyFile(release.run / "owner" / "keys.json")
    passphrase = read_secret_file(release.run / "owner" / "passphrase")
    now, old, fresh = datetime.now(UTC), ring.read(passphrase).primary, new_key()
    ring.change(passphrase, lambda found: add(found, fresh, now=now))
    ring.change(passphrase, lambda found: distribute(found, fresh.key_id, now=now))
    ring.change(passphrase, lambda found: promote(found, fresh.key_id, now=now))
    ring.change(passphrase, lambda found: revoke(found, old, now=now))
    for name in ("suspect", "later"):  # verified, and asked anew, under the key that the release committed to
        code, out, err = release("--name", name)
        assert (code, err) == (0, "")
        assert f"evidence under key {old}, which is revoked since" in out


def test_a_plan_pays_for_every_commitment_that_the_ring_lists(release):
    ring = KeyFile(release.run / "owner" / "keys.json")
    passphrase = read_secret_file(release.run / "owner" / "passphrase")
    listed = ring.read(passphrase)
    (made,) = listed.commitments()
    for digest, what in (("a" * 64, made["what"]), ("b" * 64, "another release")):
        ring.change(passphrase, lambda r, d=digest, w=what: commit(r, r.primary, d, now=datetime.now(UTC), what=w))
    assert release("--name", "one")[0] == 5  # six codewords cannot pay for two commitments
    plan = json.loads((release.run / "artifacts/plan-one/plan.json").read_text())
    assert plan["commitments_made"] == 2
