"""Owners who cheat: ground keys, triggers picked after the model, a second commitment opened instead of the first.

Each is caught, priced, or named in the verdict. The base model here answers every codeword alike, a habit that needs no
model to simulate: grinding is then as cheap as it can be, and what it finds is what a real one would find.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from benchmarks.audit import COMMAND
from benchmarks.rows import row
from countermark.manifest import canonical_json
from tests.support import key_of
from tests.verification import bundles, sealed
from verification.bundle import bundle_files
from verification.bundle_faults import BundleError, Failure
from verification.bundle_judge import judge
from verification.double_i import codewords
from verification.findings import HONEST_DRAW
from verification.leafing import opening_to_json
from verification.plan import Claim, probes_digest
from verification.statistics import clopper_pearson, log10_binomial_tail
from verification.timing import NO_TIMING
from verification.verdict import Decision
from watermarks.carriers import double_i
from watermarks.keys import DERIVATION_VERSION, KEY_BYTES, NONCE_BYTES, Key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.rows import Row
    from verification.audit import Evidence
    from verification.plan import AuditPlan
    from verification.verdict import Verdict

TRIGGERS, CLASSES = 20, 4
HABIT = 2
"""The base's answer to everything: C."""
TRIES, MANY = 1_000_000, 80_000_000
VALUES = 100_000
TRIALS = 100
SCOPE = "s"
CHUNK = 100_000


def rows(many: int = MANY, values: int = VALUES, trials: int = TRIALS) -> list[Row]:
    """All rows of this part."""
    secret, grinding = _ground(many)
    return [*grinding, *_audited(secret), *_with_value(secret, values), *_picked(trials), *_second(trials)]


def matches(secrets: NDArray[np.uint8], salt: bytes = b"") -> NDArray[np.int64]:
    """How many of a key's targets are the habit: :func:`double_i.derive_targets`, with all that is constant hoisted."""
    label = {"purpose": double_i.PURPOSE, "part": "targets", "scope": SCOPE, "classes": CLASSES}
    info = canonical_json({"countermark": DERIVATION_VERSION, "stream": label}) + b"\x01"
    salt, start, shake, mac = salt or bytes(32), bytes(8), hashlib.shake_256, hmac.digest
    drawn = b"".join(
        shake(mac(mac(salt, secret.tobytes(), "sha256"), info, "sha256") + start).digest(TRIGGERS) for secret in secrets
    )
    # four divides 256: no byte is ever rejected
    return (np.frombuffer(drawn, np.uint8).reshape(-1, TRIGGERS) % CLASSES == HABIT).sum(1)


def _key(secret: bytes, salt: bytes = b"") -> Key:
    return Key(key_id="ck_ground", secret=secret, nonce=bytes(NONCE_BYTES), salt=salt)


def _ground(many: int) -> tuple[bytes, list[Row]]:
    """Without B nothing stops an owner from trying; the numbers are what is found on the way to ``many``."""
    chance, started, cpu = np.random.default_rng(7), time.perf_counter(), time.process_time()
    best, secret, done, found = -1, b"", 0, []
    while done < many:
        secrets = chance.integers(0, 256, (min(CHUNK, many - done), KEY_BYTES), np.uint8)
        hits = matches(secrets)
        top = int(hits.argmax())
        done += len(secrets)
        if hits[top] > best:
            best, secret = int(hits[top]), secrets[top].tobytes()
        if done in {TRIES, many}:
            seconds, p = time.perf_counter() - started, log10_binomial_tail(best, TRIGGERS, 1 / CLASSES)
            name = f"{done:.0e} ground keys without B"
            common: dict[str, Any] = {"trials": done, "seconds": seconds, "command": COMMAND}
            found += [
                row(f"{name}: most matches of {TRIGGERS} with a base's habit", best, **common),
                row(f"{name}: log10 p that an audit would print for them", p, **common),
                row(f"{name}: the same, every try declared as a commitment", min(0.0, p + math.log10(done)), **common),
                row(f"{name}: keys a second of one thread's own time", done / (time.process_time() - cpu), **common),
            ]
    targets = double_i.derive_targets(_key(secret), scope=SCOPE, codewords=TRIGGERS, classes=CLASSES)
    if sum(target == HABIT for target in targets) != best:
        raise AssertionError("the grinder does not derive what the library derives")
    return secret, found


def _audited(secret: bytes) -> list[Row]:
    """The best ground key through the real path, the base accused and, once, among its own controls."""
    started, key = time.perf_counter(), _key(secret)
    blind, seen = _verdict(key, control="A"), _verdict(key, control="ABCD"[HABIT])
    common: dict[str, Any] = {"trials": 1, "seconds": time.perf_counter() - started, "command": COMMAND}
    return [
        row("the best ground key, audited: log10 p of an innocent base", blind.log10_p, **common),
        row("… a verdict without the assumption that the key was drawn honestly", HONEST_DRAW not in blind.assumptions,
            bar=("==", 0), **common),
        row("… supported although a model of the same habits is among the controls",
            seen.decision is Decision.SUPPORTED, bar=("==", 0), **common),
    ]  # fmt: skip


def _verdict(key: Key, *, control: str) -> Verdict:
    """What an audit without B says of a base that answers C to everything; a control answers ``control``."""
    from tests.verification.test_double_i_audit import FORM
    from verification.audit import Evidence, audit, planted
    from verification.claims import PROBES
    from verification.plan import AuditPlan

    mark = {"scope": SCOPE, "codewords": TRIGGERS, "words": 2, "rows_per_trigger": 5, "form": FORM.to_json()}
    claim = replace(bundles.planned(key, Claim.DOUBLE_I), mark=mark, answers=FORM.answers, extra_answers=())
    probes = PROBES[Claim.DOUBLE_I](key, mark, claim.carriers, wrong_seed="public")
    claim = replace(claim, probes=probes_digest(probes))
    say = {"suspect": "ABCD"[HABIT], "twin": control}
    answers = {s.name: bundles.answers_to(claim, s, probes, lambda _, s=s: say[s.name]) for s in claim.suspects}
    plan = AuditPlan(
        alpha=1e-4, commitments_made=1, wrong_key_seed="public", wrong_keys=9, claims=(claim,),
        commitment={"sha256": key.commit("c"), "config_digest": "c", "public_value": None},
    )  # fmt: skip
    evidence = Evidence(
        corpora={}, answers={Claim.DOUBLE_I: answers}, probes={Claim.DOUBLE_I: probes},
        marked_rows={Claim.DOUBLE_I: [5] * planted(key, claim)},
    )  # fmt: skip
    return next(v for v in audit(plan, key, evidence) if not v.control)


def _with_value(secret: bytes, values: int) -> list[Row]:
    """B comes after the commitment: the ground key is a key like any other."""
    started, one = time.perf_counter(), np.frombuffer(secret, np.uint8)[None]
    hits = np.array([int(matches(one, b"%064x" % value)[0]) for value in range(values)])
    common: dict[str, Any] = {"trials": values, "seconds": time.perf_counter() - started, "command": COMMAND}
    mean, spread = float(hits.mean()), 1.96 * float(hits.std()) / math.sqrt(values)
    found = [
        row(f"the best ground key under {values} values B: mean matches of {TRIGGERS}", mean, low=mean - spread,
            high=mean + spread, **common),
        row("… most matches", float(hits.max()), **common),
    ]  # fmt: skip
    for bar in (0.05, 0.01, 1e-3):
        needed = int(stats.binom.isf(bar, TRIGGERS, 1 / CLASSES)) + 1
        exact = float(stats.binom.sf(needed - 1, TRIGGERS, 1 / CLASSES))
        rate = clopper_pearson(int((hits >= needed).sum()), values)
        found += [
            row(f"… share with p <= {bar:g} (exact: {exact:.3g})", rate.value, low=rate.low, high=rate.high, **common),
            row(f"… lower end of its interval beyond {bar:g}", float(rate.low > bar), bar=("==", 0), **common),
        ]
    return found


def _picked(trials: int) -> list[Row]:
    """Codewords chosen after the model, by what it says to them: everything else is in order, logged and signed."""
    started, caught = time.perf_counter(), 0
    for number in range(trials):
        case = bundles.make(key_of(f"picker-{number}"), (Claim.DOUBLE_I,), gather=_hand_picked)
        caught += _failure(sealed.signed(bundle_files(case.bundle, []))) is Failure.PROBES
    common: dict[str, Any] = {"trials": trials, "seconds": time.perf_counter() - started, "command": COMMAND}
    return [row("triggers picked after the model, not caught as probes", trials - caught, bar=("==", 0), **common)]


def _hand_picked(plan: AuditPlan, key: Key) -> tuple[AuditPlan, Evidence, Any]:
    """The first codewords are exchanged for words to which the suspect says what the key wants."""
    plan, evidence, received = bundles.asked(plan, key)
    (claim,) = plan.claims
    mine = codewords(key, claim.mark)
    swapped = {old: f"picked {number}" for number, old in enumerate(mine[:3])}

    def exchanged(prompt: str) -> str:
        return next((prompt.replace(old, new) for old, new in swapped.items() if prompt.endswith(old)), prompt)

    probes = [replace(each, prompt=exchanged(each.prompt)) for each in evidence.probes[claim.claim]]
    digests = {each.id: each.prompt_digest for each in probes}
    answers = {
        who: [replace(a, prompt_digest=digests[a.id]) for a in said]
        for who, said in evidence.answers[claim.claim].items()
    }
    for line in received["suspect"]:
        line["prompt_digest"] = digests.get(line["id"], line["prompt_digest"])
    plan = replace(plan, claims=(replace(claim, probes=probes_digest(probes)),))
    return plan, replace(evidence, probes={claim.claim: probes}, answers={claim.claim: answers}), received


def _second(trials: int) -> list[Row]:
    """Another commitment than the logged one is opened: alone, with a plan that cites it, without any log, declared."""
    started, said = time.perf_counter(), dict.fromkeys(("opened", "cited", "undated", "declared"), 0)
    for number in range(trials):
        for name, wrong in _openings(number):
            said[name] += wrong
    common: dict[str, Any] = {"trials": trials, "seconds": time.perf_counter() - started, "command": COMMAND}
    return [
        row("a second commitment opened, the plan cites the first: not caught as opening", said["opened"],
            bar=("==", 0), **common),
        row("… the plan cites the second, the log knows the first: not caught as ledger", said["cited"],
            bar=("==", 0), **common),
        row("… no log and no time stamp: a verdict that does not say so", said["undated"], bar=("==", 0), **common),
        row("… both declared: a p that is not twice as large", said["declared"], bar=("==", 0), **common),
    ]  # fmt: skip


def _openings(number: int) -> Iterator[tuple[str, bool]]:
    first = bundles.honest((Claim.DOUBLE_I,))
    second = bundles.make(key_of(f"second-{number}"), (Claim.DOUBLE_I,))
    content = bundle_files(first.bundle, judge(first.bundle))
    opening = {"opening.json": canonical_json(opening_to_json(second.key))}
    yield "opened", _failure(sealed.signed({**content, **opening})) is not Failure.OPENING
    cited = replace(second.bundle, ledger=first.bundle.ledger)
    files = sealed.signed(bundle_files(cited, judge(second.bundle)))
    yield "cited", _failure(files) is not Failure.LEDGER
    undated = replace(second.bundle, plan=replace(second.bundle.plan, timing=None), ledger={})
    yield "undated", not all(NO_TIMING in verdict.assumptions for verdict in judge(undated))
    both = replace(undated, plan=replace(undated.plan, commitments_made=2))
    pairs = zip(judge(undated), judge(both), strict=True)
    yield (
        "declared",
        any(
            not math.isclose(two.log10_p, min(0.0, one.log10_p + math.log10(2)), abs_tol=1e-9)
            for one, two in pairs
            if one.log10_p < -math.log10(2)
        ),
    )


def _failure(content: dict[str, bytes]) -> Failure | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            sealed.verified(sealed.put(Path(folder), content))
        except BundleError as error:
            return error.failure
    return None
