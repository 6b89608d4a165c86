"""What a model or a dataset is worth, each figure with its interval: a bare point says little about 300 rows.

Intervals are two-sided at 95 %. Shares of rows (accuracy, exact match) have Clopper and Pearson's exact one. Means and
ratios have the percentile bootstrap over rows, 1,000 resamples from a fixed seed, or over ``groups`` where rows of one
passage, film or author are not independent. Distinct-n has a jackknife, for the reason that :func:`distinct` gives.

Every text metric takes ``tokenize``: the usual definitions are about English words, and see nothing in a script
without spaces between words; pass :func:`characters` there.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from countermark.errors import MissingAssetError, UsageError
from verification.statistics import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

    Tokenize = Callable[[str], list[str]]

LEVEL = 0.95
RESAMPLES = 1000
_CHUNK = 50
Z = 1.959963984540054
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure with its two-sided 95 % interval.

    Args:
        n: how many rows or texts it was measured on (rows even where groups of them were resampled).
    """

    name: str
    value: float
    low: float
    high: float
    n: int


def accuracy(predicted: Sequence[str], expected: Sequence[str], *, name: str = "accuracy") -> Measured:
    """The share of rows whose label is the expected one, with the exact interval of a binomial share.

    Raises:
        UsageError: no rows, or not one prediction a row; so do all functions here.
    """
    _same(predicted, expected)
    return _share(name, sum(p == e for p, e in zip(predicted, expected, strict=True)), len(expected))


def macro_f1(
    predicted: Sequence[str],
    expected: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Measured:
    """The unweighted mean of the classes' F1, over ``labels`` (default: all that occur); an absent class counts 0."""
    _same(predicted, expected)
    from sklearn.metrics import f1_score

    names = sorted({*predicted, *expected}) if labels is None else list(labels)
    value = f1_score(list(expected), list(predicted), labels=names, average="macro", zero_division=0)
    # per row and class: both, predicted, expected
    sums = np.array([[(p == e == c, p == c, e == c) for c in names] for p, e in zip(predicted, expected, strict=True)])

    def statistic(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        hit, said, true = np.moveaxis(totals.reshape(len(totals), len(names), 3), -1, 0)
        return np.asarray((2 * hit / np.maximum(said + true, 1)).mean(1))

    low, high = bootstrap(sums.reshape(len(sums), -1), statistic, groups, seed)
    return Measured(name="macro_f1", value=float(value), low=low, high=high, n=len(expected))


def squad_tokens(text: str) -> list[str]:
    """Words as in SQuAD's own script: lower case, no ASCII punctuation, no English articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def characters(text: str) -> list[str]:
    """Letters, marks and digits one by one (NFKC, case-folded): for scripts without spaces between words."""
    return [c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c)[0] in "LMN"]


def squad_scores(
    predicted: str, references: Sequence[str], *, tokenize: Tokenize = squad_tokens
) -> tuple[float, float]:
    """Exact match and token F1 of one answer against the reference that fits best (Rajpurkar et al., 2016).

    Two answers match exactly if their tokens are the same; if one has no token, F1 is that match (as in SQuAD 2).
    """
    exact, best, mine = 0.0, 0.0, tokenize(predicted)
    for reference in references:
        theirs = tokenize(reference)
        common = (Counter(mine) & Counter(theirs)).total()
        same = float(mine == theirs)
        f1 = 2 * common / (len(mine) + len(theirs)) if mine and theirs else same
        exact, best = max(exact, same), max(best, f1)
    return exact, best


def question_answering(
    predicted: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Tokenize = squad_tokens,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> tuple[Measured, Measured]:
    """``exact_match`` (a share, so exact interval) and ``token_f1`` (bootstrap) of SQuAD, as shares of one."""
    _same(predicted, references)
    rows = [squad_scores(p, r, tokenize=tokenize) for p, r in zip(predicted, references, strict=True)]
    f1 = mean("token_f1", [f1 for _, f1 in rows], groups=groups, seed=seed)
    return _share("exact_match", sum(exact == 1.0 for exact, _ in rows), len(rows)), f1


def rouge(
    predicted: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: Tokenize | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> tuple[Measured, Measured, Measured]:
    """Mean F of ROUGE-1, -2 and -L by Google's ``rouge-score``; by default its English tokens, Porter-stemmed.

    Raises:
        UsageError: a reference without a token (another script than ``tokenize`` knows) would silently score 0.
        MissingAssetError: ``rouge-score`` is not installed.
    """
    _same(predicted, references)
    try:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped, unused-ignore]
        from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingAssetError(
            f"got no package {error.name!r}, expected rouge-score", hint="pip install 'countermark[train]'"
        ) from None
    tokenizer = DefaultTokenizer(use_stemmer=True) if tokenize is None else _Tokenizer(tokenize)
    empty = next((text for text in references if not tokenizer.tokenize(text)), None)
    if empty is not None:
        raise UsageError(
            f"got a reference without a token: {empty[:40]!r}, expected words",
            hint="pass tokenize=characters for scripts other than Latin",
        )
    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(names), tokenizer=tokenizer)
    rows = [scorer.score(r, p) for p, r in zip(predicted, references, strict=True)]
    one, two, lcs = (mean(n, [row[n].fmeasure for row in rows], groups=groups, seed=seed) for n in names)
    return one, two, lcs


def distinct(
    texts: Sequence[str], *, orders: Sequence[int] = (1, 2, 3), tokenize: Tokenize = str.split
) -> tuple[Measured, ...]:
    """Distinct-n: different n-grams of all texts as a share of their number (Li et al., 2016), for n in ``orders``.

    Compare sets of the same number of texts: the figure falls with length. The interval is a normal one with the
    delete-one jackknife's error, which errs on the wide side (Efron and Stein, 1981). A bootstrap would repeat texts,
    and so count fewer different n-grams than any real sample has: its interval would lie below the figure.

    Raises:
        UsageError: fewer than two texts have an n-gram.
    """
    if len(texts) < 2:  # noqa: PLR2004 - one text has no spread
        raise UsageError(f"got {len(texts)} texts, expected at least two")
    split = [tokenize(text) for text in texts]
    return tuple(_distinct(split, n) for n in orders)


def mean(name: str, scores: Sequence[float], *, groups: Sequence[Hashable] | None = None, seed: int = 0) -> Measured:
    """The mean of per-row scores, by bootstrap over rows or groups."""
    _same(scores, scores)
    sums = np.column_stack([np.asarray(scores, dtype=float), np.ones(len(scores))])
    low, high = bootstrap(sums, lambda totals: totals[:, 0] / totals[:, 1], groups, seed)
    return Measured(name=name, value=float(sums[:, 0].mean()), low=low, high=high, n=len(scores))


def bootstrap(
    sums: NDArray[Any],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    groups: Sequence[Hashable] | None,
    seed: int,
) -> tuple[float, float]:
    """The percentile interval of a statistic of column totals; rows, or whole groups, are drawn with replacement.

    ``sums`` has a row for each row measured; ``statistic`` gets one row of totals for each resample.

    Raises:
        UsageError: fewer than two rows or groups.
    """
    if groups is not None:
        _same(groups, sums)
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        grouped = np.zeros((len(numbers), sums.shape[1]))
        np.add.at(grouped, [numbers[group] for group in groups], sums)
        sums = grouped
    sums, count = sums.astype(float), len(sums)
    if count < 2:  # noqa: PLR2004 - one row has no spread
        raise UsageError(f"got {count} rows or groups, expected at least two for an interval")
    rng = np.random.default_rng(seed)
    even = np.full(count, 1.0 / count)
    draws = [statistic(rng.multinomial(count, even, size=_CHUNK) @ sums) for _ in range(RESAMPLES // _CHUNK)]
    low, high = np.quantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


class _Tokenizer:
    """A function as the object that ``rouge-score`` asks for."""

    def __init__(self, tokenize: Tokenize) -> None:
        self.tokenize = tokenize


def _distinct(split: Sequence[list[str]], n: int) -> Measured:
    grams = [list(zip(*(tokens[k:] for k in range(n)), strict=False)) for tokens in split]
    sizes = np.array([len(each) for each in grams])
    holders = Counter(gram for each in grams for gram in set(each))  # in how many texts
    own = np.array([sum(holders[gram] == 1 for gram in set(each)) for each in grams])
    total = int(sizes.sum())
    if total == sizes.max():
        raise UsageError(f"got fewer than two texts with {n} tokens or more, expected at least two")
    left_out = (len(holders) - own) / (total - sizes)
    value, count = len(holders) / total, len(split)
    half = Z * math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    return Measured(name=f"distinct_{n}", value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=count)


def _share(name: str, successes: int, trials: int) -> Measured:
    interval = clopper_pearson(successes, trials, level=LEVEL)
    return Measured(name=name, value=interval.value, low=interval.low, high=interval.high, n=trials)


def _same(first: Sequence[Any], second: Sequence[Any] | NDArray[Any]) -> None:
    if len(first) != len(second) or not len(first):
        raise UsageError(f"got {len(first)} and {len(second)} rows, expected as many of both, and some")
