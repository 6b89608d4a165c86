"""Key files under several processes, kills and ledgers: nothing lost, nothing told twice, nothing open to others."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from countermark.errors import (
    IntegrityError,
    KeyFileError,
    RunLockedError,
    StorageError,
    UsageError,
    WrongPassphraseError,
)
from tests.support import ROOT, key_of
from watermarks import keyfile, keylife, keystore
from watermarks.keyfile import KeyFile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORD = b"passphrase"
RING = keylife.new_ring(now=NOW, key=key_of("a"), ring_id="ring_t")
CHEAP = {"name": "argon2id", "iterations": 1, "lanes": 1, "memory_kib": 8}


@pytest.fixture(autouse=True)
def _cheap_kdf(monkeypatch):
    monkeypatch.setattr(keystore, "_KDF", CHEAP)


@pytest.fixture
def file(tmp_path):
    made = KeyFile(tmp_path / "owner" / "keys.json")
    made.create(RING, WORD)
    return made


def adding(name):
    return lambda ring: keylife.add(ring, key_of(name), now=NOW)


def ids(ring):
    return [event.event_id for event in ring.history]


class Log(list):
    def __call__(self, event):
        self.append(event)


def test_a_change_is_on_the_disk_before_it_is_told(file):
    def record(event):
        assert event in [each.to_json() for each in file.read(WORD).history]
        told.append(event["id"])

    told = []
    ring = file.change(WORD, adding("b"), record=record)
    assert file.read(WORD) == ring
    assert told == ids(ring)  # the creation, which nobody had recorded, came first


def test_events_without_a_ledger_wait_for_one(file):
    file.change(WORD, adding("b"))
    ring = file.change(WORD, adding("c"))
    assert len(ring.pending()) == 3
    log = Log()
    assert file.sync(WORD, log) == 3
    assert [event["id"] for event in log] == ids(ring)
    assert file.read(WORD).pending() == ()
    assert file.sync(WORD, log) == 0
    assert len(log) == 3


def test_a_ledger_out_of_reach_stops_a_change_before_it_is_made(file):
    def down(_):
        raise ConnectionError("no route")

    with pytest.raises(StorageError, match=r"no route; nothing was changed"):
        file.change(WORD, adding("b"), record=down)
    assert file.read(WORD) == RING


def test_a_ledger_that_goes_away_in_between_leaves_the_change_and_its_event(file):
    log = Log()

    def once(event):
        if log:
            raise ConnectionError("no route")
        log(event)

    with pytest.raises(StorageError, match=r"no route; add is done"):
        file.change(WORD, adding("b"), record=once)
    ring = file.read(WORD)
    assert ring.state("ck_b") == "verify_only"
    file.sync(WORD, log)
    assert [event["id"] for event in log] == ids(ring)


def test_what_is_refused_changes_nothing(file):
    before = file.path.read_bytes()
    with pytest.raises(UsageError, match="primary"):
        file.change(WORD, lambda ring: keylife.revoke(ring, "ck_a", now=NOW))
    file.change(WORD, lambda ring: (ring, None))
    assert file.path.read_bytes() == before


def test_a_new_passphrase_and_the_same_under_a_new_salt(file):
    def salt():
        return json.loads(file.path.read_bytes())["kdf"]["salt"]

    first = salt()
    changed = file.reseal(WORD, b"another", now=NOW)
    assert file.read(b"another") == changed
    assert changed.history[-1].kind == "passphrase"
    with pytest.raises(WrongPassphraseError):
        file.read(WORD)
    second = salt()
    file.reseal(b"another", b"another", now=NOW)
    assert len({first, second, salt()}) == 3
    with pytest.raises(WrongPassphraseError):
        file.reseal(WORD, b"third", now=NOW)


def test_a_file_is_never_overwritten_and_never_made_by_a_change(file, tmp_path):
    with pytest.raises(UsageError, match="exists"):
        file.create(RING, WORD)
    missing = KeyFile(tmp_path / "typo" / "keys.json")
    with pytest.raises(KeyFileError, match="no key file"):
        missing.change(WORD, adding("b"))
    assert not missing.path.parent.exists()


def test_a_link_leads_to_the_file_and_stays_a_link(file, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(file.path)
    KeyFile(link).change(WORD, adding("b"))
    assert link.is_symlink()
    assert file.read(WORD).state("ck_b") == "verify_only"


def test_a_half_written_neighbour_of_a_killed_process_is_swept(file):
    left = file.path.with_name(f".partial-{file.path.name}-12345")
    other = file.path.with_name(".partial-else.json-12345")
    left.write_bytes(b"a key that is to be destroyed")
    other.write_bytes(b"another's")
    file.change(WORD, adding("b"))
    assert not left.exists()
    assert other.exists()


def test_a_copy_comes_back_to_the_ring_it_was_made_from(file, tmp_path):
    both = file.change(WORD, adding("b"))
    here = KeyFile(tmp_path / "elsewhere" / "keys.json")
    here.take(both.copy_with(["ck_b"]), b"their own")
    assert here.read(b"their own").get("ck_b") == key_of("b")
    with pytest.raises(UsageError, match="left out of this copy"):
        here.read(b"their own").get("ck_a")
    later = file.change(WORD, lambda ring: keylife.distribute(ring, "ck_b", now=NOW))
    later = file.change(WORD, lambda ring: keylife.promote(ring, "ck_b", now=NOW))
    here.take(later, b"their own")
    assert here.read(b"their own") == later
    here.take(both, b"their own")  # an older copy takes nothing back
    assert here.read(b"their own") == later
    here.change(b"their own", adding("c"))
    file.change(WORD, adding("d"))
    with pytest.raises(IntegrityError, match="parted"):
        file.take(here.read(b"their own"), WORD)


def test_a_second_process_waits_and_then_gives_up(file, monkeypatch):
    monkeypatch.setattr(keyfile, "LOCK_SECONDS", 0.1)

    def in_between(ring):
        with pytest.raises(RunLockedError, match=r"held by another"):
            file.change(WORD, adding("c"))
        return adding("b")(ring)

    file.change(WORD, in_between)
    assert [entry.key_id for entry in file.read(WORD).entries] == ["ck_a", "ck_b"]


def test_threads_lose_nothing(file):
    threads = [threading.Thread(target=file.change, args=(WORD, adding(f"t{i}"))) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ring = file.read(WORD)
    assert {entry.key_id for entry in ring.entries} == {"ck_a"} | {f"ck_t{i}" for i in range(12)}
    assert [entry.version for entry in ring.entries] == [*range(1, 14)]


def run(*arguments, prefix=()):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*prefix, sys.executable, "-m", "tests.watermarks.keytrials", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def test_two_processes_at_once_lose_nothing(tmp_path):
    path = tmp_path / "keys.json"
    KeyFile(path).create(RING, b"trial")
    made = [said(each) for each in [run("add", path, 15), run("add", path, 15)]]
    ring = KeyFile(path).read(b"trial")
    assert [entry.version for entry in ring.entries] == [*range(1, 32)]
    assert {entry.key_id for entry in ring.entries} == {"ck_a", *made[0], *made[1]}
    assert [event.sequence for event in ring.history] == [*range(31)]


def test_killed_during_rewriting_the_old_state_or_the_new(tmp_path):
    found = said(run("kill", tmp_path, 20, 1))
    assert found["acknowledged"] >= 20
    for name in ("unreadable", "lost", "too_many", "open", "ledger_differs", "left_over"):
        assert (name, found[name]) == (name, 0)


CREATED = re.compile(r'openat\(AT_FDCWD, "(?P<path>[^"]*)", [^,]*O_CREAT[^,]*, (?P<mode>0\d+)\) = \d')
FOLDER = re.compile(r'mkdir\("(?P<path>[^"]*)", (?P<mode>0\d+)\) = 0')


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="no strace here; the modes are also watched in test_keystore"
)
def test_no_system_call_ever_opens_a_secret_to_others(tmp_path):
    code = (
        "import os, pathlib; os.umask(0)\n"
        "from tests.watermarks import test_keyfile as t\n"
        "t.keystore._KDF = t.CHEAP\n"
        f"file = t.KeyFile(pathlib.Path({str(tmp_path / 'private' / 'keys.json')!r}))\n"
        "file.create(t.RING, t.WORD)\n"
        "file.change(t.WORD, t.adding('b')); file.reseal(t.WORD, b'x', now=t.NOW)\n"
    )
    log = tmp_path / "strace.txt"
    calls = "trace=openat,open,creat,mkdir,mkdirat,chmod,fchmod,fchmodat,link,linkat,mknod"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["strace", "-f", "-qq", "-s", "4096", "-o", str(log), "-e", calls, sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in log.read_text().splitlines() if str(tmp_path) in line and " = -1 " not in line]
    files = [CREATED.search(line) for line in lines if "O_CREAT" in line]
    assert len(files) >= 6
    assert {found["mode"] for found in files} == {"0600"}
    assert [FOLDER.search(line)["mode"] for line in lines if "mkdir" in line] == ["0700"]
    assert not [line for line in lines if re.search(r"\b(creat|f?chmod(at)?|link(at)?|mknod)\(", line)]
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "private").iterdir()} == {0o600}
