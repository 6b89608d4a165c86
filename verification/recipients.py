"""Which recipient's copy a suspect was trained on: one set of answers scores all of them.

Recipients share codewords and differ in targets, drawn independently. Under the null "the suspect is independent of
recipient r's targets" the matches with r are at most Binomial(n, 1/C), whoever else's copy leaked: a leak of A's copy
says nothing of B's targets. So every recipient is tested, and Holm over all keeps the chance of *any* wrong name at
alpha.

Who mixed his copy with another's matches only half of the codewords for which the two differ. So each recipient r is
tested twice: over all codewords, and over those whose answer is not what s wanted, s being the best of the others. That
choice knows the answers and everybody's targets but r's, so r's matches are Binomial there too. The first test has .99
of the level, the second .01: few codewords are left to it, but of a mixture r explains nearly all of them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError
from verification.statistics import holm, log10_binomial_tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN = 10
_BESIDE = 0.01
"""The second test's part of the level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One recipient's evidence; ``beside`` is the recipient whose answers were set aside, where that decided."""

    recipient: str
    matches: int
    trials: int
    log10_p: float
    log10_p_holm: float
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Every recipient's evidence, strongest first, and who is named at ``alpha``.

    ``word`` is ``none``, ``one`` or ``mixed`` (two or more copies went into the suspect).
    """

    ranked: tuple[Scored, ...]
    named: tuple[str, ...]
    word: str

    def to_json(self) -> dict[str, Any]:
        """The first ten recipients and all named ones."""
        shown = max(_SHOWN, len(self.named))
        ranked = [asdict(each) for each in self.ranked[:shown]]
        return {"word": self.word, "named": list(self.named), "recipients": len(self.ranked), "ranked": ranked}


def name_recipients(
    votes: Sequence[str | None],
    targets: Mapping[str, Sequence[str]],
    *,
    classes: int,
    alpha: float,
    log10_paid: float = 0.0,
) -> Naming:
    """Names recipients from one majority answer a codeword.

    Args:
        votes: the suspect's answer to each codeword; None where it could not be read.
        targets: each recipient's answers, in the same order.
        classes: C.
        alpha: the family-wise error over all recipients.
        log10_paid: what else must be paid (other claims, commitments), in log10.

    Raises:
        InconclusiveError: no recipients or no codewords.
    """
    if not targets or not votes:
        raise InconclusiveError(f"got {len(targets)} recipients and {len(votes)} codewords, expected some of each")
    matches = {
        who: sum(vote == target for vote, target in zip(votes, wanted, strict=True)) for who, wanted in targets.items()
    }
    first, *second = sorted(matches, key=lambda who: (-matches[who], who))[:2]
    best_other = {who: "".join(second) if who == first else first for who in targets}
    found = {who: _tested(votes, targets[who], targets.get(best_other[who]), 1.0 / classes) for who in targets}
    raw = {who: min(0.0, p + log10_paid) for who, (p, _) in found.items()}
    adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
    ranked = tuple(
        Scored(
            recipient=who, matches=matches[who], trials=len(votes), log10_p=raw[who], log10_p_holm=adjusted[who],
            beside=best_other[who] if found[who][1] else "",
        )
        for who in sorted(raw, key=lambda who: (raw[who], -matches[who], who))
    )  # fmt: skip
    named = tuple(each.recipient for each in ranked if each.log10_p_holm <= math.log10(alpha))
    return Naming(ranked=ranked, named=named, word=("none", "one")[len(named)] if len(named) < 2 else "mixed")  # noqa: PLR2004


def _tested(
    votes: Sequence[str | None], mine: Sequence[str], theirs: Sequence[str] | None, chance: float
) -> tuple[float, bool]:
    """The better of a recipient's two tests, each divided by its part of the level, and whether it is the second.

    ``theirs`` are the targets of the best of the others, None where there is nobody else.
    """
    over_all = log10_binomial_tail(
        sum(vote == wanted for vote, wanted in zip(votes, mine, strict=True)), len(votes), chance
    )
    if theirs is None:
        return over_all, False
    left = [(vote, wanted) for vote, wanted, other in zip(votes, mine, theirs, strict=True) if vote != other]
    hits = sum(vote == wanted for vote, wanted in left)
    beside = log10_binomial_tail(hits, len(left), chance) if left else 0.0
    over_all, beside = over_all - math.log10(1.0 - _BESIDE), beside - math.log10(_BESIDE)
    return min(over_all, beside), beside < over_all
