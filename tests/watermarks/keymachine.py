"""A key file led through random lives with crashes at every write, against a model of what must be true.

Shared by the suite (some hundred sequences) and ``benchmarks/ledger/keys.py`` (ten thousand).
"""

from __future__ import annotations

import hmac
import itertools
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from countermark.errors import StorageError, UsageError
from tests.support import key_of
from watermarks import keylife, keystore
from watermarks.keyfile import KeyFile
from watermarks.keyjson import ring_to_json
from watermarks.keys import KeyState
from watermarks.keystore import load_ring

CHEAP = {"name": "argon2id", "iterations": 1, "lanes": 1, "memory_kib": 8}
START = datetime(2026, 1, 1, tzinfo=UTC)
FAULTS = (*["none"] * 9, "before", "torn", "after", "untold", "told", "down")
ACTIVE, VERIFY, REVOKED, GONE = KeyState
VERBS = ("promote", "restore", "confirm_destroy", "distribute", "request_destroy", "revoke", "retire", "cancel_destroy")


class Killed(BaseException):
    """The process died here: nothing may catch it."""


class Disk:
    """Stands for ``atomic_write``: the real thing without fsync, and with a death at a chosen place."""

    fault = "none"

    def write(self, path, data, *, mode):
        temporary = path.with_name(f".partial-{path.name}-7")
        if self.fault == "before":
            raise Killed
        temporary.touch(mode=mode)
        temporary.write_bytes(data[: len(data) // 2] if self.fault == "torn" else data)
        if self.fault == "torn":
            raise Killed
        temporary.replace(path)
        if self.fault == "after":
            raise Killed


class Ledger:
    """An append-only log that takes an id once, dies before or after it did, or is out of reach."""

    def __init__(self, disk):
        self.disk, self.ids, self.events = disk, [], {}

    def __call__(self, event):
        if self.disk.fault == "untold":
            raise Killed
        if self.disk.fault == "down":
            raise ConnectionError("no ledger")
        if self.events.setdefault(event["id"], event) is event:
            self.ids.append(event["id"])
        assert self.events[event["id"]] == event
        if self.disk.fault == "told":
            raise Killed


@dataclass(frozen=True)
class Life:
    """The model of one key: what the rules of docs/keys.md say, in other words than those of the code."""

    state: KeyState
    handed_out: bool = False
    has_marked: bool = False
    retired: bool = False
    until: datetime | None = None
    doom: datetime | None = None


def lived(lives, primary, verb, name, now, until):  # noqa: C901 - a case for each verb, on purpose one after the other
    """The model after ``verb``: (lives, primary), or None where it has to be refused."""
    life = lives[name]
    after = None
    settled = life.doom is None
    if verb == "distribute" and life.state in {ACTIVE, VERIFY} and settled:
        after = replace(life, handed_out=True)
    elif verb == "promote" and name != primary and life.state in {ACTIVE, VERIFY} and settled:
        if (life.handed_out or life.has_marked) and not (life.until and life.until <= now):
            after = replace(life, state=ACTIVE, has_marked=True, retired=False, until=None)
            lives = {**lives, primary: replace(lives[primary], state=VERIFY, retired=True, until=until)}
            primary = name
    elif verb == "retire" and name != primary and life.state in {ACTIVE, VERIFY} and settled:
        after = replace(life, state=VERIFY, retired=life.retired or life.state is ACTIVE, until=until)
    elif verb == "revoke" and name != primary and life.state in {ACTIVE, VERIFY}:
        after = replace(life, state=REVOKED)
    elif verb == "restore" and settled and life.state is REVOKED:
        after = replace(life, state=VERIFY, until=None)
    elif verb == "restore" and settled and life.state is VERIFY and life.retired:
        after = replace(life, state=ACTIVE, has_marked=True, retired=False, until=None)
    elif verb == "restore" and settled and life.state is VERIFY and life.until:
        after = replace(life, until=None)
    elif verb == "request_destroy" and settled and life.state in {VERIFY, REVOKED}:
        after = replace(life, doom=now + timedelta(days=7))
    elif verb == "cancel_destroy" and not settled and life.state is not GONE:
        after = replace(life, doom=None)
    elif verb == "confirm_destroy" and not settled and life.state is not GONE and now >= life.doom:
        after = replace(life, state=GONE)
    return None if after is None else ({**lives, name: after}, primary)


class Lives(RuleBasedStateMachine):
    """Every step is one change of the file, with or without a death in it; every invariant is read from the disk."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="keys-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk()
        self.patch.setattr(keystore, "atomic_write", self.disk.write)
        self.patch.setattr(keystore, "_KDF", CHEAP)
        self.file, self.passphrase = KeyFile(self.folder / "keys.json"), b"first"
        self.ledger, self.now, self.transitions, self.copies = Ledger(self.disk), START, 0, []
        self.names = (f"k{i}" for i in itertools.count())
        self.statements, self.lives, self.primary = {}, {}, None

    def teardown(self):
        try:
            if self.lives:  # whatever died on the way: one sync, and ledger and file agree
                self.disk.fault = "none"
                self.file.sync(self.passphrase, self.ledger)
                ring = load_ring(self.file.path, self.passphrase)
                assert self.ledger.ids == [event.event_id for event in ring.history]
                assert len(set(self.ledger.ids)) == len(self.ledger.ids) == self.transitions
                assert ring.pending() == ()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    def attempt(self, fault, work, old, new):
        """Runs ``work`` under ``fault``; whether it happened, judged by the disk. ``new`` is None where it must not."""
        self.disk.fault = fault
        try:
            work()
        except StorageError:
            happened = self.on_disk() != old
            assert fault == "down"
        except UsageError:
            happened = False
            assert new is None
        except Killed:
            happened = self.on_disk() != old
            assert happened == {"before": False, "torn": False, "after": True}.get(fault, happened)
        else:
            assert new is not None
            happened = True
        finally:
            self.disk.fault = "none"
        assert not (happened and new is None)
        self.transitions += happened
        return happened

    def on_disk(self):
        return len(self.file.read(self.passphrase).history) if self.file.path.exists() else None

    def born(self, key, state, *, has_marked):
        self.statements[key.key_id] = (key, hmac.digest(key.derive({"statement": 1}), key.key_id.encode(), "sha256"))
        self.lives[key.key_id] = Life(state, has_marked=has_marked)

    @initialize(fault=st.sampled_from(FAULTS), more=st.integers(0, 3))
    def create(self, fault, more):
        key = key_of(next(self.names))
        ring = keylife.new_ring(now=self.now, key=key, ring_id="ring_t")
        made = self.attempt(fault, lambda: self.file.create(ring, self.passphrase, record=self.ledger), None, 1)
        if not made:
            made = self.attempt("none", lambda: self.file.create(ring, self.passphrase, record=self.ledger), None, 1)
        self.born(key, ACTIVE, has_marked=True)
        self.primary = key.key_id
        for each in range(more):
            self.add("none", told=True)
            self.live("distribute", [*self.lives][-1], "none", told=bool(each), days=None)

    @rule(fault=st.sampled_from(FAULTS), told=st.booleans())
    def add(self, fault, told):
        key = key_of(next(self.names))
        done = self.change(fault, told, lambda ring: keylife.add(ring, key, now=self.now), legal=True)
        if done:
            self.born(key, VERIFY, has_marked=False)

    @rule(
        verb=st.sampled_from(VERBS),
        which=st.integers(0, 9),
        fault=st.sampled_from(FAULTS),
        told=st.booleans(),
        days=st.one_of(st.none(), st.integers(1, 20)),
    )
    def anything(self, verb, which, fault, told, days):
        self.live(verb, [*self.lives][which % len(self.lives)], fault, told, days)

    @rule(data=st.data(), fault=st.sampled_from(FAULTS), days=st.one_of(st.none(), st.integers(1, 20)))
    def something_allowed(self, data, fault, days):
        """To get far: a verb that some key may be led through now, and such a key."""
        allowed = {
            verb: [n for n in self.lives if lived(self.lives, self.primary, verb, n, self.now, None)] for verb in VERBS
        }
        verb = data.draw(st.sampled_from([verb for verb in VERBS if allowed[verb]]))
        self.live(verb, data.draw(st.sampled_from(allowed[verb])), fault, told=True, days=days)

    again = something_allowed
    and_again = something_allowed

    def live(self, verb, name, fault, told, days):
        until = None if days is None else self.now + timedelta(days=days)
        more = {"until": until} if verb in {"promote", "retire"} else {}
        expected = lived(self.lives, self.primary, verb, name, self.now, until)

        def transition(ring):
            return getattr(keylife, verb)(ring, name, now=self.now, **more)

        if self.change(fault, told, transition, legal=expected is not None):
            self.lives, self.primary = expected

    @rule(which=st.integers(0, 9), digest=st.integers(0, 3), fault=st.sampled_from(FAULTS))
    def commit(self, which, digest, fault):
        name = [*self.lives][which % len(self.lives)]
        made = self.file.read(self.passphrase).entry(name).commitments
        if self.lives[name].state is not GONE and f"{digest}" in [each.config_digest for each in made]:
            return
        self.change(
            fault, True, lambda ring: keylife.commit(ring, name, f"{digest}", now=self.now),
            legal=self.lives[name].state is not GONE,
        )  # fmt: skip

    def change(self, fault, told, transition, *, legal):
        old = self.transitions
        record = self.ledger if told else None
        return self.attempt(
            fault, lambda: self.file.change(self.passphrase, transition, record=record), old, old if legal else None
        )

    @rule(word=st.sampled_from([b"first", b"second", b"third"]), fault=st.sampled_from(FAULTS))
    def reseal(self, word, fault):
        old = self.transitions
        self.disk.fault = fault
        try:
            self.file.reseal(self.passphrase, word, now=self.now, record=self.ledger)
        except (Killed, StorageError):
            pass
        finally:
            self.disk.fault = "none"
        opening = []
        for each in {self.passphrase, word}:
            try:
                opening.append((each, len(load_ring(self.file.path, each).history)))
            except UsageError:
                continue
        [(self.passphrase, length)] = opening  # exactly one opens: the old one or the new one
        self.transitions += length - old

    @rule(days=st.sampled_from([0, 1, 6, 7, 8]))
    def wait(self, days):
        self.now += timedelta(days=days, seconds=1)

    @precondition(lambda self: any(life.state in {VERIFY, REVOKED} for life in self.lives.values()))
    @rule(which=st.integers(0, 9), fault=st.sampled_from(FAULTS))
    def ask_wait_and_destroy(self, which, fault):
        names = [name for name, life in self.lives.items() if life.state in {VERIFY, REVOKED}]
        name = names[which % len(names)]
        if self.lives[name].doom is None:
            self.live("request_destroy", name, "none", told=True, days=None)
        self.now = max(self.now, self.lives[name].doom)
        self.live("confirm_destroy", name, fault, told=True, days=None)

    @rule()
    def copy(self):
        self.copies.append(self.file.read(self.passphrase).copy_with())

    @precondition(lambda self: self.copies)
    @rule(which=st.integers(0, 9), fault=st.sampled_from(FAULTS))
    def take_an_old_copy(self, which, fault):
        self.disk.fault = fault
        try:
            self.file.take(self.copies[which % len(self.copies)], self.passphrase, record=self.ledger)
        except (Killed, StorageError):
            pass
        finally:
            self.disk.fault = "none"

    @invariant()
    def disk_ledger_and_model_agree(self):
        if self.lives:
            ring = load_ring(self.file.path, self.passphrase)
            self.what_is_on_the_disk_is_what_happened(ring)
            self.evidence_is_verified_under_its_id_while_the_key_lives(ring)

    def what_is_on_the_disk_is_what_happened(self, ring):
        assert {entry.key_id: entry.state for entry in ring.entries} == {
            n: each.state for n, each in self.lives.items()
        }
        assert ring.primary == self.primary
        assert ring.state(self.primary) is ACTIVE
        assert len(ring.history) == self.transitions
        told = [event.event_id for event in ring.history[: len(self.ledger.ids)]]
        assert self.ledger.ids == told  # no event of what did not happen, none out of order
        assert ring.recorded <= len(told)

    def evidence_is_verified_under_its_id_while_the_key_lives(self, ring):
        inside = str(ring_to_json(ring))
        for name, (key, tag) in self.statements.items():
            if self.lives[name].state is GONE:
                with pytest.raises(UsageError, match="destroyed"):
                    ring.get(name)
                assert key.secret.hex() not in inside
                assert key.nonce.hex() not in inside
                continue
            found = ring.get(name)
            assert hmac.compare_digest(hmac.digest(found.derive({"statement": 1}), name.encode(), "sha256"), tag)
            standing = ring.entry(name).standing(self.now)
            assert standing.state is self.lives[name].state
            until = self.lives[name].until
            assert standing.expired == bool(until and until <= self.now)
            if standing.state is not ACTIVE:
                with pytest.raises(UsageError, match=standing.state):
                    ring.get(name, marking=True)
