"""Which PRF inputs count: the packed corpus against a page of plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from verification.corpus import Corpus, distinct_codes
from watermarks.kernels import observe
from watermarks.schemes import Sliding

RULES = ("window", "context", "input")
every_rule = pytest.mark.parametrize("once", RULES)
TOKEN = st.one_of(st.integers(0, 3), st.sampled_from([0, 2**31, 2**32 - 1]))
TEXT = st.lists(TOKEN, max_size=30)
WIDTH = st.integers(0, 4)
kernels = pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"])


@st.composite
def _masked_texts(draw):
    texts = draw(st.lists(TEXT, min_size=1, max_size=6))
    texts += [texts[i] for i in draw(st.lists(st.integers(0, len(texts) - 1), max_size=3))]
    masks = [
        draw(st.lists(st.sampled_from([True, True, True, False]), min_size=len(t), max_size=len(t))) for t in texts
    ]
    return texts, draw(st.sampled_from([masks, None]))


def _reference(texts, masks, inputs):
    """The rules as sentences: positions and counts of each text, and the corpus's windows with theirs."""
    width, begin, each = inputs.width, 0, []
    corpus = Counter()
    for text, mask in zip(texts, masks or [[True] * len(text) for text in texts], strict=True):
        whole = [i for i in range(width, len(text)) if all(mask[i - width : i + 1])]
        windows = {i: tuple(text[i - width : i + 1]) for i in whole}
        kind = {"window": windows.get, "context": lambda i, w=windows: w[i][:-1], "input": lambda i: i}[inputs.once]
        seen = Counter(kind(i) for i in whole)
        firsts = {kind(i): i for i in reversed(whole)}
        kept = sorted(firsts.values())
        each.append([(begin + i, seen[kind(i)]) for i in kept])
        for i in kept:
            corpus[(begin + i, windows[i]) if inputs.once == "input" else windows[i]] += seen[kind(i)]
        begin += len(text)
    return each, corpus


def _found(corpus, inputs):
    counted = corpus.counted(inputs)
    counts, spans = counted.counts(), list(zip(counted.starts[:-1], counted.starts[1:], strict=True))
    each = [list(zip(counted.positions[a:b].tolist(), counts[a:b].tolist(), strict=True)) for a, b in spans]
    chosen = counted.positions[counted.corpus]
    windows = corpus.tokens[chosen[:, None] + np.arange(-inputs.width, 1)].tolist()
    names = [
        (at, tuple(window)) if inputs.once == "input" else tuple(window)
        for at, window in zip(chosen.tolist(), windows, strict=True)
    ]
    assert len(set(names)) == len(names)
    return each, Counter(dict(zip(names, counted.corpus_counts().tolist(), strict=True)))


@kernels
@every_rule
@given(_masked_texts(), WIDTH)
def test_what_counts_is_what_the_rules_say(once, kernels, texts_and_masks, width):
    texts, masks = texts_and_masks
    inputs = Sliding(width=width, once=once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "KERNELS", kernels)
        assert _found(Corpus.pack(texts, masks), inputs) == _reference(texts, masks, inputs)


@every_rule
@given(_masked_texts(), WIDTH)
def test_the_corpus_takes_the_first_of_its_kind(once, texts_and_masks, width):
    corpus = Corpus.pack(*texts_and_masks)
    counted = corpus.counted(Sliding(width=width, once=once))
    chosen = counted.positions[counted.corpus]
    assert np.all(np.diff(counted.positions) > 0)
    assert np.all(np.diff(chosen) > 0)
    if once != "input":
        windows = corpus.tokens[counted.positions[:, None] + np.arange(-width, 1)].tolist()
        first = [windows.index(window) == i for i, window in enumerate(windows)]
        assert chosen.tolist() == counted.positions[first].tolist()


def _arrays(counted):
    return counted.positions, counted.starts, counted.corpus, counted.counts(), counted.corpus_counts()


def _long(length, kinds, seed=3):
    """A text of many repeats and many rare windows."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(length) < 0.9, rng.integers(0, kinds, length), rng.integers(0, 2**32, length)).tolist()


LONG = {
    "one text": [_long(30_000, 12)],
    "one text of few kinds": [_long(20_000, 2)],
    "one text, one token": [[7] * 15_000],
    "long and short": [_long(12_000, 9), [], [1, 2, 3], _long(500, 9, 4), _long(11_000, 9)],
}


@pytest.mark.parametrize("width", [0, 1, 3])
@every_rule
@pytest.mark.parametrize("name", LONG)
def test_a_long_text_counts_like_a_short_one(name, once, width, monkeypatch):
    texts = LONG[name]
    inputs = Sliding(width=width, once=once)
    fast = Corpus.pack(texts).counted(inputs)
    monkeypatch.setattr(observe, "KERNELS", False)
    plain = Corpus.pack(texts).counted(inputs)
    for one, other in zip(_arrays(fast), _arrays(plain), strict=True):
        assert np.array_equal(one, other)
    assert plain.counts().sum() == plain.corpus_counts().sum() == sum(max(0, len(text) - width) for text in texts)
    if name == "one text" and once == "window":
        windows = Counter(tuple(texts[0][i - width : i + 1]) for i in range(width, len(texts[0])))
        assert len(plain.corpus) == len(windows) < len(texts[0]) - width
        assert sorted(plain.corpus_counts().tolist()) == sorted(windows.values())


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192, 16_385])
def test_first_windows_agree_wherever_the_buckets_begin(length):
    # the kernel deals one long text into buckets, and only a long one
    tokens = np.array(_long(length, 40, length))
    positions, starts = np.arange(2, length), np.array([0, length - 2])
    for back, ahead in ((2, 1), (1, 0), (0, 1)):
        fast = observe.first_windows(tokens, positions, starts, back=back, ahead=ahead)
        plain = observe.first_windows_plain(tokens, positions, starts, back=back, ahead=ahead)
        assert np.array_equal(fast, plain)
        assert len(set(plain.tolist())) < len(plain)


@kernels
@given(st.lists(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 4), max_size=12), min_size=1, max_size=5))
def test_a_code_is_new_once_a_text(kernels, texts):
    codes = np.array([code for text in texts for code in text], np.int64)
    starts = np.cumsum([0, *map(len, texts)])
    expected = [code not in text[:i] for text in texts for i, code in enumerate(text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "KERNELS", kernels)
        assert distinct_codes(codes, starts).tolist() == expected


def test_inputs_are_found_once_for_all_keys_and_schemes():
    corpus = Corpus.pack([[1, 2, 3, 4]])
    assert corpus.counted(Sliding(width=2)) is corpus.counted(Sliding(width=2))
    assert corpus.counted(Sliding(width=2)) is not corpus.counted(Sliding(width=1))
    assert len(corpus) == 1


def test_texts_of_any_sequence_pack_alike():
    lists = Corpus.pack([[1, 2], [], [3]], [[True, False], [], [True]])
    arrays = Corpus.pack([np.array([1, 2], np.uint32), (), np.array([3])], [np.array([1, 0]), (), [1]])
    for field in ("tokens", "starts", "allowed"):
        assert np.array_equal(getattr(lists, field), getattr(arrays, field))
    assert lists.starts.tolist() == [0, 2, 2, 3]
    assert lists.tokens.dtype == np.int64


REFUSED = {
    "no texts": (([],), "no texts"),
    "a mask too few": (([[1], [2]], [[True]]), "1 masks for 2 texts"),
    "a mask too many": (([[1]], [[True], [True]]), "2 masks for 1 texts"),
    "no masks at all": (([[1]], []), "0 masks for 1 texts"),
    "a mask too short": (([[1], [1, 2, 3]], [[True], [True, True]]), "mask of 2 for 3 tokens"),
    "a mask too long": (([[1]], [[True, True]]), "mask of 2 for 1 tokens"),
    "a negative id": (([[1, -1]],), "got token ids -1 to 1"),
    "an id of 33 bits": (([[0], [2**32]],), f"got token ids 0 to {2**32}"),
    "an id of 65 bits": (([[0], [2**64]],), "token id"),
    "an id that is no integer": (([[0.5, 1.5]],), "token id"),
    "a masked id of 33 bits": (([[0, 2**32]], [[True, False]]), f"got token ids 0 to {2**32}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_corpus_is_refused(name):
    arguments, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        Corpus.pack(*arguments)


@pytest.mark.parametrize("width", [0, 2, 16])
@every_rule
@kernels
def test_nothing_counts_in_empty_texts(width, once, kernels, monkeypatch):
    monkeypatch.setattr(observe, "KERNELS", kernels)
    counted = Corpus.pack([[], []]).counted(Sliding(width=width, once=once))
    assert counted.starts.tolist() == [0, 0, 0]
    for field in (counted.positions, counted.corpus, counted.counts(), counted.corpus_counts()):
        assert len(field) == 0
