"""The sealed plan: everything an audit will do, fixed before the first query.

What is in the plan is scored, *all* of it, and nothing that is not in it. The plan cites the commitment to the key, and
was made without looking at any target: carriers, prompts, order, decoding and parser are the same for every trigger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import digest
from countermark.version import FORMAT_VERSION
from verification.bets import chance_of, check_prior
from verification.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.probe import Probe

__all__ = [
    "CANDIDATE_ARM", "DATASET", "FIXED_N", "FOLDER", "HUMAN_TEXT", "KEYED_ARM", "KINDS", "SEQUENTIAL_CLAIMS",
    "SEQUENTIAL_STOPPING", "WRONG_KEY_ARM", "AuditPlan", "Budget", "Claim", "ClaimPlan", "PlannedSuspect",
    "Sequential", "Timing", "probes_digest", "probes_for",
]  # fmt: skip

KEYED_ARM = "keyed"
WRONG_KEY_ARM = "wrong_key"
CANDIDATE_ARM = "candidate"

_KEY_DIGITS = 64

DATASET = "dataset"
HUMAN_TEXT = "human_text"

FOLDER = "folder"
KINDS = (FOLDER, "chat", "completions", "classifier_http", "recorded", "simulated")
"""How a suspect is asked."""

FIXED_N = "fixed n: every planned probe is asked once, every answer counts"
SEQUENTIAL_STOPPING = (
    "keyed claims: an e-process looks after whole triggers and stops once it has reached alpha after all corrections, "
    "once it no longer can, or where the budget ends; all else, controls included, at fixed n"
)


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


SEQUENTIAL_CLAIMS = (Claim.INPUT_LEVEL, Claim.DOUBLE_I, Claim.OUTPUT_ROBUST)
"""Claims of many keyed triggers: what is decided by a rank or by texts has no look before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSuspect:
    """A suspect or control by name, and the digest of the artifact that is asked ("" where it is a corpus).

    Args:
        kind: how it is asked, one of :data:`KINDS`.
        address: where; public, so without credentials. Empty for folders.
    """

    name: str
    control: bool
    digest: str
    kind: str = FOLDER
    address: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"got a suspect of kind {self.kind!r}, expected one of: {', '.join(KINDS)}")
        _expect_text("address", self.address)
        if "@" in urlsplit(self.address).netloc:
            raise UsageError(
                f"got credentials in the address of {self.name}, expected none: a plan is public",
                hint="name the URL without user and password; keys for an endpoint come from the environment",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """Permission to look early, and the bets of every look.

    Args:
        prior: rates of matches with the weight that is bet on each; a mixture, fixed before the first answer.
        look: how many triggers lie between two looks.
    """

    prior: tuple[tuple[float, float], ...]
    look: int = 1

    def __post_init__(self) -> None:
        check_prior(self.prior)
        _expect_count("look", self.look)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent on all suspects together, failed queries included; ``tokens`` None where nobody counts them."""

    queries: int
    tokens: int | None = None

    def __post_init__(self) -> None:
        _expect_count("queries", self.queries)
        if self.tokens is not None:
            _expect_count("tokens", self.tokens)


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

    Args:
        audits_admitted: how many audits with fresh codewords the release has room for: an owner may have tried them
            all, so all are paid for, like every commitment made.
        sequential: bets and looks of the keyed claims; None for fixed n.
        canaries: prompts, free of any key, that every suspect is asked at start, middle and end.
        timing: what shows when the commitment was made; None in plans that ask for no such evidence.
        signer: Ed25519 public key (hex) of who will sign the evidence.
    """

    alpha: float
    commitment: dict[str, Any]
    commitments_made: int
    wrong_key_seed: str
    wrong_keys: int
    claims: tuple[ClaimPlan, ...]
    correction: str = "Holm over the claims; Holm over the controls of each claim, at the larger of alpha and 0.001"
    stopping: str = FIXED_N
    audits_admitted: int = 1
    sequential: Sequential | None = None
    canaries: tuple[str, ...] = ()
    budget: Budget | None = None
    timing: Timing | None = None
    signer: str = ""

    def __post_init__(self) -> None:
        if type(self.alpha) is not float or not 0.0 < self.alpha < 1.0:
            raise UsageError(f"got alpha {self.alpha!r}, expected a level strictly between 0 and 1")
        _expect_count("commitments_made", self.commitments_made)
        _expect_count("audits_admitted", self.audits_admitted)
        for canary in self.canaries:
            _expect_text("canary", canary, empty=False)
        _expect_text("signer", self.signer)
        if self.signer and (len(self.signer) != _KEY_DIGITS or set(self.signer) - set("0123456789abcdef")):
            raise UsageError(f"got the signer {self.signer!r}, expected {_KEY_DIGITS} hexadecimal digits")
        if self.sequential is None:
            return
        if self.stopping == FIXED_N:
            raise UsageError(
                "got a sequential plan that says 'fixed n', expected its own stopping rule",
                hint="pass stopping=SEQUENTIAL_STOPPING",
            )
        for claim in filter(self.is_sequential, self.claims):
            check_prior(self.sequential.prior, chance=chance_of(len(claim.answers)))

    def is_sequential(self, claim: ClaimPlan) -> bool:
        """Whether ``claim`` is looked at early: its probes then come in ``trigger_order``, its answers are a prefix."""
        return self.sequential is not None and claim.claim in SEQUENTIAL_CLAIMS

    @property
    def paid(self) -> int:
        """What every p-value is multiplied by before any correction over claims."""
        return self.commitments_made * self.audits_admitted

    @property
    def family(self) -> int:
        """How many claims about suspects Holm's correction is over; controls are a family of their own."""
        return sum(not suspect.control for claim in self.claims for suspect in claim.suspects)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, ready to be written and digested; a field that came later is left out where it says nothing.

        So a plan that was sealed before there was such a field keeps its digest.
        """
        body = asdict(self)
        _leave_out(body, {"sequential": None, "canaries": (), "budget": None, "timing": None, "signer": ""})
        for claim in body["claims"]:
            for suspect in claim["suspects"]:
                _leave_out(suspect, {"kind": FOLDER, "address": ""})
        return {"format": FORMAT_VERSION, **body}

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> AuditPlan:
        """The plan that :meth:`to_json` wrote.

        Raises:
            IntegrityError: another format or shape, or a plan that could not have been sealed.
        """
        try:
            if body["format"] != FORMAT_VERSION:
                raise IntegrityError(f"got a plan of format {body['format']!r}, expected {FORMAT_VERSION}")
            fields = {k: v for k, v in body.items() if k != "format"}
            fields["claims"] = tuple(_claim_from_json(c) for c in body["claims"])
            fields["canaries"] = _strings(body.get("canaries", []))
            for name, made in (("sequential", _sequential_from_json), ("budget", Budget), ("timing", Timing)):
                if fields.get(name) is not None:
                    fields[name] = made(**fields[name])
            return AuditPlan(**fields)
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise IntegrityError(f"got an audit plan of another shape ({error}), expected format 1") from error


def _sequential_from_json(*, prior: Sequence[Sequence[float]], **more: Any) -> Sequential:  # noqa: ANN401
    # canonical JSON prints the weight 1.0 as 1
    return Sequential(prior=tuple((_float(rate), _float(weight)) for rate, weight in prior), **more)


def _claim_from_json(body: Mapping[str, Any]) -> ClaimPlan:
    fields = dict(body)
    fields["claim"] = Claim(body["claim"])
    fields["suspects"] = tuple(PlannedSuspect(**s) for s in body["suspects"])
    for name in ("answers", "extra_answers", "carriers", "carrier_labels"):
        fields[name] = tuple(body[name])
    return ClaimPlan(**fields)


def _float(value: float) -> float:
    return float(value) if type(value) is int else value


def _leave_out(body: dict[str, Any], silent: Mapping[str, object]) -> None:
    for name, nothing in silent.items():
        if body[name] == nothing:
            del body[name]


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"got {value!r}, expected a list of strings")
    return tuple(value)


def _expect_text(name: str, value: object, *, empty: bool = True) -> None:
    if type(value) is not str or not (empty or value.strip()):
        raise UsageError(f"got {value!r} as {name}, expected text")


def _expect_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise UsageError(f"got {value!r} as {name}, expected a whole number of at least 1")


def probes_for(probes: Sequence[Probe], suspect: PlannedSuspect) -> list[Probe]:
    """What one suspect is asked: the wrong key's triggers go to the claim's own suspect alone."""
    return [probe for probe in probes if not (suspect.control and probe.arm == WRONG_KEY_ARM)]


def probes_digest(probes: Sequence[Probe]) -> str:
    """What the plan seals of a probe list: ids, arms, indices and prompts, in the order of asking."""
    return digest([asdict(probe) for probe in probes])
