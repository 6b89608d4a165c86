"""Token watermarks in text: token ids in, counted PRF inputs and an exact tail out.

One text or a corpus, one key or a hundred thousand, one scheme or all: the inputs are counted once and every key is
tried on them. Exact over keys for a given text; for many texts under one fixed key see ``docs/concepts.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import UsageError
from verification.corpus import Corpus
from verification.statistics import holm
from verification.tails import log10_floor, log10_tails
from verification.tally import tally
from watermarks.schemes import CountLaw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from watermarks.schemes import Scheme
    from watermarks.schemes.laws import Law


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvidence:
    """What one text, or a corpus, says about one key.

    Args:
        statistic: the scheme's statistic that was summed.
        scored: distinct PRF inputs that were counted.
        total: their worth, in the statistic's integer units (green inputs, for ``kgw``).
        log10_p: exact tail of ``total``; None where nothing could be scored (never a pass).
        log10_floor: the smallest log10 p that so many inputs can reach at all.
    """

    statistic: str
    scored: int
    total: int
    log10_p: float | None
    log10_floor: float

    def too_short(self, log10_alpha: float) -> bool:
        """Whether no text of so few inputs could be supported at this level: it says nothing, either way."""
        return self.log10_p is None or self.log10_floor > log10_alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A hypothesis: this scheme under this sub-key. ``name`` is a key id, a recipient, a deployment."""

    name: str
    scheme: Scheme
    subkey: bytes = field(repr=False)
    statistic: str = ""

    @property
    def counted_by(self) -> str:
        """The statistic that decides: the named one, else the scheme's first."""
        return self.statistic or self.scheme.statistics[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One hypothesis of many, with what it says and with Holm's correction over all of them."""

    name: str
    evidence: TokenEvidence
    log10_p_holm: float


def detect(
    texts: Corpus | Sequence[Sequence[int]],
    scheme: Scheme,
    subkey: bytes,
    *,
    masks: Sequence[Sequence[bool]] | None = None,
    statistic: str = "",
    device: str = "cpu",
) -> tuple[list[TokenEvidence], TokenEvidence]:
    """Evidence of every text, and of the corpus (each distinct PRF input of all texts once).

    Args:
        texts: a packed corpus, or token ids with ``masks`` beside them (True is text).
        scheme: the scheme that is looked for.
        subkey: its 16-byte sub-key.
        masks: one per text, if ``texts`` is not packed.
        statistic: one of the scheme's, chosen before looking; its first by default.
        device: ``cpu``, or a torch device such as ``cuda`` for the draws.

    Raises:
        UsageError: no texts at all, masks that do not fit, or an unknown statistic.
    """
    corpus = as_corpus(texts, masks)
    statistic = statistic or scheme.statistics[0]
    sums = tally(corpus, scheme, [subkey], statistic=statistic, device=device)
    counted = corpus.counted(scheme.inputs)
    law = scheme.law(statistic)
    counts: Sequence[NDArray[np.int64]] = ()
    if isinstance(law, CountLaw):
        counts = np.split(counted.counts(), counted.starts[1:-1])
    each = _evidence(law, statistic, sums.totals[0], sums.scored[0], counts)
    if isinstance(law, CountLaw):
        counts = [counted.corpus_counts()]
    (whole,) = _evidence(law, statistic, sums.corpus_totals, sums.corpus_scored, counts)
    return each, whole


def search(
    texts: Corpus | Sequence[Sequence[int]],
    marks: Sequence[Mark],
    *,
    masks: Sequence[Sequence[bool]] | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> list[Found]:
    """Which of many keys and schemes marked the corpus: ranked by p, Holm over all that were tried.

    The list is worth what its worst entry costs: a mark that is not listed here must not be tried elsewhere.

    Raises:
        UsageError: no marks, or no texts.
    """
    if not marks:
        raise UsageError("got no keys, expected at least one", hint="an empty key ring says nothing about a text")
    corpus = as_corpus(texts, masks)
    groups: dict[tuple[Scheme, str], list[int]] = {}
    for i, mark in enumerate(marks):
        groups.setdefault((mark.scheme, mark.counted_by), []).append(i)
    found: list[TokenEvidence | None] = [None] * len(marks)
    for (scheme, statistic), members in groups.items():
        subkeys = [marks[i].subkey for i in members]
        sums = tally(corpus, scheme, subkeys, statistic=statistic, device=device, threads=threads, each_text=False)
        law = scheme.law(statistic)
        counts: Sequence[NDArray[np.int64]] = ()
        if isinstance(law, CountLaw):
            counts = [corpus.counted(scheme.inputs).corpus_counts()] * len(members)
        for i, evidence in zip(
            members, _evidence(law, statistic, sums.corpus_totals, sums.corpus_scored, counts), strict=True
        ):
            found[i] = evidence
    whole = [evidence for evidence in found if evidence is not None]
    adjusted = holm([0.0 if e.log10_p is None else e.log10_p for e in whole])
    ranked = [Found(name=m.name, evidence=e, log10_p_holm=a) for m, e, a in zip(marks, whole, adjusted, strict=True)]
    return sorted(ranked, key=lambda f: 0.0 if f.evidence.log10_p is None else f.evidence.log10_p)


def as_corpus(texts: Corpus | Sequence[Sequence[int]], masks: Sequence[Sequence[bool]] | None = None) -> Corpus:
    """A packed corpus, packed already or now."""
    if isinstance(texts, Corpus):
        if masks is not None:
            raise UsageError("got masks beside a packed corpus, expected them packed with it")
        return texts
    return Corpus.pack(texts, masks)


def _evidence(
    law: Law,
    statistic: str,
    totals: NDArray[np.int64],
    scored: NDArray[np.int64],
    counts: Sequence[NDArray[np.int64]],
) -> list[TokenEvidence]:
    some = np.flatnonzero(scored > 0)
    logs = np.zeros(len(totals))
    if len(some):
        logs[some] = log10_tails(
            law, totals[some], scored[some], [counts[i] for i in some.tolist()] if len(counts) else ()
        )
    floors = {int(n): log10_floor(law, int(n)) for n in np.unique(scored)}
    return [
        TokenEvidence(
            statistic=statistic,
            scored=int(n),
            total=int(total),
            log10_p=float(log) if n else None,
            log10_floor=floors[int(n)],
        )
        for total, n, log in zip(totals, scored, logs, strict=True)
    ]
