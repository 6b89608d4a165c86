"""What a bundle shows of times: proofs that a ledger holds commitment, release and plan, and an RFC 3161 time stamp.

A ledger's order is shown by its tree; an entry's time is its writer's clock. A time stamp's time is its authority's.
Whom to believe is the reader's choice: without keys of its own, signatures are checked by the keys in the bundle, and
what that leaves open is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from verification.bundle_faults import BundleError, Failure, failing_as
from verification.checkpoint import Verifier, open_checkpoint, public_value
from verification.faults import LedgerError
from verification.ledger_proof import Proven, check_proof
from verification.timestamps import open_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.plan import AuditPlan

COMMITMENT, RELEASE, PLAN = "commitment", "release", "plan"
_ORDER = (COMMITMENT, RELEASE, PLAN)
_DIGEST_FIELD = {COMMITMENT: "sha256", RELEASE: "manifest_sha256", PLAN: "plan_sha256"}
_DATE_LENGTH = len("2026-01-31")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """``what`` existed at ``time`` (UTC) at the latest, by the evidence named."""

    what: str
    time: str
    evidence: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEvidence:
    """What is dated, and what the reader still has to believe or look up."""

    dated: tuple[Dated, ...]
    unchecked: tuple[str, ...]

    def of(self, what: str) -> tuple[Dated, ...]:
        """The evidence for ``commitment``, ``release`` or ``plan``."""
        return tuple(each for each in self.dated if each.what == what)


def time_evidence(
    plan: AuditPlan,
    *,
    plan_digest: str,
    release: str,
    ledger: Mapping[str, Any],
    timestamp: bytes,
    ledger_keys: Sequence[str] = (),
    authorities: Sequence[bytes] = (),
) -> TimeEvidence:
    """Checks every proof and the time stamp, and that they are what the plan cites.

    Args:
        plan: cites the commitment, and the evidence of its time.
        plan_digest: its SHA-256.
        release: SHA-256 of the release's manifest; "" where there is none.
        timestamp: DER; empty where there is none.
        ledger: proofs by name, and under ``keys`` the verifier keys of the log.
        ledger_keys: verifier keys that the reader trusts; where given, the bundle's own are not used.
        authorities: certificates (PEM) of time-stamping authorities that the reader trusts.

    Raises:
        BundleError: ``ledger``, ``timestamp``, or ``time`` where the plan cites what is not there.
    """
    digests = {COMMITMENT: str(plan.commitment["sha256"]), RELEASE: release, PLAN: plan_digest}
    dated: list[Dated] = []
    unchecked: list[str] = []
    verifiers: list[Verifier] = []
    with failing_as(Failure.LEDGER):
        if ledger:
            if not ledger.get("keys"):
                raise BundleError(Failure.LEDGER, "got proofs without the log's verifier keys, expected those too")
            verifiers = [Verifier.decode(text) for text in ledger_keys or ledger["keys"]]
            dated += _ledger(ledger, digests, verifiers)
            if not ledger_keys:
                unchecked.append(f"whose log {_names(verifiers)} is: its key came with the bundle")
    with failing_as(Failure.TIMESTAMP):
        if timestamp:
            stamp = open_timestamp(timestamp, authorities)
            what = next((name for name, value in digests.items() if value == stamp.digest), None)
            if what is None:
                raise BundleError(Failure.TIMESTAMP, "got a time stamp of something else, expected one of this audit")
            dated.append(Dated(what=what, time=stamp.time, evidence="timestamp", by=stamp.authority))
            if not stamp.trusted:
                unchecked.append(f"whether {stamp.authority} (SHA-256 {stamp.fingerprint[:16]}…) is to be believed")
    with failing_as(Failure.TIME):
        unchecked += _cited(plan, dated, ledger, verifiers)
    return TimeEvidence(dated=tuple(dated), unchecked=tuple(unchecked))


def _ledger(ledger: Mapping[str, Any], digests: Mapping[str, str], verifiers: Sequence[Verifier]) -> list[Dated]:
    """Each proof shows the event that it is named for, all in one log, in the order of an honest audit."""
    proven: dict[str, Proven] = {}
    for what in _ORDER:
        if what in ledger:
            proven[what] = found = check_proof(ledger[what], verifiers)
            event = found.event or {}
            if event.get("event") != what or event.get(_DIGEST_FIELD[what]) != digests[what]:
                raise BundleError(Failure.LEDGER, f"got a proof of another event, expected this audit's {what}")
    if not proven:
        raise BundleError(Failure.LEDGER, "got a ledger without a proof, expected one")
    _one_log([ledger[what] for what in proven], list(proven.values()), ledger.get("consistency"), verifiers)
    places = [(found.index or 0, what) for what, found in proven.items()]
    for (earlier, first), (later, then) in pairwise(places):
        if earlier >= later:
            raise BundleError(
                Failure.LEDGER, f"got {first} at entry {earlier} and {then} at {later}, expected the other order"
            )
    return [
        Dated(
            what=what, time=str((found.event or {})["at"]), evidence="ledger",
            by=f"{found.origin}, entry {found.index} of {found.size}",
        )
        for what, found in proven.items()
    ]  # fmt: skip


def _one_log(bodies: Sequence[Any], proven: Sequence[Proven], consistency: Any, verifiers: Sequence[Verifier]) -> None:  # noqa: ANN401
    """All proofs lead to one root, or to two that a proof of consistency joins: forks have no order."""
    notes = [body["checkpoint"].encode() for body in bodies]
    if consistency is not None:
        joined = check_proof(consistency, verifiers)
        notes += [consistency[name].encode() for name in ("checkpoint", "old_checkpoint")]
        sizes = {joined.old, joined.size}
    else:
        sizes = {proven[0].size}
    heads = {(head.origin, head.size, head.root) for head in (open_checkpoint(note, *verifiers) for note in notes)}
    if (
        len({origin for origin, _, _ in heads}) != 1
        or {size for _, size, _ in heads} != sizes
        or len(heads) > len(sizes)
    ):
        raise BundleError(
            Failure.LEDGER, "got proofs under checkpoints that nothing joins, expected one checkpoint or a consistency"
        )


def _cited(
    plan: AuditPlan, dated: Sequence[Dated], ledger: Mapping[str, Any], verifiers: Sequence[Verifier]
) -> list[str]:
    """The plan's own words about times, against the evidence."""
    timing, open_points = plan.timing, []
    public = plan.commitment.get("public_value")
    if public:
        if public["commitment"] != plan.commitment["sha256"]:
            raise BundleError(Failure.TIME, "got a public value B for another commitment, expected this one's")
        if not _drawn_by(public["value"], ledger, verifiers):
            open_points.append(f"that {public['source']} gave the public value B, and when: look it up there")
    if timing is None or timing.evidence == "none":
        return open_points
    if timing.evidence == "public_value":
        if not public:
            raise BundleError(Failure.TIME, "got a plan that cites a public value, expected one in its commitment")
        return open_points
    # a release comes from its commitment, and a plan cites it: whatever is dated, the commitment is no younger
    found = sorted((each for each in dated if each.evidence == timing.evidence), key=lambda each: _instant(each.time))
    if not found:
        raise BundleError(
            Failure.TIME, f"got no {timing.evidence} evidence of the commitment, expected what the plan cites"
        )
    if timing.commitment_time and _instant(found[0].time) > _instant(timing.commitment_time):
        raise BundleError(
            Failure.TIME,
            f"got a commitment dated {found[0].time}, expected it by {timing.commitment_time}, as the plan says",
        )
    return open_points


def _drawn_by(value: str, ledger: Mapping[str, Any], verifiers: Sequence[Verifier]) -> bool:
    """Whether B is the value of the checkpoint under which the commitment is proven: drawn after it, by that log."""
    note = str((ledger.get(COMMITMENT) or {}).get("checkpoint")).encode()
    for verifier in verifiers:
        try:
            if public_value(note, verifier) == value:
                return True
        except LedgerError:
            continue  # a key of the log that signed another checkpoint
    return False


def _instant(text: str) -> datetime:
    """A time; of a date alone, the end of its day, which errs to the later."""
    found = datetime.fromisoformat(text if len(text) > _DATE_LENGTH else f"{text}T00:00:00+00:00")
    return found + timedelta(days=1) if len(text) == _DATE_LENGTH else found


def _names(verifiers: Sequence[Verifier]) -> str:
    return ", ".join(f"{each.name}+{each.key_id.hex()}" for each in verifiers) or "this"
