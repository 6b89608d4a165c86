"""The verdicts of a bundle: those of the audit, with what the bundle itself leaves open said on every one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from verification.audit import audit
from verification.bundle_faults import BundleError, Failure, failing_as
from verification.bundle_time import RELEASE, time_evidence
from verification.opening import LeafOpening
from watermarks.leaves import mark_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.bundle import Bundle
    from verification.bundle_time import TimeEvidence
    from verification.verdict import Verdict

MARKS_NOT_BOUND = (
    "assumes that answers, recipients and word lists of the plan are those of the marking: no release manifest with "
    "evidence of its date names them"
)
SCOPE_NOT_BOUND = "no commitment or dated manifest binds the scope of the derivation: an owner could have tried many"
LEAVES_UNDATED = "nothing that others can check shows that the opened leaves were published before the audit"
_BUILT_IN_SCOPES = ("reviews", "instruct")
"""Constants of this program, and so nobody's choice."""


def judge(bundle: Bundle) -> list[Verdict]:
    """The verdicts of a bundle's contents. Whom a reader believes changes none of them.

    Raises:
        BundleError: the time evidence is not what the plan cites, or the manifest names other marks.
        IntegrityError, InconclusiveError: as :func:`verification.audit.audit`.
    """
    assumed, reasons = left_open(bundle, times_of(bundle))
    return [
        replace(each, assumptions=(*each.assumptions, *assumed), exploratory=(*each.exploratory, *reasons))
        for each in audit(bundle.plan, bundle.opened, bundle.evidence)
    ]


def times_of(bundle: Bundle, *, ledger_keys: Sequence[str] = (), authorities: Sequence[bytes] = ()) -> TimeEvidence:
    """What ledger and time stamp show; raises as :func:`verification.bundle_time.time_evidence`."""
    return time_evidence(
        bundle.plan, plan_digest=bundle.plan_digest, release=bundle.release_digest, ledger=bundle.ledger,
        timestamp=bundle.timestamp, ledger_keys=ledger_keys, authorities=authorities,
    )  # fmt: skip


def left_open(bundle: Bundle, shown: TimeEvidence) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Assumptions, and reasons why an audit is no more than exploratory, that come from what the bundle lacks.

    Raises:
        BundleError: ``release``: the manifest names other marks, or other leaves, than the plan.
    """
    release, dated = bundle.manifests.get("release", {}), bool(shown.of(RELEASE))
    with failing_as(Failure.RELEASE):
        bound = _bound(bundle, release.get("marks")) and dated
        rooted = _rooted(bundle, release.get("leaf_roots")) and dated
    assumed, reasons = [], []
    if not bound:
        assumed.append(MARKS_NOT_BOUND)
        committed = bundle.plan.commitment["config_digest"]
        scopes = [str(claim.mark["scope"]) for claim in bundle.plan.claims]
        if not all(scope in _BUILT_IN_SCOPES or committed in scope for scope in scopes):
            reasons.append(SCOPE_NOT_BOUND)
    if isinstance(bundle.opened, LeafOpening) and not rooted:
        reasons.append(LEAVES_UNDATED)
    return tuple(assumed), tuple(reasons)


def _bound(bundle: Bundle, marks: object) -> bool:
    """Whether the manifest names every mark of the plan; one that names another is no evidence at all."""
    if not isinstance(marks, dict):
        return False
    for claim in bundle.plan.claims:
        if marks.get(claim.claim) != mark_digest(claim.claim, claim.mark, claim.answers):
            raise BundleError(
                Failure.RELEASE,
                f"got a {claim.claim} mark with other parameters or answers than the manifest of the release names, "
                "expected the same",
            )
    return True


def _rooted(bundle: Bundle, roots: object) -> bool:
    """Whether the manifest publishes the leaf roots that the plan cites."""
    cited = bundle.plan.commitment.get("leaf_roots")
    if not isinstance(roots, dict) or not cited:
        return False
    if roots != cited:
        raise BundleError(Failure.RELEASE, "got other leaf roots in the release's manifest than the plan cites")
    return True
