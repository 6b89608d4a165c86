"""What an audit says: a closed set of decisions, and every number that led to one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verification.plan import Claim
    from verification.statistics import Interval

EVIDENCE_DIGITS = 12
_SMALLEST_LOG10 = -307.0


class Decision(StrEnum):
    """The three words."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not_supported"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One claim about one suspect or control.

    Args:
        log10_p: authoritative; ``p_value`` may underflow to 0.
        log10_p_holm: adjusted over the claims, or over the controls; this one is compared with alpha.
        log10_e: e-value of the same evidence, where the statistic has one.
        log10_floor: the smallest log10 p that so much evidence could reach.
        successes, trials: what was counted.
        effect: success rate with its exact interval, and ``chance`` beside it.
        wrong_keys: the statistic under keys that anyone can re-derive, and the claim's rank among them.
        recipients: who of several recipients is named, with everyone's evidence.
        paper: the method's own numbers, labelled: they are no false-positive bound.
        sequential: the e-process after each trigger, corrections but Holm's paid, and why the asking stopped; None at
            fixed n.
        exploratory: why this can be no more than exploratory; empty where it is confirmatory.
        drift: whether the suspect answered the plan's canaries alike from start to end; None where it had none.
    """

    claim: Claim
    suspect: str
    control: bool
    decision: Decision
    method: str
    alpha: float
    queries: int
    log10_p: float
    log10_p_holm: float
    successes: int
    trials: int
    chance: float
    effect: Interval
    log10_e: float | None = None
    log10_floor: float | None = None
    wrong_keys: dict[str, Any] | None = None
    recipients: dict[str, Any] | None = None
    paper: dict[str, Any] | None = None
    reasons: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = field(default=())
    sequential: dict[str, Any] | None = None
    exploratory: tuple[str, ...] = ()
    drift: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with floats printed to 12 significant digits."""
        body = asdict(self)
        body["sentence"] = self.sentence()
        body["p_value"] = 10.0**self.log10_p if self.log10_p > _SMALLEST_LOG10 else 0.0
        return rounded(body)  # type: ignore[no-any-return]

    def sentence(self) -> str:
        """One sentence that commits no prosecutor's fallacy; it begins with what makes it exploratory, if anything."""
        said = f"Exploratory only: {'; '.join(self.exploratory)}. " if self.exploratory else ""
        if self.decision is Decision.INCONCLUSIVE:
            return f"{said}The evidence cannot decide: {'; '.join(self.reasons)}"
        strong = "evidence at least this strong" + (" at any look" if self.sequential else "")
        said += (
            f"The probability of {strong}, if {self.suspect} had nothing to do with this key's "
            f"{self.claim} mark, is at most 10^{rounded_up(self.log10_p)}"
        )
        if self.successes or not self.trials:
            return said
        bound = math.ceil(self.effect.high * 1000) / 1000
        level = f"{self.effect.level:.0%} interval"
        return f"{said}; none of {self.trials} trials spoke for the mark, so their rate is at most {bound:g} ({level})"


def rounded_up(log10_p: float) -> str:
    """One decimal, rounded towards zero: "at most 10^x" must stay true of what is printed."""
    return f"{math.ceil(log10_p * 10) / 10:.1f}"


def rounded(value: Any) -> Any:  # noqa: ANN401 - JSON is what it is
    """``value`` with every float cut to 12 significant digits, recursively."""
    if isinstance(value, float):
        return float(f"{value:.{EVIDENCE_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
