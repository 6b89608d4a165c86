"""What somebody without the key can find in a release: repeats, odd company among words, words that lean to a label.

The searches know nothing of how we mark. An owner runs them over the release and over its unmarked twin, and sees side
by side what stands out in the one that does not in the other. They are searches and no evidence: a finding proves no
mark, and no finding proves that a better search would have none.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import UsageError
from pipelines.ngrams import ENDS, LONGEST, MIN_ROWS, Grams, Words, joined, tokenise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

SAMPLE = "sample"
SEARCHES = ("duplicates", "openings", "endings", "frequency", "label")
MAX_LABELS = 50
_KEPT, _SHOWN = 4000, 250  # characters of either end of a text: in memory, in a finding
_SLICE = 1 << 14
_LEAST_LOG10 = -1e6  # JSON has no infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that a search turned up.

    Args:
        search: one of :data:`SEARCHES`, or ``sample``, which says how much was read.
        item: the text or n-gram, its tokens as they are compared (case folded).
        score: what the search orders by; see :func:`search`.
        rows: how many rows show it.
    """

    search: str
    item: str
    score: float
    rows: int


@dataclass(slots=True, kw_only=True)
class _Sample:
    """Rows in their order: hash of the whole text, text (its two ends, where it is long), label."""

    seen: int
    rows: list[tuple[bytes, str, str | None]]


def search(rows: Iterable[tuple[str, str | None]], *, top: int = 20, max_rows: int = 50_000) -> list[Found]:
    """The first ``top`` findings of every search over rows of (text, label), each search's best first.

    - ``duplicates``: texts that stand in several rows; score = rows.
    - ``openings``, ``endings``: the first and last 2 and 3 tokens (``top`` of each length); score = rows.
    - ``frequency``: 2- and 3-grams whose tokens keep company more than their frequencies account for; score =
      discounted normalised pointwise mutual information: 0 by chance, near 1 often and never apart. (A single token has
      no company to judge by.)
    - ``label``: 1- to 3-grams by mutual information with the label; score = log10 of the p-value of the G-test, times
      the number of n-grams tested (Bonferroni), at most 0. Rows without a label are passed over, labels beyond the
      :data:`MAX_LABELS` most frequent are one. The chi-squared law is rough for counts this small: it ranks.

    N-grams that stand in fewer than 3 rows are left out. Memory is bounded: of more than ``max_rows`` rows,
    ``max_rows`` are drawn evenly (the same places in any dataset of that length, so that a release and its twin are
    compared row by row), and a finding ``sample`` comes first and says so; of long texts the two ends are kept.

    Raises:
        UsageError: no rows.
    """
    sample = _drawn(rows, max_rows)
    if not sample.rows:
        raise UsageError("got no rows to search, expected at least one")
    found = []
    if sample.seen > len(sample.rows):
        share = len(sample.rows) / sample.seen
        text = f"{len(sample.rows)} of {sample.seen} rows, drawn evenly: counts are of these"
        found.append(Found(search=SAMPLE, item=text, score=share, rows=len(sample.rows)))
    words = Words()
    for number, (_, text, _) in enumerate(sample.rows):
        words.add(number, tokenise(text))
    grams = [words.grams(length) for length in range(1, LONGEST + 1)]
    found += _duplicates(sample, top) + _ends(words, top) + _company(words, grams, top)
    return found + _leaning(words, grams, [label for _, _, label in sample.rows], top)


def standing(found: Sequence[Found], secrets: Sequence[str]) -> dict[str, int]:
    """For every search, how many of the owner's ``secrets`` (triggers, without their slot) its findings show.

    A secret shows where its tokens stand in a row inside an item; of one longer than the 3 tokens an n-gram has, any 3
    of them in a row are enough. Case does not matter.
    """
    runs = [_runs(tokenise(secret)) for secret in secrets]
    shown: dict[str, set[tuple[str, ...]]] = {name: set() for name in SEARCHES}
    for each in found:
        if each.search in shown:
            words = tokenise(each.item)
            shown[each.search] |= {run for n in range(1, LONGEST + 1) for run in _ngrams(words, n)}
    return {name: sum(not items.isdisjoint(run) for run in runs) for name, items in shown.items()}


def side_by_side(release: Sequence[Found], twin: Sequence[Found]) -> list[tuple[Found | None, Found | None]]:
    """What the two searches show, rank by rank within each search; None where one shows less."""
    pairs: list[tuple[Found | None, Found | None]] = []
    for name in (SAMPLE, *SEARCHES):
        mine, other = ([each for each in found if each.search == name] for found in (release, twin))
        pairs += zip_longest(mine, other)
    return pairs


def _drawn(rows: Iterable[tuple[str, str | None]], most: int) -> _Sample:
    """Algorithm R with a fixed seed: which places are kept depends on the number of rows alone."""
    places, seen = random.Random(0), 0  # noqa: S311 - not a secret
    kept: list[tuple[int, tuple[bytes, str, str | None]]] = []
    for text, label in rows:
        slot = seen if seen < most else places.randrange(seen + 1)
        if slot < most:
            whole = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
            short = text if len(text) <= 2 * _KEPT else text[:_KEPT] + text[-_KEPT:]
            row = (seen, (whole, short, label))
            if seen < most:
                kept.append(row)
            else:
                kept[slot] = row
        seen += 1
    return _Sample(seen=seen, rows=[row for _, row in sorted(kept, key=lambda each: each[0])])


def _duplicates(sample: _Sample, top: int) -> list[Found]:
    counts = Counter(whole for whole, _, _ in sample.rows)
    texts = {whole: text for whole, text, _ in sample.rows}
    often = [(n, _shown(texts[whole])) for whole, n in counts.items() if n > 1]
    often.sort(key=lambda each: (-each[0], each[1]))
    return [Found(search="duplicates", item=text, score=float(n), rows=n) for n, text in often[:top]]


def _ends(words: Words, top: int) -> list[Found]:
    found = []
    for name, ends in (("openings", words.openings), ("endings", words.endings)):
        for length in ENDS:
            counts = Counter(e[:length] if name == "openings" else e[-length:] for e in ends if len(e) >= length)
            often = sorted(((n, joined(end)) for end, n in counts.items() if n > 1), key=lambda e: (-e[0], e[1]))
            found += [Found(search=name, item=item, score=float(n), rows=n) for n, item in often[:top]]
    return found


def _company(words: Words, grams: Sequence[Grams], top: int) -> list[Found]:
    """N-grams whose tokens stand together more often than they should."""
    counts = words.counts()
    total = float(counts.sum())
    found = []
    for each in grams[1:]:
        single = [counts[token] for token in each.tokens()]
        rarest = np.minimum.reduce(single)
        log_p = np.log(each.times / total)
        chance = np.sum([np.log(count / total) for count in single], axis=0)
        most = np.where(log_p < 0, (1 - each.length) * log_p, 1.0)
        # without the discount every chance meeting of two rare words would come first (Pantel and Lin, 2002)
        score = (log_p - chance) / most * each.times / (each.times + 1) * rarest / (rarest + 1)
        found += [_found("frequency", words, each, place, score) for place in each.best(score, top)]
    return sorted(found, key=lambda f: (-f.score, -f.rows, f.item))[:top]


def _leaning(words: Words, grams: Sequence[Grams], labels: Sequence[str | None], top: int) -> list[Found]:
    """N-grams by mutual information with the label."""
    from scipy import stats

    common = Counter(label for label in labels if label is not None).most_common()
    number = {name: min(place, MAX_LABELS) for place, (name, _) in enumerate(common)}
    of_row = np.array([-1 if label is None else number[label] for label in labels])
    classes = np.bincount(of_row[of_row >= 0])
    if len(classes) < 2:  # noqa: PLR2004 - one label leans nowhere
        return []
    found, tested = [], 0
    for each in grams:
        statistic, in_rows = _g_statistic(each, of_row, classes)
        tested += int((in_rows >= MIN_ROWS).sum())
        score = np.where(in_rows >= MIN_ROWS, statistic, 0.0)
        found += [_found("label", words, each, place, score) for place in each.best(score, top)]
    found.sort(key=lambda f: (-f.score, -f.rows, f.item))
    scores = stats.chi2.logsf([each.score for each in found[:top]], len(classes) - 1) / math.log(10)
    return [
        replace(each, score=min(0.0, float(score) + math.log10(tested)))
        for each, score in zip(found[:top], np.maximum(scores, _LEAST_LOG10), strict=True)
        if tested
    ]


def _g_statistic(grams: Grams, of_row: Ids, classes: Ids) -> tuple[NDArray[np.float64], Ids]:
    """G = 2 N times the mutual information of "the row has this n-gram" and its label; and the labelled rows."""
    from scipy.special import xlogy

    total, statistic, in_rows = classes.sum(), np.zeros(len(grams.codes)), np.zeros(len(grams.codes), dtype=np.int64)
    for start in range(0, len(grams.codes), _SLICE):
        stop = min(start + _SLICE, len(grams.codes))
        part = slice(*np.searchsorted(grams.gram, [start, stop]))
        label = of_row[grams.row[part]]
        cell = (grams.gram[part] - start)[label >= 0] * len(classes) + label[label >= 0]
        with_it = np.bincount(cell, minlength=(stop - start) * len(classes)).reshape(-1, len(classes))
        without = classes - with_it
        count = with_it.sum(axis=1, keepdims=True)
        parts = xlogy(with_it, with_it) + xlogy(without, without)
        margins = xlogy(count, count) + xlogy(total - count, total - count)
        g = parts.sum(axis=1) - margins[:, 0] - xlogy(classes, classes).sum() + xlogy(total, total)
        statistic[start:stop], in_rows[start:stop] = 2 * np.maximum(g, 0.0), count[:, 0]
    return statistic, in_rows


def _found(search: str, words: Words, grams: Grams, place: int, score: NDArray[np.float64]) -> Found:
    item = grams.item(words, place)
    return Found(search=search, item=item, score=float(score[place]), rows=int(grams.in_rows[place]))


def _shown(text: str) -> str:
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]} … {text[-_SHOWN:]}"


def _runs(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    """What an n-gram search could show of a secret: all of it, or any run as long as its n-grams."""
    return _ngrams(tokens, min(len(tokens), LONGEST)) if tokens else set()


def _ngrams(tokens: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)}
