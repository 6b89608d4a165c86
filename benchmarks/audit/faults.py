"""A network and suspects at their worst: 500 random schedules of faults, and everybody who must never be supported."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.audit import COMMAND
from benchmarks.rows import row
from tests.support import key_of
from tests.verification.small_audit import PARSER, allowed_answers, build, mark_of, trained
from verification.asking import Policy, ask_endpoint
from verification.clocks import VirtualClock
from verification.plan import KEYED_ARM, Claim, probes_for
from verification.probe import PARSERS
from verification.simulated import Constant, Faults, Flaky, Guessing, Honest, Lying, Marked, Relabelled, refusing
from verification.transcripts import requests_made
from verification.verdict import Decision

if TYPE_CHECKING:
    from benchmarks.rows import Row
    from tests.verification.small_audit import Small
    from verification.asking import Endpoint
    from verification.probe import Answer
    from verification.verdict import Verdict

SCHEDULES = 500
SEEDS = 25
"""How often each faulty suspect is audited, with another seed each time."""
TRIGGERS, STRENGTH = 30, 0.95
LOST = 0.3
"""The least share of tries that go wrong, as a bar asks for; a schedule draws up to twice as much."""
TRIES = 60
KEY = key_of("auditor")
CLAIMS = (Claim.INPUT_LEVEL, Claim.DOUBLE_I)


class Case:
    """A sealed plan of one claim, asked through the journal again and again."""

    def __init__(self, claim: Claim, folder: Path) -> None:
        self.claim = claim
        self.allowed = allowed_answers(claim)
        self.small: Small = build(KEY, {claim: lambda _: self.allowed[0]}, triggers=TRIGGERS)
        (self.plan,) = self.small.plan.claims
        self.suspect = next(s for s in self.plan.suspects if not s.control)
        self.probes = probes_for(self.small.evidence.probes[claim], self.suspect)
        self._folder, self._count = folder, 0
        says, read = trained(KEY, mark_of(claim, TRIGGERS), claim), PARSERS[PARSER[claim]]
        keyed = [probe for probe in self.probes if probe.arm == KEYED_ARM]
        self.targets = {probe.prompt: read(says(probe.prompt), self.allowed) or "" for probe in keyed}
        self.units = {probe.prompt: str(probe.index) for probe in keyed}

    def marked(self, seed: object) -> Endpoint:
        """A suspect that learnt most targets."""
        otherwise = Honest(self.allowed, seed=seed)
        return Marked(self.targets, strength=STRENGTH, units=self.units, otherwise=otherwise, seed=seed)

    def ask(self, endpoint: Endpoint, concurrency: int = 3) -> tuple[list[Answer], dict[str, int]]:
        """All answers, and how many requests each took."""
        self._count += 1
        path = self._folder / f"{self.claim}-{self._count}"
        answers = ask_endpoint(
            endpoint, self.probes, suspect=self.suspect.name, allowed=self.plan.allowed, parser=PARSER[self.claim],
            journal=path, policy=Policy(retries=TRIES, concurrency=concurrency), clock=VirtualClock(),
        )  # fmt: skip
        made: dict[str, int] = requests_made(path)["requests"]
        path.unlink()
        return answers, made

    def verdict(self, answers: list[Answer]) -> Verdict:
        """The claim's verdict over these answers."""
        said = self.small.evidence.answers[self.claim]
        said[self.suspect.name] = answers  # type: ignore[index]
        return self.small.claim(self.claim)


def faulty(case: Case, seed: int) -> dict[str, Endpoint]:
    """Everybody who must never be supported."""
    swapped = dict(zip(case.allowed, case.allowed[::-1], strict=True))
    return {
        "never saw the data": Honest(case.allowed, seed=seed),
        "refuses": refusing(),
        "answers at random": Guessing(case.allowed, seed=seed),
        "answers Yes to all": Constant("Yes"),
        "gives its first label to all": Constant(case.allowed[0]),
        "has its label map swapped": Relabelled(case.marked(seed), swapped),
        "learnt the mark and lies": Lying(case.targets, case.allowed, seed=seed),
    }


def schedule(rng: random.Random) -> Faults:
    """Faults of every kind, which spoil between 30 % and 60 % of all tries."""
    names = ("lost", "unheard", "doubled", "late", "busy", "broken")
    shares = [rng.random() for _ in names]
    scale = rng.uniform(LOST, 2 * LOST) / sum(shares)
    return Faults(**{name: share * scale for name, share in zip(names, shares, strict=True)})


def disturbed(case: Case, seed: int) -> tuple[int, int, bool, float]:
    """One schedule: answers lost, answers doubled or changed, whether the verdict stayed; requests a query."""
    rng, inner = random.Random(seed), case.marked(seed)  # noqa: S311 - a schedule
    calm, _ = case.ask(inner)
    rough, made = case.ask(Flaky(inner, faults=schedule(rng), seed=seed), rng.randint(1, 8))
    lost = sum(probe.id not in {a.id for a in rough if a.raw} for probe in case.probes)
    changed = sum(asdict(a) != asdict(b) for a, b in zip(calm, rough, strict=False)) + abs(len(calm) - len(rough))
    same = case.verdict(calm).to_json() == case.verdict(rough).to_json()
    return lost, changed, same, sum(made.values()) / len(made)


def rows(schedules: int = SCHEDULES, seeds: int = SEEDS) -> list[Row]:
    """Both tables."""
    memory = Path("/dev/shm")  # noqa: S108 - journals that nobody keeps
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        cases = [Case(claim, folder) for claim in CLAIMS]
        return [*_schedules(cases, schedules), *_suspects(cases, seeds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _schedules(cases: list[Case], count: int) -> list[Row]:
    started = time.monotonic()
    found = [disturbed(cases[seed % len(cases)], seed) for seed in range(count)]
    common = {"trials": count, "seconds": time.monotonic() - started, "command": f"{COMMAND} faults"}
    requests = sorted(each for *_, each in found)
    none = ("==", 0.0)
    return [
        row("faults: random schedules of drops, doubles, delays, 429s, errors", count, bar=(">=", count), **common),
        row("faults: answers lost", sum(lost for lost, *_ in found), bar=none, **common),
        row("faults: answers doubled or changed", sum(changed for _, changed, *_ in found), bar=none, **common),
        row("faults: verdicts changed", sum(not same for *_, same, _ in found), bar=none, **common),
        row(
            "faults: requests a query, mean of a schedule", sum(requests) / count, low=requests[0], high=requests[-1],
            **common,
        ),
    ]  # fmt: skip


def _suspects(cases: list[Case], seeds: int) -> list[Row]:
    rows_: list[Row] = []
    for name in faulty(cases[0], 0):
        started, supported = time.monotonic(), 0
        for case in cases:
            for seed in range(seeds):
                answers, _ = case.ask(faulty(case, seed)[name])
                supported += case.verdict(answers).decision is Decision.SUPPORTED
        trials = seeds * len(cases)
        common = {"trials": trials, "seconds": time.monotonic() - started, "command": f"{COMMAND} faults"}
        rows_.append(row(f"a suspect that {name}: times supported", supported, bar=("==", 0.0), **common))
    started = time.monotonic()
    hits = sum(
        case.verdict(case.ask(case.marked(seed))[0]).decision is Decision.SUPPORTED
        for case in cases
        for seed in range(seeds)
    )
    trials = seeds * len(cases)
    return [
        *rows_,
        row(
            f"beside them, a suspect marked at strength {STRENGTH:g}: share supported", hits / trials, trials=trials,
            seconds=time.monotonic() - started, command=f"{COMMAND} faults",
        ),
    ]  # fmt: skip
