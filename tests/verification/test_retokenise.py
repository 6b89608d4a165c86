"""Re-tokenising: what the text no longer holds of what was drawn, text by text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from verification.retokenise import Mismatch, mismatch
from watermarks.schemes import Gumbel, Kgw, Sliding, Unigram

TEXTS = st.lists(st.lists(st.integers(0, 6), max_size=25), max_size=5)
WIDTH = st.integers(0, 4)


def _distinct(tokens, width):
    return {tuple(tokens[i - width : i + 1]) for i in range(width, len(tokens))}


@given(TEXTS, WIDTH)
def test_what_tokenises_as_it_was_drawn_loses_nothing(texts, width):
    found = mismatch(texts, texts, Sliding(width=width))
    assert found == Mismatch(windows=sum(len(_distinct(t, width)) for t in texts), lost=0)
    assert found.rate == 0.0


@given(TEXTS, st.data(), WIDTH)
def test_what_is_lost_is_what_the_text_does_not_hold(generated, data, width):
    read = [data.draw(st.lists(st.integers(0, 6), max_size=25)) for _ in generated]
    pairs = [(_distinct(a, width), _distinct(b, width)) for a, b in zip(generated, read, strict=True)]
    lost, windows = sum(len(a - b) for a, b in pairs), sum(len(a) for a, _ in pairs)
    found = mismatch(generated, read, Sliding(width=width))
    assert (found.windows, found.lost) == (windows, lost)
    assert found.rate == (lost / windows if windows else 0.0)


def test_one_token_read_otherwise_costs_the_windows_it_stands_in():
    drawn = list(range(20))
    read = [*drawn[:10], 99, *drawn[11:]]
    for width in (0, 1, 4):
        assert mismatch([drawn], [read], Sliding(width=width)) == Mismatch(windows=20 - width, lost=width + 1)


def test_a_token_split_in_two_costs_the_windows_around_it():
    drawn, read = [1, 2, 3, 4, 5, 6], [1, 2, 31, 32, 4, 5, 6]
    assert mismatch([drawn], [read], Kgw(context_width=1).inputs) == Mismatch(windows=5, lost=2)
    assert mismatch([drawn], [read], Unigram().inputs) == Mismatch(windows=6, lost=1)


def test_a_window_in_another_text_is_lost_and_a_repeat_is_lost_once():
    assert mismatch([[1, 2], [3, 4]], [[3, 4], [1, 2]], Sliding(width=1)) == Mismatch(windows=2, lost=2)
    assert mismatch([[1, 2] * 9], [[]], Sliding(width=1)) == Mismatch(windows=2, lost=2)


def test_nothing_drawn_is_nothing_lost():
    for drawn, read in (([], []), ([[]], [[1, 2, 3]]), ([[1, 2]], [[]])):
        found = mismatch(drawn, read, Gumbel().inputs)
        assert (found.windows, found.lost, found.rate) == (0, 0, 0.0)


def test_texts_without_their_pair_are_refused():
    with pytest.raises(UsageError, match="got 2 generated and 1 tokenised texts"):
        mismatch([[1], [2]], [[1]], Sliding(width=0))
