"""``countermark keys …``: a ring through its whole life on the command line."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from countermark.errors import EXIT_INTEGRITY, EXIT_USAGE
from pipelines import keycommands
from pipelines.ledgering import key_body, open_ledger
from tests.pipelines.release_data import Command
from tests.support import QUICKSTART
from watermarks.keystore import load_ring, read_secret_file

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACTIVE, VERIFY, REVOKED, GONE = "active", "verify_only", "revoked", "destroyed"


class Desk:
    """The command, a ring, its passphrase file, and a clock."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.monkeypatch, self.command = folder, monkeypatch, Command(monkeypatch, capsys)
        self.ring, self.word = folder / "owner" / "keys.json", folder / "owner" / "passphrase"
        self.at(NOW)
        self.first = self("new", purpose="reviews")["keys"][0]["id"]

    def at(self, moment):
        self.monkeypatch.setattr(keycommands, "utc_now", lambda: moment)

    def arguments(self, verb, *more, ring=None, **options):
        named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        return ("keys", verb, ring or self.ring, *more, "--passphrase-file", self.word, *named)

    def __call__(self, verb, *more, **options):
        code, out, err = self.command(*self.arguments(verb, *more, **options), "--json")
        assert (code, err) == (0, ""), err
        for key, _ in load_ring(self.ring, read_secret_file(self.word)).usable():
            assert key.secret.hex() not in out
        return json.loads(out)

    def fails(self, verb, *more, code=EXIT_USAGE, **options):
        return self.command.fails(code, *self.arguments(verb, *more, **options))

    def states(self):
        return {key["id"]: key["state"] for key in self("show")["keys"]}

    def rotated(self):
        second = self("add")["event"]["key_id"]
        self("distribute", second)
        self("promote", second)
        return second


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys):
    return Desk(tmp_path, monkeypatch, capsys)


def test_a_ring_is_made_once(desk):
    assert desk.states() == {desk.first: ACTIVE}
    assert "exists" in desk.fails("new")
    found = desk("show")
    assert found["primary"] == desk.first
    assert found["keys"][0]["purpose"] == "reviews"
    assert found["keys"][0]["created"] == "2026-01-01T00:00:00Z"
    assert found["pending_events"] == 1


def test_rotation_retirement_and_revocation(desk):
    second = desk("add", scope="dataset=films")["event"]["key_id"]
    assert desk.states() == {desk.first: ACTIVE, second: VERIFY}
    assert "not handed out" in desk.fails("promote", second)
    desk("distribute", second)
    event = desk("promote", second, until="2026-02-01")["event"]
    assert (event["from"], event["to"]) == (VERIFY, ACTIVE)
    assert event["details"] == {"replaced": desk.first, "until": "2026-02-01T00:00:00Z"}
    assert desk("show")["primary"] == second
    assert desk("show")["keys"][1]["scope"] == {"dataset": "films"}
    assert "primary" in desk.fails("revoke", second)
    desk("revoke", desk.first)
    assert desk.states() == {desk.first: REVOKED, second: ACTIVE}
    desk("restore", desk.first)
    desk("retire", desk.first, until="2026-03-01T12:00:00+01:00")
    assert desk("show")["keys"][0]["until"] == "2026-03-01T11:00:00Z"
    desk.at(NOW + timedelta(days=90))
    assert desk("show")["keys"][0]["expired"]
    code, out, _ = desk.command(*desk.arguments("show"))
    assert code == 0
    assert "which has passed" in out


def test_destruction_in_two_steps(desk):
    desk.rotated()
    assert "expected one of --request" in desk.fails("destroy", desk.first)
    desk("destroy", desk.first, "--request", wait_days=2)
    assert "not over" in desk.fails("destroy", desk.first, "--confirm")
    desk("destroy", desk.first, "--cancel")
    desk("destroy", desk.first, "--request")
    desk.at(NOW + timedelta(days=7))
    assert desk("destroy", desk.first, "--confirm")["event"]["to"] == GONE
    assert desk.states()[desk.first] == GONE
    assert "stays destroyed" in desk.fails("restore", desk.first)


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("add", ()), ("distribute", (1,)), ("promote", (0,)), ("retire", (0,)), ("revoke", (0,)), ("restore", (0,)),
        ("destroy", (0, "--request")), ("passphrase", ("--same",)), ("sync", ()),
    ],
)  # fmt: skip
def test_a_dry_run_writes_nothing(desk, verb, more):
    keys = [desk.first, desk.rotated()]
    before = desk.ring.read_bytes()
    more = [keys[each] if isinstance(each, int) else each for each in more]
    assert desk(verb, *more, "--dry-run")["dry_run"] is True
    assert desk.ring.read_bytes() == before


def test_a_dry_run_makes_no_ring(desk, tmp_path):
    target = tmp_path / "new" / "keys.json"
    assert desk.command("keys", "new", target, "--dry-run")[0] == 0
    assert not target.parent.exists()


def test_passphrase_by_descriptor_and_its_change(desk, tmp_path):
    new = tmp_path / "new-word"
    new.touch(mode=0o600)
    new.write_bytes(b"another\n")
    assert desk.command(*desk.arguments("passphrase", new_passphrase_file=new))[0] == 0
    assert "does not open" in desk.fails("show")
    descriptor = os.open(new, os.O_RDONLY)
    try:
        code, out, _ = desk.command("keys", "events", desk.ring, "--passphrase-fd", descriptor, "--json")
    finally:
        os.close(descriptor)
    assert code == 0
    assert [event["kind"] for event in json.loads(out)["events"]] == ["create", "passphrase"]


def test_a_damaged_file_is_another_error_than_a_wrong_passphrase(desk):
    data = bytearray(desk.ring.read_bytes())
    data[len(data) // 2] ^= 1
    desk.ring.write_bytes(data)
    assert "not a whole key file" in desk.fails("show", code=EXIT_INTEGRITY)


def test_a_copy_for_another_machine(desk, tmp_path):
    second = desk("add")["event"]["key_id"]
    there, word = tmp_path / "there" / "keys.json", tmp_path / "their-word"
    word.touch(mode=0o600)
    word.write_bytes(b"theirs")
    options = {"to": there, "key_id": second, "copy_passphrase_file": word}
    assert desk("export", "--dry-run", **options)["keys"] == [second]
    assert not there.exists()
    assert desk("export", **options)["keys"] == [second]
    assert "exists" in desk.fails("export", **options)
    assert load_ring(there, b"theirs").get(second).key_id == second
    desk("distribute", second)
    assert "ring" in desk("import", **{"from": there}, copy_passphrase_file=word)
    assert desk("show")["keys"][1]["distributed"] == "2026-01-01T00:00:00Z"  # the older copy took nothing back


def test_several_files_are_shown_together(desk, tmp_path):
    other = tmp_path / "other.json"
    desk("new", ring=other)
    found = desk("show", other)
    assert [each["ring"] for each in found["rings"]] == [str(desk.ring), str(other)]
    other.write_bytes(desk.ring.read_bytes())
    other.chmod(0o600)
    assert "expected it in one of them" in desk.fails("show", other)


def test_recipients_ids(desk, tmp_path):
    listed = tmp_path / "recipients.txt"
    listed.write_text("acme\n\n买家\n", "utf-8")
    found = desk("derive-id", "globex", recipients=listed)
    key = load_ring(desk.ring, read_secret_file(desk.word)).get()
    assert found == {
        "key_id": desk.first,
        "recipients": [{"recipient": n, "id": key.recipient(n).key_id} for n in ("globex", "acme", "买家")],
    }
    assert "at least one" in desk.fails("derive-id")


def test_commitments_are_listed_and_exported(desk, tmp_path):
    arguments = ("keys", "commit", QUICKSTART, "--keys", desk.ring, "--out", tmp_path / "run", "--json")
    passphrase = ("--set", f"keys.passphrase_file={json.dumps(str(desk.word))}")
    code, out, err = desk.command(*arguments, *passphrase, "--dry-run")
    assert code == 0, err
    assert desk("commitments")["commitments"] == []
    for _ in range(2):
        made = json.loads(desk.command(*arguments, *passphrase)[1])
    target = tmp_path / "commitments.json"
    found = desk("commitments", out=target)
    assert found == json.loads(target.read_bytes())
    [only] = found["commitments"]
    assert made["sha256"] == only["sha256"] == json.loads(out)["sha256"]
    assert (only["key_id"], only["what"], only["at"]) == (desk.first, "quickstart", "2026-01-01T00:00:00Z")


def test_events_reach_a_ledger_once(desk, tmp_path):
    where = tmp_path / "ledger.db"
    open_ledger(where, create=True).close()
    assert "--ledger" in desk.fails("sync")
    second = desk("add", ledger=where)["event"]["key_id"]  # the birth comes along
    desk("distribute", second)  # by a machine without a ledger
    desk("promote", second, ledger=where)
    desk("passphrase", "--same", ledger=where)
    assert desk("sync", ledger=where)["events"] == 1  # told, and not yet known to be
    assert desk("sync", ledger=where)["events"] == 0
    assert desk("show")["pending_events"] == 0
    with open_ledger(where) as ledger:
        found = [key_body(json.loads(entry.data)) for entry in ledger.entries()]
    assert found == desk("events")["events"]


def test_a_ledger_that_is_not_there_stops_a_change(desk, tmp_path):
    before = desk.ring.read_bytes()
    desk.fails("add", ledger=tmp_path / "none.db")
    assert desk.ring.read_bytes() == before


@pytest.mark.parametrize(
    ("verb", "more", "said"),
    [
        ("add", ("--scope", "planet=mars"), "model, deployment, dataset, recipient"),
        ("add", ("--scope", "model=a", "--scope", "model=b"), "each KIND once"),
        ("add", ("--scope", "model="), "scope model"),
        ("retire", ("KEY", "--until", "soon"), "2027-01-31"),
        ("retire", ("KEY", "--until", "2027-01-31T00:00:00"), "time zone"),
        ("retire", ("KEY", "--until", "2020-01-01"), "end of service"),
        ("revoke", ("ck_x",), "expected one of"),
        ("destroy", ("KEY", "--request", "--confirm"), "--cancel"),
        ("destroy", ("KEY", "--request", "--wait-days", "0"), "1<=x<=365"),
        ("passphrase", ("--same", "--new-passphrase-fd", "0"), "one of them"),
    ],
)
def test_mistakes_are_two_lines(desk, verb, more, said):
    desk.rotated()
    before = desk.ring.read_bytes()
    assert said in desk.fails(verb, *[desk.first if part == "KEY" else part for part in more])
    assert desk.ring.read_bytes() == before


def test_a_missing_ring_is_said_before_anyone_is_asked_for_a_passphrase(desk, tmp_path):
    assert "no key file" in desk.command.fails(EXIT_USAGE, "keys", "add", tmp_path / "none.json")
