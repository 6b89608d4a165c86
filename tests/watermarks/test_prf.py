"""The expansion is an assumption, so it is tested: uniform, and independent in pairs, at fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.support import subkey_of
from watermarks import prf

TOKENS = 4096
CONTEXTS = 64
REJECT = 1e-4  # at fixed seeds: a p-value below this was seen once and for all, not by bad luck
WORD = st.integers(0, 0xFFFFFFFF)


def _unmix(y: int) -> int:
    """The inverse of mix32, written from its definition."""
    y ^= (y >> 15) ^ (y >> 30)
    y = y * pow(0x735A2D97, -1, 1 << 32) & 0xFFFFFFFF
    y ^= (y >> 15) ^ (y >> 30)
    y = y * pow(0x21F0AAAD, -1, 1 << 32) & 0xFFFFFFFF
    return y ^ (y >> 16)


@pytest.fixture(scope="module")
def table():
    """Draws of CONTEXTS neighbouring contexts over TOKENS neighbouring tokens."""
    contexts = np.stack([np.full(CONTEXTS, 5), np.arange(CONTEXTS)], axis=1).astype(np.int64)
    lo, hi = prf.split(prf.siphash_words(subkey_of("expansion"), contexts))
    return prf.expand(lo[:, None], hi[:, None], np.arange(TOKENS)[None, :])


def _chi_square(cells):
    return stats.chisquare(np.bincount(cells.ravel(), minlength=256)).pvalue


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_every_byte_of_the_draws_is_uniform(table, shift):
    assert table.min() >= 0
    assert table.max() < 1 << 32
    assert _chi_square((table >> shift) & 0xFF) > REJECT


PAIRINGS = {
    "next token": lambda t: (t[:, :-1], t[:, 1:]),
    "token of another bit": lambda t: (t[:, : TOKENS // 2], t[:, TOKENS // 2 :]),
    "next context": lambda t: (t[:-1], t[1:]),
    "both": lambda t: (t[:-1, :-1], t[1:, 1:]),
}


@pytest.mark.parametrize("name", PAIRINGS)
@pytest.mark.parametrize("shift", [0, 28], ids=["low bits", "high bits"])
def test_pairs_of_draws_are_independent(table, name, shift):
    left, right = PAIRINGS[name](table)
    assert _chi_square(((left >> shift) & 15) * 16 + ((right >> shift) & 15)) > REJECT


def test_draws_of_one_place_are_uniform_over_keys():
    context, tokens = np.array([[11, 12], [11, 13]], np.int64), np.array([7, 7], np.int64)
    pairs = np.array([prf.draws(subkey_of(f"key {i}"), context, tokens) for i in range(4000)])
    assert _chi_square(pairs[:, 0] >> 24) > REJECT
    assert _chi_square((pairs[:, 0] >> 28) * 16 + (pairs[:, 1] >> 28)) > REJECT


@given(WORD)
def test_mix32_is_a_bijection(x):
    y = int(prf.mix32(np.array([x], np.int64))[0])
    assert 0 <= y < 1 << 32
    assert _unmix(y) == x


@given(WORD, WORD, st.lists(WORD, min_size=2, max_size=50, unique=True))
def test_distinct_tokens_never_collide_under_one_seed(lo, hi, tokens):
    drawn = prf.expand(np.int64(lo), np.int64(hi), np.array(tokens, np.int64))
    assert len(set(drawn.tolist())) == len(tokens)


@given(st.lists(st.lists(WORD, min_size=3, max_size=3), min_size=1, max_size=8), st.lists(WORD, min_size=1, max_size=4))
def test_a_row_does_not_see_its_neighbours(contexts, tokens):
    subkey, token = subkey_of("rows"), tokens[0]
    together = prf.draws(subkey, np.array(contexts, np.int64), np.full(len(contexts), token, np.int64))
    alone = [int(prf.draws(subkey, np.array([c], np.int64), np.array([token], np.int64))[0]) for c in contexts]
    assert together.tolist() == alone


@given(st.lists(WORD, min_size=0, max_size=6))
def test_words_and_bytes_give_one_hash(words):
    subkey = subkey_of("widths")
    message = b"".join(word.to_bytes(4, "little") for word in words)
    seed = prf.siphash_words(subkey, np.array([words], np.int64).reshape(1, len(words)))
    assert int(seed[0]) & 0xFFFFFFFFFFFFFFFF == prf.siphash_bytes(subkey, message)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_subkey_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match="sub-key"):
        prf.siphash_words(bytes(length), np.zeros((1, 1), np.int64))
