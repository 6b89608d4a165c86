"""A run whose config names a ledger: the log holds what was done, once, and a damaged log stops the run."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from tests.pipelines.dataset.sets import config, keyed, reviews, write

pytestmark = pytest.mark.long


@pytest.fixture
def job(tmp_path, command):
    """The command that runs a small job under a ledger."""
    log, key = tmp_path / "log.db", tmp_path / "sign.key"
    assert command("ledger", "init", log, "--key", key, "--name", "tests/ledger")[0] == 0
    data = write(tmp_path / "set.parquet", reviews())
    path = config(tmp_path, data, keyed(), train={"linear": {"ngrams": 2}}, keys={"ledger": str(log)})

    def run(*more):
        return command("run", path, "--out", tmp_path / "run", "--quiet", *more)

    run.log, run.folder, run.command = log, tmp_path / "run", command
    return run


def _entries(job):
    code, out, err = job.command("ledger", "show", job.log, "--first", "0", "--count", "1000", "--json")
    assert code == 0, err
    return json.loads(out)["entries"]


def _kinds(entries):
    found = {}
    for event in entries:
        found.setdefault(event["event"], []).append(event)
    return found


def test_the_log_holds_what_the_run_did(job):
    assert job()[0] == 0
    told = _kinds(_entries(job))
    manifest = json.loads((job.folder / "artifacts" / "keys" / "manifest.json").read_text("utf-8"))
    plan = json.loads((job.folder / "artifacts" / "plan-run" / "manifest.json").read_text("utf-8"))
    assert [event["sha256"] for event in told["commitment"]] == [manifest["commitment"]]
    assert len(told["release"]) == 1
    assert [event["plan_sha256"] for event in told["plan"]] == [plan["plan_digest"]]
    assert [(e["suspect"], e["first"], e["count"]) for e in told["spent"]] == [("linear", 0, 1)]
    decided = {(event["suspect"], event["decision"]) for event in told["audit"]}
    assert ("linear", "supported") in decided
    assert ("linear-twin", "not_supported") in decided
    lines = (job.folder / "events.jsonl").read_text("utf-8").splitlines()
    assert len(told["stage"]) == len(lines)
    assert len(told["key"]) == 2  # the ring was made, and the commitment listed


def test_nothing_is_told_twice_and_what_a_crash_left_untold_is_told(job):
    assert job()[0] == 0
    once = _entries(job)
    assert job()[0] == 0
    assert _entries(job) == once
    fresh = job.log.with_name("other.db")
    assert job.command("ledger", "init", fresh, "--key", fresh.with_suffix(".key"), "--name", "tests/other")[0] == 0
    for suffix in ("", "-wal", "-shm"):  # as if the ledger had died before it heard of this run
        old = job.log.with_name(job.log.name + suffix)
        old.unlink(missing_ok=True)
        if fresh.with_name(fresh.name + suffix).exists():
            shutil.move(fresh.with_name(fresh.name + suffix), old)
    assert job()[0] == 0
    kinds = _kinds(once)
    again = _kinds(_entries(job))
    assert {k: len(v) for k, v in again.items() if k != "key"} == {k: len(v) for k, v in kinds.items() if k != "key"}


def test_no_text_and_no_key_reach_the_log(job):
    assert job()[0] == 0
    words = b"".join(path.read_bytes() for path in job.log.parent.glob("log.db*"))
    for row in reviews():
        assert row["text"].encode() not in words
    assert (job.folder / "owner" / "passphrase").read_bytes().strip() not in words


def test_a_ledger_that_is_not_there_stops_the_run_before_anything_is_made(job):
    job.log.unlink()
    assert "ledger" in job.command.fails(2, "run", job.log.with_name("dataset.yaml"), "--out", job.folder, "--quiet")
    assert not (job.folder / "artifacts" / "release").exists()


def test_a_changed_entry_is_found(job):
    assert job()[0] == 0
    with sqlite3.connect(job.log) as log:
        for (guard,) in log.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            log.execute(f"drop trigger {guard}")  # whoever has the file is not stopped by them
        tables = [name for (name,) in log.execute("select name from sqlite_master where type = 'table'")]
        table = next(name for name in tables if "entr" in name)
        columns = [row[1] for row in log.execute(f"pragma table_info({table})")]
        column = next(name for name in columns if name in ("data", "entry", "body", "bytes"))
        ((data,),) = log.execute(f"select {column} from {table} where rowid = 3").fetchall()
        log.execute(f"update {table} set {column} = ? where rowid = 3", (data.replace(b"2026", b"2025"),))
    code, out, err = job.command("ledger", "verify", job.log, "--verifier", job.log.with_name("sign.key.pub"))
    assert code == 3, out + err
