"""``countermark ledger …`` as a user meets it, and how runs and keys reach the log."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from countermark.errors import CountermarkError, InconclusiveError, IntegrityError, UsageError
from countermark.manifest import canonical_json
from pipelines.cli_ledger import ledger_app
from pipelines.ledger_commands import public_path
from pipelines.ledger_stages import generation_event, text_digest
from pipelines.ledgering import append_run, key_body, key_event, key_recorder, ledger_events, open_ledger, run_id
from tests.verification.ledgers import event, events, sha, stolen
from verification.checkpoint import Verifier, public_value
from verification.faults import Fault, LedgerError
from verification.ledger_events import prepare
from watermarks.keyevents import EventKind, KeyEvent, read_utc
from watermarks.keys import KeyState

NAME = "example.com/ledger"


def call(*arguments, code=0, stdin=""):
    result = CliRunner().invoke(ledger_app, list(map(str, arguments)), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        if isinstance(result.exception, CountermarkError):
            assert result.exception.exit_code == code
            assert len(result.exception.diagnostics().splitlines()) == 2
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def lines(*bodies):
    return "".join(json.dumps(body) + "\n" for body in bodies)


@pytest.fixture
def made(tmp_path):
    """A ledger of 30 events with a checkpoint at 20; the key elsewhere."""
    ledger, key = tmp_path / "db" / "l.db", tmp_path / "safe" / "ledger.key"
    call("init", ledger, "--key", key, "--name", NAME)
    call("append", ledger, "--key", key, stdin=lines(*events(20)))
    call("append", ledger, stdin=lines(*events(10, first=20)))
    return ledger, key


def test_init_makes_a_private_key_in_a_private_folder(tmp_path, made):
    ledger, key = made
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert Verifier.decode(public_path(key).read_text().strip()).name == NAME
    with pytest.raises(UsageError):
        call("init", ledger, "--key", key, "--name", NAME, code=2)
    with pytest.raises(UsageError):
        call("init", tmp_path / "other.db", "--key", key, "--name", "example.com/other", code=2)
    key.chmod(0o644)
    with pytest.raises(CountermarkError):
        call("checkpoint", ledger, "--key", key, code=2)


def test_append_show_and_retry(made):
    ledger, _ = made
    said = json.loads(call("append", ledger, "--json", stdin=lines(event(5), event(100), event(29))))
    assert (said["entries"], said["new"]) == ([5, 30, 29], 1)
    shown = json.loads(call("show", ledger, "--json", "--first", "28"))
    assert [each["seq"] for each in shown["entries"]] == [28, 29, 30]
    assert shown["size"] == 31
    assert len(json.loads(call("show", ledger, "--json"))["entries"]) == 20
    assert json.loads(call("show", ledger, "--json", "--event", "audit"))["entries"] == []
    assert "31 entries" in call("show", ledger, "--count", "1")


@pytest.mark.parametrize(
    ("stdin", "says"),
    [
        ("nonsense\n", "line 1"), ("[1]\n", "line 1"), ("\n" + lines({"event": "poem"}), "event 1"),
        ('{"event":"query","event":"audit"}\n', "twice"), (lines(event(1), event(2, answer="a b")), "event 2"),
        ("[" * 100_000, "line 1"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_named_by_its_place_and_nothing_is_appended(made, stdin, says):
    ledger, _ = made
    with pytest.raises(UsageError, match=says):
        call("append", ledger, stdin=stdin, code=2)
    assert json.loads(call("show", ledger, "--json"))["size"] == 30


def test_dry_runs_write_nothing(tmp_path, made):
    ledger, key = made
    call("init", tmp_path / "new.db", "--key", tmp_path / "k", "--name", NAME, "--dry-run")
    call("append", ledger, "--dry-run", stdin=lines(event(77)))
    call("checkpoint", ledger, "--key", key, "--out", tmp_path / "c", "--dry-run")
    call("export", ledger, "--out", tmp_path / "e", "--dry-run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "safe"]
    assert json.loads(call("show", ledger, "--json"))["size"] == 30


def test_verify_says_how_far_the_signature_reaches(tmp_path, made):
    ledger, key = made
    report = json.loads(call("verify", ledger, "--verifier", public_path(key), "--json"))
    assert (report["sound"], report["size"], report["signed"]) == (True, 30, 20)
    assert "the last 10 are under no checkpoint" in call("verify", ledger, "--verifier", public_path(key))
    plain = tmp_path / "plain.db"
    with open_ledger(plain, create=True) as other:
        other.append(events(3))
    with pytest.raises(InconclusiveError):
        call("verify", plain, "--verifier", public_path(key).read_text().strip(), code=5)
    with pytest.raises(UsageError):
        call("verify", ledger, "--verifier", "no key", code=2)


def test_the_newest_checkpoint_lies_beside_the_key_and_is_asked(made):
    ledger, key = made
    copy = ledger.read_bytes()
    call("append", ledger, "--key", key, stdin=lines(event(50)))
    for path in ledger.parent.iterdir():
        path.unlink()
    ledger.write_bytes(copy)  # an older copy of the whole database
    with pytest.raises(LedgerError) as caught:
        call("verify", ledger, "--verifier", public_path(key), code=3)
    assert caught.value.fault == Fault.TRUNCATED
    with pytest.raises(LedgerError) as caught:
        call("checkpoint", ledger, "--key", key, code=3)
    assert caught.value.fault == Fault.TRUNCATED


def test_a_kept_checkpoint_and_a_public_value(tmp_path, made):
    ledger, key = made
    out = tmp_path / "kept"
    body = json.loads(call("checkpoint", ledger, "--key", key, "--out", out, "--json"))
    verifier = Verifier.decode(public_path(key).read_text().strip())
    assert body["checkpoint"].encode() == out.read_bytes()
    assert (body["size"], body["public_value"]) == (30, public_value(out.read_bytes(), verifier))
    with stolen(ledger) as thief:
        thief.execute("DELETE FROM entries WHERE seq = 29")
        thief.execute("DELETE FROM checkpoints")
    with pytest.raises(LedgerError) as caught:
        call("verify", ledger, "--verifier", verifier.encode(), "--checkpoint", out, code=3)
    assert (caught.value.fault, "29" in caught.value.message) == (Fault.TRUNCATED, True)


def test_proofs_and_exports_are_verified_without_the_ledger(tmp_path, made):
    ledger, key = made
    call("checkpoint", ledger, "--key", key)
    proof, both, out = tmp_path / "p.json", tmp_path / "c.json", tmp_path / "l.jsonl"
    proof.write_text(call("prove", ledger, 11))
    both.write_text(call("prove", ledger, "--from", 20))
    call("export", ledger, "--out", out)
    for path in list(ledger.parent.iterdir()):
        path.unlink()
    assert "entry 11 is among the first 30" in call("verify", proof, "--verifier", public_path(key))
    assert "the first 20 entries are" in call("verify", both, "--verifier", public_path(key))
    assert json.loads(call("verify", out, "--verifier", public_path(key), "--json"))["signed"] == 30
    proof.write_text(proof.read_text().replace('"index": 11', '"index": 12'))
    with pytest.raises(LedgerError) as caught:
        call("verify", proof, "--verifier", public_path(key), code=3)
    assert caught.value.fault == Fault.WRONG_PROOF
    with pytest.raises(UsageError):
        call("prove", out.with_name("none.db"), 3, code=2)


def test_prove_wants_one_thing(made):
    for wrong in ((), (3, "--from", 2)):
        with pytest.raises(UsageError):
            call("prove", made[0], *wrong, code=2)


# --- runs and keys --------------------------------------------------------------------------------------------------


def run_line(number, **fields):
    body = {"time": f"2026-01-31T12:00:{number:02}+00:00", "event": "start", "stage": "generate", **fields}
    return canonical_json(body) + b"\n"


def test_the_event_log_of_a_run_is_told_once(tmp_path, made):
    ledger, _ = made
    root = tmp_path / "run"
    root.mkdir()
    log = root / "events.jsonl"
    log.write_bytes(run_line(1) + run_line(1) + run_line(2, event="done", digest=sha("d"), seconds=1.25) + b'{"torn')
    with open_ledger(ledger) as opened:
        assert append_run(opened, root) == [30, 31, 32]
        log.write_bytes(log.read_bytes().removesuffix(b'{"torn') + run_line(3, stage="run", event="fresh"))
        assert append_run(opened, root) == [30, 31, 32, 33]
        bodies = [json.loads(each.data) for each in opened.entries(30)]
    assert [(each["line"], each["stage"], each["phase"]) for each in bodies] == [
        (0, "generate", "start"), (1, "generate", "start"), (2, "generate", "done"), (3, "run", "fresh"),
    ]  # fmt: skip
    assert (bodies[2]["digest"], bodies[2]["milliseconds"], bodies[2]["at"]) == (sha("d"), 1250, "2026-01-31T12:00:02Z")
    assert {each["run"] for each in bodies} == {run_id(root)}
    assert stat.S_IMODE((root / "owner" / "run_id").stat().st_mode) == 0o600
    said = json.loads(call("append", ledger, "--run", root, "--json"))
    assert said["new"] == 0
    log.write_bytes(b"nonsense\n")
    with pytest.raises(IntegrityError):
        call("append", ledger, "--run", root, code=3)
    with pytest.raises(UsageError):
        call("append", ledger, "--run", tmp_path, code=2)


def test_two_runs_do_the_same_thing_in_the_same_second():
    one = ledger_events(json.loads(run_line(1)), run="run_1", line=0)
    other = ledger_events(json.loads(run_line(1)), run="run_2", line=0)
    assert prepare(one).id != prepare(other).id


def test_key_events_keep_their_ids_and_read_back(made):
    at = read_utc("2026-01-31T12:00:00Z")
    first = KeyEvent(kind=EventKind.CREATE, ring_id="kr_1", sequence=0, previous=None, at=at, key_id="ck_1", version=1,
                     after=KeyState.ACTIVE)  # fmt: skip
    details = (("replaced", "ck_1"), ("until", "2027-01-31T12:00:00Z"))
    second = KeyEvent(kind=EventKind.PROMOTE, ring_id="kr_1", sequence=1, previous=first.event_id, at=at, key_id="ck_2",
                      version=2, before=KeyState.ACTIVE, after=KeyState.ACTIVE, details=details)  # fmt: skip
    third = KeyEvent(kind=EventKind.PASSPHRASE, ring_id="kr_1", sequence=2, previous=second.event_id, at=at)
    with open_ledger(made[0]) as ledger:
        record = key_recorder(ledger)
        for each in (first, second, third, second):
            record(each.to_json())
        assert ledger.size() == 33
        for each, entry in zip((first, second, third), ledger.entries(30), strict=True):
            body = json.loads(entry.data)
            assert body["id"] == each.event_id
            assert KeyEvent.from_json(key_body(body)) == each


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_key_event_fits(kind):
    event_ = KeyEvent(kind=kind, ring_id="kr_1", sequence=0, previous=None, at=read_utc("2026-01-31T12:00:00Z"),
                      key_id="ck_1", version=1, before=KeyState.VERIFY_ONLY, after=KeyState.DESTROYED,
                      details=(("destroy_after", "2026-02-07T12:00:00Z"), ("sha256", sha("c"))))  # fmt: skip
    assert prepare(key_event(event_.to_json())).id.hex() == event_.event_id


def test_a_generation_is_told_without_its_text():
    blind = bytes(range(32))
    body = generation_event(key_id="ck_1", prompt="a secret prompt", output="its answer", tokens=12, scheme="kgw")
    assert prepare(body)
    assert "secret" not in json.dumps(body)
    assert body["prompt_sha256"] == sha("a secret prompt")
    hidden = generation_event(key_id="ck_1", prompt="a secret prompt", output="its answer", tokens=12, blind=blind)
    assert hidden["prompt_sha256"] == text_digest("a secret prompt", blind=blind) != body["prompt_sha256"]


def test_where_a_ledger_can_be(tmp_path):
    for wrong in ("mysql://x/y", "https://x"):
        with pytest.raises(UsageError) as caught:
            open_ledger(wrong)
        assert len(caught.value.diagnostics().splitlines()) == 2
    with pytest.raises(UsageError):
        open_ledger(tmp_path / "none.db")


def test_the_commands_import_nothing_until_they_run():
    heavy = "{'verification', 'numpy', 'sqlalchemy'}"
    code = f"import sys, pipelines.cli_ledger; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
