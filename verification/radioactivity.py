"""Radioactivity: was a suspect trained on token-watermarked text? Sander et al., arXiv 2402.14904.

A student of marked text prefers, faintly, the tokens that the mark preferred. Two ways to see it:

*Closed model.* The suspect answers prompts; its own tokens are scored. A window that its prompt could have given it is
excluded (its context stands there; for a self-salted list, a pair of a context token and the token; for a fixed list,
the token): an innocent model that copies a marked prompt would look radioactive.

*Open model, reading mode.* The suspect reads texts; its most likely next token is scored at every position. A window
whose context the text has shown before is excluded, since the text may have told what follows.

Every distinct PRF input counts once, over all texts. The owner's filter selects *contexts* only, never
(context, token).

The law is exact, over the draw of the key, where what reaches the suspect's prompts or the texts it reads does not
depend on the key: fresh prompts, unmarked texts. Reading texts marked under the same key is more powerful and less
pure: each scored input is then a fresh draw by itself, while the joint law is exact only up to the dependence between
windows that several texts share. A fixed list (``unigram``) has no context that could be fresh, so reading texts marked
under the same list is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from countermark.errors import InconclusiveError, UsageError
from verification.corpus import Corpus
from verification.detect import Mark, search
from verification.statistics import rank_p
from verification.tally import tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watermarks.schemes import Scheme

Context = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """What is scored: contexts with the token that followed.

    Args:
        corpus: one window a text, so that each is one PRF input.
        positions: how many positions were looked at.
        excluded: how many of them a prompt, an earlier window or a special token ruled out.
        filtered: how many of the rest the owner's filter left out.
    """

    corpus: Corpus = field(repr=False)
    positions: int
    excluded: int
    filtered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the windows say about one key.

    Args:
        scored: distinct PRF inputs that counted.
        total: their worth in the statistic's integer units.
        log10_p: the exact tail (for ``counts`` the better of lattice and Chernoff bound, never below the truth).
        rank_p: (1 + wrong keys that do as well) / (M + 1), the anchor beside the bound; None without wrong keys.
    """

    statistic: str
    scored: int
    total: int
    log10_p: float
    log10_floor: float
    rank_p: float | None = None
    wrong_keys: int = 0


def closed_windows(
    answers: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]],
    scheme: Scheme,
    *,
    special: Iterable[int] = (),
    contexts: set[Context] | None = None,
) -> Windows:
    """Windows of a suspect's answers (token ids of the answers' text, without their prompts).

    Excluded: what its own prompt shows, see the module's text.

    Args:
        answers: token ids of each answer, by the *owner's* tokenizer.
        prompts: token ids of what was asked, one prompt for each answer.
        scheme: whose inputs are looked at.
        special: ids that are no text.
        contexts: the owner's filter (:func:`contexts_of`); None takes all.
    """
    if len(answers) != len(prompts):
        raise UsageError(f"got {len(prompts)} prompts for {len(answers)} answers, expected one each")
    width, builder = scheme.inputs.width, _Builder(set(special), contexts)
    for answer, prompt in zip(answers, prompts, strict=True):
        shown = {each for at in range(len(prompt)) for each in _shown(prompt, at, scheme)}
        for at in range(width, len(answer)):
            window = tuple(answer[at - width : at + 1])
            builder.add(window, excluded=_gives(shown, window, scheme))
    return builder.build()


def reading_windows(
    texts: Sequence[Sequence[int]],
    predictions: Sequence[Sequence[int]],
    starts: Sequence[int],
    scheme: Scheme,
    *,
    key_free: bool,
    special: Iterable[int] = (),
    contexts: set[Context] | None = None,
) -> Windows:
    """Windows of texts that the suspect has read, each with the token it thought most likely to follow.

    Args:
        texts: token ids, prompt included.
        predictions: ``predictions[i][t]`` is the suspect's most likely token after ``texts[i][: t + 1]``.
        starts: where the prompt of each text ends: predictions of tokens before it are not scored, and a context that
            the text has shown before, prompt included, is excluded.
        scheme: whose inputs are looked at.
        key_free: the texts were made without this key. Needed for schemes without context.
        special: ids that are no text.
        contexts: the owner's filter (:func:`contexts_of`); None takes all.

    Raises:
        UsageError: shapes that do not fit, or marked texts for a fixed list.
    """
    width, builder = scheme.inputs.width, _Builder(set(special), contexts)
    if width == 0 and not key_free:
        raise UsageError(
            f"got texts marked under the same list for {scheme.name}, expected texts made without the key",
            hint="a fixed list shows itself to any reader; let the suspect read unmarked texts, or use the closed mode",
        )
    if not len(texts) == len(predictions) == len(starts):
        raise UsageError(f"got {len(predictions)} predictions and {len(starts)} starts for {len(texts)} texts")
    for text, predicted, start in zip(texts, predictions, starts, strict=True):
        if len(predicted) != len(text):
            raise UsageError(f"got {len(predicted)} predictions for {len(text)} tokens, expected one each")
        shown: set[Context] = set()
        for at in range(len(text)):
            window = (*text[max(at + 1 - width, 0) : at + 1 if width else 0], predicted[at])
            # a pair is shown with its second token, before the prediction; a context when its follower is, after it
            shown |= _shown(text, at, scheme) if _salted(scheme) else set()
            if len(window) == width + 1 and at + 1 >= start:
                builder.add(window, excluded=bool(width) and _gives(shown, window, scheme))
            shown |= set() if _salted(scheme) else _shown(text, at, scheme)
    return builder.build()


def log10_marked(
    texts: Sequence[Sequence[int]], scheme: Scheme, subkey: bytes, *, masks: Sequence[Sequence[bool]] | None = None
) -> float:
    """How surely texts carry a mark already: the least log10 p of all the scheme's statistics, 0.0 of none.

    Each has its say: of a large corpus under a fixed list ``counts`` sees what ``unique`` does not, where every token
    has occurred, and an innocent reader shows the suspect's statistic whatever the texts show.
    """
    marks = [Mark(name=each, scheme=scheme, subkey=subkey, statistic=each) for each in scheme.statistics]
    tails = [found.evidence.log10_p for found in search(texts, marks, masks=masks)]
    return min((p for p in tails if p is not None), default=0.0)


def contexts_of(texts: Sequence[Sequence[int]], scheme: Scheme, *, at_least: int = 1) -> set[Context]:
    """The owner's filter: contexts that occur ``at_least`` so often in texts (unmarked ones keep the law exact)."""
    width = scheme.inputs.width
    if width == 0:
        raise UsageError(f"got scheme {scheme.name}, which has no contexts, expected none to be filtered")
    counts: dict[Context, int] = {}
    for text in texts:
        for at in range(len(text) - width + 1):
            context = tuple(text[at : at + width])
            counts[context] = counts.get(context, 0) + 1
    return {context for context, count in counts.items() if count >= at_least}


def weigh(
    windows: Windows, scheme: Scheme, subkey: bytes, *, statistic: str = "", wrong: Sequence[bytes] = ()
) -> Evidence:
    """The exact tail of the windows under a sub-key, and its rank among wrong ones.

    Raises:
        InconclusiveError: no window counts.
    """
    (found,) = search(windows.corpus, [Mark(name="owner", scheme=scheme, subkey=subkey, statistic=statistic)])
    own = found.evidence
    if own.log10_p is None:
        raise InconclusiveError("got no window that counts, expected some")
    rank = None
    if len(wrong):
        others = tally(windows.corpus, scheme, wrong, statistic=own.statistic, each_text=False)
        rank = rank_p(own.total, others.corpus_totals.tolist())
    return Evidence(
        statistic=own.statistic,
        scored=own.scored,
        total=own.total,
        log10_p=own.log10_p,
        log10_floor=own.log10_floor,
        rank_p=rank,
        wrong_keys=len(wrong),
    )


class _Builder:
    """Collects windows, and counts what was left out and why."""

    def __init__(self, special: set[int], contexts: set[Context] | None) -> None:
        self._special = special
        self._contexts = contexts
        self._windows: list[Context] = []
        self._excluded = self._filtered = 0

    def add(self, window: Context, *, excluded: bool) -> None:
        if excluded or not self._special.isdisjoint(window):
            self._excluded += 1
        elif self._contexts is not None and window[:-1] not in self._contexts:
            self._filtered += 1
        else:
            self._windows.append(window)

    def build(self) -> Windows:
        positions = len(self._windows) + self._excluded + self._filtered
        if not self._windows:
            raise InconclusiveError(
                f"got {positions} positions, of which none can be scored, expected some",
                hint="ask for longer answers, or loosen the filter",
            )
        packed = np.array(self._windows, np.int64)
        count, width = packed.shape
        corpus = Corpus(tokens=packed.ravel(), starts=np.arange(count + 1) * width, allowed=np.ones(packed.size, bool))
        return Windows(corpus=corpus, positions=positions, excluded=self._excluded, filtered=self._filtered)


def _salted(scheme: Scheme) -> bool:
    """Whether the key chooses which context token a candidate is paired with."""
    return scheme.inputs.once == "input"


def _shown(text: Sequence[int], at: int, scheme: Scheme) -> set[Context]:
    """What a reader of ``text`` up to position ``at`` has newly been shown: the context that ends there, or for a
    self-salted list every pair (an earlier token of the window, this one), or for a fixed list the token.
    """
    width = scheme.inputs.width
    if _salted(scheme):
        return {(earlier, text[at]) for earlier in text[max(at - width, 0) : at]}
    size = max(width, 1)
    return {tuple(text[at + 1 - size : at + 1])} if at + 1 >= size else set()


def _gives(shown: set[Context], window: Context, scheme: Scheme) -> bool:
    """Whether what was shown may have told the colour of this window's PRF input."""
    if _salted(scheme):
        return any((earlier, window[-1]) in shown for earlier in window[:-1])
    return (window[:-1] or window) in shown
