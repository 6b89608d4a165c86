"""The sealed plan: everything an audit will do, fixed before the first query.

What is in the plan is scored, *all* of it, and nothing that is not in it. The plan cites the commitment to the key, and
was made without looking at any target: carriers, prompts, order, decoding and parser are the same for every trigger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from countermark.manifest import digest
from countermark.version import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.probe import Probe

KEYED_ARM = "keyed"
WRONG_KEY_ARM = "wrong_key"
CANDIDATE_ARM = "candidate"

DATASET = "dataset"
HUMAN_TEXT = "human_text"


class Claim(StrEnum):
    """What can be claimed; a closed set."""

    TOKEN = "token"  # noqa: S105 - a claim's name
    INPUT_LEVEL = "input_level"
    DOUBLE_I = "double_i"
    DOUBLE_I_TRIGGER = "double_i_trigger"
    INPUT_TRIGGER = "input_trigger"
    OUTPUT_WEAK = "output_weak"
    OUTPUT_ROBUST = "output_robust"
    OUTPUT_STEGANOGRAPHIC = "output_steganographic"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSuspect:
    """A suspect or control by name, and the digest of the artifact that is asked ("" where it is a corpus)."""

    name: str
    control: bool
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPlan:
    """One claim: who is asked, with what, and what is counted.

    Args:
        mark: the parameters from which the key re-derives triggers and targets (or the token scheme).
        answers: the allowed answers in the order of target indices; empty for ``token``.
        extra_answers: what the parser reads besides, for arms that are not keyed.
        carriers: texts that carry every trigger alike; ``carrier_labels`` their true classes, where they have any.
        probes: digest of the probe list, in the order of asking.
    """

    claim: Claim
    statistic: str
    mark: dict[str, Any]
    suspects: tuple[PlannedSuspect, ...]
    answers: tuple[str, ...] = ()
    extra_answers: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    carrier_labels: tuple[str, ...] = ()
    parser: str = ""
    decoding: str = ""
    probes: str = ""

    @property
    def allowed(self) -> tuple[str, ...]:
        """Everything that the parser may read as an answer."""
        return (*self.answers, *self.extra_answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """The whole audit. ``commitment`` is the marking's, made before anything was marked.

    ``audits_admitted`` is how many audits with fresh codewords the release has room for: an owner may have tried them
    all, so all are paid for, like every commitment made.
    """

    alpha: float
    commitment: dict[str, Any]
    commitments_made: int
    wrong_key_seed: str
    wrong_keys: int
    claims: tuple[ClaimPlan, ...]
    correction: str = "Holm over the claims; Holm over the controls"
    stopping: str = "fixed n: every planned probe is asked once, every answer counts"
    audits_admitted: int = 1

    @property
    def paid(self) -> int:
        """What every p-value is multiplied by before any correction over claims."""
        return self.commitments_made * self.audits_admitted

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, ready to be written and digested."""
        body = asdict(self)
        return {"format": FORMAT_VERSION, **body}

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> AuditPlan:
        """The plan that :meth:`to_json` wrote.

        Raises:
            IntegrityError: another format or shape.
        """
        try:
            if body["format"] != FORMAT_VERSION:
                raise IntegrityError(f"got a plan of format {body['format']!r}, expected {FORMAT_VERSION}")
            fields = {k: v for k, v in body.items() if k != "format"}
            fields["claims"] = tuple(_claim_from_json(c) for c in body["claims"])
            return AuditPlan(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"got an audit plan of another shape ({error}), expected format 1") from error


def _claim_from_json(body: Mapping[str, Any]) -> ClaimPlan:
    fields = dict(body)
    fields["claim"] = Claim(body["claim"])
    fields["suspects"] = tuple(PlannedSuspect(**s) for s in body["suspects"])
    for name in ("answers", "extra_answers", "carriers", "carrier_labels"):
        fields[name] = tuple(body[name])
    return ClaimPlan(**fields)


def probes_for(probes: Sequence[Probe], suspect: PlannedSuspect) -> list[Probe]:
    """What one suspect is asked: the wrong key's triggers go to the claim's own suspect alone."""
    return [probe for probe in probes if not (suspect.control and probe.arm == WRONG_KEY_ARM)]


def probes_digest(probes: Sequence[Probe]) -> str:
    """What the plan seals of a probe list: ids, arms, indices and prompts, in the order of asking."""
    return digest([asdict(probe) for probe in probes])
