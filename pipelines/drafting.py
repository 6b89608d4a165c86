"""The plan of an audit before it is sealed: who is asked what, what is bet, what may be spent, what is known of times.

Sealing it spends its triggers; a draft spends nothing, and is what a dry run and a power table are made of.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.files import PRIVATE_FILE_MODE, atomic_write
from countermark.manifest import digest, read_json
from pipelines.keystage import commitments_paid
from pipelines.plan import PLAN_FILE
from pipelines.spending import check_unopened, next_range
from pipelines.stage import COMMITMENT_FILE
from verification.bets import default_prior
from verification.canaries import ROUNDS
from verification.checkpoint import Signer
from verification.checks import PAID_KINDS
from verification.dsse import public_key
from verification.plan import (
    FIXED_N,
    SEQUENTIAL_CLAIMS,
    SEQUENTIAL_STOPPING,
    AuditPlan,
    Budget,
    Sequential,
    probes_digest,
    probes_for,
)
from verification.sequential import trigger_order
from verification.timestamps import open_timestamp
from verification.timing import Timing
from watermarks.keystore import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.audited import AuditRequest, Terms
    from pipelines.stage import Context
    from verification.plan import ClaimPlan
    from verification.probe import Probe

CANARIES = 3
"""Prompts without a trigger that everybody is asked at start, middle and end, where an endpoint could be exchanged."""
TIMESTAMP_FILE = "timestamp.tsr"
SIGNER_FILE, SIGNER_NAME = "audit-signer.key", "countermark-audit"
_UTC = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How one audit asks.

    Args:
        first: the first unspent trigger, or audit: whatever the release counts.
        seed: of the order of asking and of wrong keys; public.
        system: system prompt of every query, or None.
    """

    first: int
    seed: str
    system: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plan before it is sealed: the next unspent triggers, and what they would be asked with."""

    plan: AuditPlan
    asked: tuple[tuple[ClaimPlan, list[Probe]], ...]
    first: int
    request: str
    room: dict[str, Any]


def draft(request: AuditRequest, context: Context, keys: Artifact, release: Artifact, *, seal: bool) -> Draft:
    """The plan of an audit, from the commitment and the next unspent triggers; ``seal`` draws its signer's key."""
    key, config, terms = context.key(), context.config, request.terms
    commitment = read_json(keys.path / COMMITMENT_FILE)
    suspects = tuple(asked.planned(control=asked not in request.suspects) for asked in request.everybody)
    check_commitment(commitment["config_digest"], config)
    request.kind.check_base(config, release)
    total, each = request.kind.room(config)
    spends = digest(
        [*(asdict(suspect) for suspect in suspects), request.system, config.audit.model_dump(), terms.body()]
    )
    room = {"total": total, "each": each, "unit": request.kind.unit, "release": commitment["sha256"]}
    check_unopened(context.spent_path(), request.name, key.key_id, release=commitment["sha256"])
    first = next_range(context.spent_path(), request.name, spends, **room)
    seed = key.wrong_key_seed(commitment["sha256"], first)
    asking = Asking(first=first, seed=seed, system=request.system)
    asked = request.kind.claims(key, context, release, suspects, asking)  # what cannot be asked spends no triggers
    looks = request.paid if terms.looks is None else terms.looks
    sequential = _bets(asked) if looks else None
    asked = [_ordered(claim, probes, seed) if sequential else (claim, probes) for claim, probes in asked]
    published = {"leaf_roots": release.manifest["leaf_roots"]} if release.manifest.get("leaf_roots") else {}
    canaries = tuple(dict.fromkeys(asked[0][0].carriers))[:CANARIES] if request.paid else ()
    plan = AuditPlan(
        alpha=config.audit.alpha,
        commitment={**commitment, **published},
        commitments_made=commitments_paid(context),
        wrong_key_seed=seed,
        wrong_keys=config.audit.wrong_keys,
        claims=tuple(claim for claim, _ in asked),
        audits_admitted=total // each,
        sequential=sequential,
        stopping=SEQUENTIAL_STOPPING if sequential else FIXED_N,
        canaries=canaries,
        budget=_budget(request, asked, len(canaries)),
        timing=timing(context, commitment, terms),
        signer=public_key(audit_signer(context.owner)) if seal else "",
    )
    return Draft(plan=plan, asked=tuple(asked), first=first, request=spends, room=room)


def _bets(asked: Sequence[tuple[ClaimPlan, list[Probe]]]) -> Sequential | None:
    """The bets of the keyed claims; None where no claim can be looked at early."""
    classes = [len(claim.answers) for claim, _ in asked if claim.claim in SEQUENTIAL_CLAIMS]
    return Sequential(prior=default_prior(min(classes))) if classes else None


def _ordered(claim: ClaimPlan, probes: list[Probe], seed: str) -> tuple[ClaimPlan, list[Probe]]:
    """Trigger by trigger, where looks are allowed: every whole trigger is then one."""
    if claim.claim not in SEQUENTIAL_CLAIMS:
        return claim, probes
    ordered = trigger_order(probes, seed)
    return replace(claim, probes=probes_digest(ordered)), ordered


def _budget(request: AuditRequest, asked: Sequence[tuple[ClaimPlan, list[Probe]]], prompts: int) -> Budget | None:
    """The budget of all paid suspects together; of queries where none is named, everything that is planned.

    Raises:
        UsageError: nobody is paid, or it does not reach for more than the canaries.
    """
    terms = request.terms
    if terms.queries is None and terms.tokens is None:
        return None
    paid = [each for each in request.everybody if each.kind in PAID_KINDS]
    if not paid:
        raise UsageError("got a budget without anybody to pay, expected a suspect behind a URL")
    canaries = len(paid) * len(ROUNDS) * prompts
    planned = canaries + sum(
        len(probes_for(probes, suspect))
        for claim, probes in asked
        for suspect in claim.suspects
        if suspect.kind in PAID_KINDS
    )
    queries = planned if terms.queries is None else terms.queries
    if queries <= canaries:
        raise UsageError(
            f"got a budget of {queries} queries, of which {canaries} are canaries, expected more",
            hint=f"the whole plan takes {planned}; see `countermark plan audit --dry-run` for what fewer can show",
        )
    return Budget(queries=queries, tokens=terms.tokens)


def timing(context: Context, commitment: Mapping[str, Any], terms: Terms) -> Timing:
    """What shows when the commitment was made: a time stamp, the configured ledger, B; or nothing.

    Raises:
        UsageError: a time stamp of something else.
    """
    released, keys = terms.suspect_released, context.config.keys
    if terms.timestamp:
        stamp = open_timestamp(terms.timestamp)
        if stamp.digest != commitment["sha256"]:
            raise UsageError(
                f"got a time stamp of {stamp.digest[:16]}…, expected the commitment's {commitment['sha256'][:16]}…",
                hint="stamp the commitment's own SHA-256, as `countermark keys commit` prints it",
            )
        return Timing(evidence="timestamp", commitment_time=stamp.time, suspect_released=released)
    if keys.ledger:
        told = _told(keys.ledger, commitment["sha256"])
        if told:
            return Timing(evidence="ledger", commitment_time=told, suspect_released=released)
    if commitment.get("public_value"):
        return Timing(evidence="public_value", suspect_released=released)
    return Timing(evidence="none", suspect_released=released)


def _told(ledger: str, sha256: str) -> str:
    """When the ledger was told of a commitment (UTC), by its writer's clock; "" where it was not."""
    from pipelines.ledgering import find_event, open_ledger

    with closing(open_ledger(ledger)) as opened:
        found = find_event(opened, "commitment", sha256=sha256)
    if found is None:
        return ""
    at = datetime.fromisoformat(found[1]["at"]).astimezone(UTC)
    return at.strftime(_UTC) if not at.microsecond else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def audit_signer(owner: Path) -> Signer:
    """Who signs this owner's evidence: an Ed25519 key of its own, drawn once, beside the key ring."""
    path = owner / SIGNER_FILE
    if not path.exists():
        signer = Signer.new(SIGNER_NAME)
        atomic_write(path, signer.encode().encode() + b"\n", mode=PRIVATE_FILE_MODE)
    return Signer.decode(read_secret_file(path).decode("utf-8", "replace"))


def sealed_plan(artifact: Artifact) -> AuditPlan:
    """The plan of an audit, if it is the one that was sealed.

    Raises:
        IntegrityError: it is not.
    """
    body = read_json(artifact.path / PLAN_FILE)
    if digest(body) != artifact.manifest["plan_digest"]:
        raise IntegrityError("got a plan that is not the sealed one", hint="restore it; edited plans prove nothing")
    return AuditPlan.from_json(body)


def check_commitment(committed: str, config: Any) -> None:  # noqa: ANN401
    """The config and the dataset must be those of the marking: carriers and sentences come from them."""
    if committed != config.marking_digest():
        raise IntegrityError(
            "got a commitment to another marking config or dataset, expected one to this release's",
            hint="audit with the config and the data file that the release was made with",
        )
