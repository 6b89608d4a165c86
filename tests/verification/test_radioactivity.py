"""A student of marked text glows, an innocent model never does: not by repeating itself, nor by copying its prompt."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import InconclusiveError, UsageError
from tests.support import subkey_of
from tests.verification.marked import marked
from verification.detect import Mark, search
from verification.radioactivity import closed_windows, contexts_of, log10_marked, reading_windows, weigh
from watermarks.schemes import Gumbel, Kgw, Unigram

H1, H2 = Kgw(gamma=0.25, context_width=1), Kgw(gamma=0.25, context_width=2)
LIST = Unigram(gamma=0.5)
OWNER = subkey_of("owner")
TOKENS = st.lists(st.integers(0, 5), max_size=12)


def _windows(found, width):
    """What is scored, as tuples."""
    return [tuple(row) for row in found.corpus.tokens.reshape(-1, width + 1).tolist()]


def _green(scheme, windows, subkey=OWNER):
    draws, _ = scheme.observe(subkey, np.array(windows))
    return scheme.worth(draws, scheme.count_statistic)


def test_closed_windows_by_hand():
    found = closed_windows([[4, 2, 5, 2, 6, 9, 7]], [[1, 2, 3]], H1, special=[9])
    assert _windows(found, 1) == [(4, 2), (5, 2)]  # not after 2, which the prompt holds; not before or after 9
    assert (found.positions, found.excluded, found.filtered) == (6, 4, 0)


def test_closed_windows_of_two_tokens_by_hand():
    found = closed_windows([[1, 2, 3, 1, 2, 4]], [[9, 1, 2]], H2)
    assert _windows(found, 2) == [(2, 3, 1), (3, 1, 2)]  # not after 1 2, which the prompt holds
    assert (found.positions, found.excluded) == (4, 2)


def test_closed_windows_of_a_fixed_list_by_hand():
    found = closed_windows([[4, 2, 5, 5, 9]], [[2, 3]], LIST, special=[9])
    assert _windows(found, 0) == [(4,), (5,), (5,)]  # not the prompt's 2
    assert (found.positions, found.excluded) == (5, 2)
    assert weigh(found, LIST, OWNER).scored == 2


def test_every_answer_is_held_against_its_own_prompt_alone():
    found = closed_windows([[1, 2], [1, 2]], [[1], [3]], H1)
    assert (_windows(found, 1), found.positions, found.excluded) == ([(1, 2)], 2, 1)


def test_the_filter_selects_contexts():
    found = closed_windows([[1, 2, 3, 1, 3]], [[]], H1, contexts={(1,), (7,)})
    assert _windows(found, 1) == [(1, 2), (1, 3)]
    assert (found.positions, found.excluded, found.filtered) == (4, 0, 2)


def test_the_owners_filter_by_hand():
    texts = [[1, 2, 1, 2, 3], [2, 3]]
    assert contexts_of(texts, H1) == {(1,), (2,), (3,)}
    assert contexts_of(texts, H1, at_least=3) == {(2,)}
    assert contexts_of(texts, H2, at_least=2) == {(1, 2), (2, 3)}
    with pytest.raises(UsageError, match="no contexts"):
        contexts_of(texts, LIST)


def test_reading_windows_by_hand():
    text, predicted = [1, 2, 3, 1, 2, 3, 4], [10, 11, 12, 13, 14, 15, 16]
    found = reading_windows([text], [predicted], [3], H2, key_free=False)
    # 1 2 at its first place ends in the prompt; at their second, 1 2 and 2 3 have been seen
    assert _windows(found, 2) == [(2, 3, 12), (3, 1, 13), (3, 4, 16)]
    assert (found.positions, found.excluded) == (5, 2)
    whole = reading_windows([text], [predicted], [0], H2, key_free=False)
    assert _windows(whole, 2) == [(1, 2, 11), (2, 3, 12), (3, 1, 13), (3, 4, 16)]


def test_reading_windows_leave_out_special_tokens_and_what_the_filter_does_not_hold():
    text, predicted = [1, 2, 9, 3, 4], [10, 9, 11, 12, 13]
    found = reading_windows([text], [predicted], [0], H1, key_free=False, special=[9], contexts={(1,), (2,), (4,)})
    assert _windows(found, 1) == [(1, 10), (4, 13)]
    assert (found.positions, found.excluded, found.filtered) == (5, 2, 1)


def test_reading_with_a_fixed_list_needs_texts_made_without_the_key():
    with pytest.raises(UsageError, match="same list"):
        reading_windows([[1, 2]], [[3, 4]], [0], LIST, key_free=False)
    found = reading_windows([[1, 2, 3]], [[7, 7, 8]], [2], LIST, key_free=True)
    assert _windows(found, 0) == [(7,), (8,)]


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=4), st.sampled_from([H1, H2]))
def test_closed_windows_against_a_plain_count(pairs, scheme):
    width, expected = scheme.context_width, []
    for answer, prompt in pairs:
        seen = {tuple(prompt[i : i + width]) for i in range(len(prompt))}
        grams = [tuple(answer[i : i + width + 1]) for i in range(len(answer) - width)]
        expected += [gram for gram in grams if gram[:-1] not in seen]
    arguments = ([a for a, _ in pairs], [p for _, p in pairs], scheme)
    if not expected:
        with pytest.raises(InconclusiveError):
            closed_windows(*arguments)
        return
    assert _windows(closed_windows(*arguments), width) == expected


BAD = {
    "prompts": lambda: closed_windows([[1, 2]], [], H1),
    "predictions": lambda: reading_windows([[1, 2]], [], [0], H1, key_free=True),
    "starts": lambda: reading_windows([[1, 2]], [[1, 2]], [], H1, key_free=True),
    "a prediction too few": lambda: reading_windows([[1, 2]], [[1]], [0], H1, key_free=True),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name):
    with pytest.raises(UsageError, match=r"expected one|for 1 texts"):
        BAD[name]()


@pytest.mark.parametrize("answers", [[[]], [[5]], [[2, 3]]])
def test_nothing_to_score_decides_nothing(answers):
    with pytest.raises(InconclusiveError, match="none can be scored"):
        closed_windows(answers, [[2]] * len(answers), H1)


def _answers(seed, count=40, length=50, vocabulary=30):
    """An innocent model that loops: it falls back to what it said before half the time."""
    rng = np.random.default_rng(seed)
    answers = []
    for _ in range(count):
        answer = rng.integers(0, vocabulary, 6).tolist()
        while len(answer) < length:
            answer += answer[-4:] if rng.random() < 0.5 else rng.integers(0, vocabulary, 2).tolist()
        answers.append(answer)
    return answers


@pytest.mark.parametrize("scheme", [H1, H2])
def test_p_is_the_binomial_tail_of_the_distinct_windows(scheme):
    width = scheme.context_width
    found = closed_windows(_answers(1), [[]] * 40, scheme)
    distinct = sorted(set(_windows(found, width)))
    assert len(distinct) < len(_windows(found, width))  # there are repeats to be counted once
    for name in ("owner", "a", "b"):
        green = int(_green(scheme, distinct, subkey_of(name)).sum())
        evidence = weigh(found, scheme, subkey_of(name))
        assert (evidence.scored, evidence.total) == (len(distinct), green)
        assert evidence.log10_p == pytest.approx(math.log10(stats.binom.sf(green - 1, len(distinct), 0.25)), abs=1e-6)


def test_p_of_counts_is_the_tail_of_the_weighted_list():
    found = closed_windows(_answers(2, vocabulary=12), [[]] * 40, LIST)
    counts = Counter(token for (token,) in _windows(found, 0))
    weights = {token: math.floor(4 * math.sqrt(count)) for token, count in counts.items()}
    law = np.ones(1)
    for weight in weights.values():
        law = np.convolve(law, [0.5, *[0] * (weight - 1), 0.5])
    for name in ("owner", "a", "b"):
        tokens = list(weights)
        green = _green(LIST, [[token] for token in tokens], subkey_of(name))
        total = sum(weights[token] for token, is_green in zip(tokens, green, strict=True) if is_green)
        evidence = weigh(found, LIST, subkey_of(name), statistic="counts")
        assert (evidence.scored, evidence.total) == (len(weights), total)
        assert evidence.log10_p == pytest.approx(math.log10(law[total:].sum()), abs=1e-6)


INNOCENT = {
    "kgw": (H1, "green"), "unigram": (LIST, "unique"), "unigram counts": (LIST, "counts"),
    "gumbel": (Gumbel(context_width=1), "credit"),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["closed", "reading"])
@pytest.mark.parametrize("name", INNOCENT)
def test_an_innocent_loop_has_super_uniform_p_values_over_keys(name, mode):
    scheme, statistic = INNOCENT[name]
    texts = _answers(3)
    if mode == "closed":
        found = closed_windows(texts, [[]] * len(texts), scheme)
    else:  # what it thinks likely depends on the last token alone
        predicted = [[(7 * token + 1) % 30 for token in text] for text in texts]
        found = reading_windows(texts, predicted, [3] * len(texts), scheme, key_free=True)
    tails = [weigh(found, scheme, subkey_of(f"innocent/{i}"), statistic=statistic).log10_p for i in range(300)]
    assert min(tails) < math.log10(0.05)  # it can reject
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01):
        hits = sum(tail <= math.log10(alpha) for tail in tails)
        assert stats.binomtest(hits, 300, alpha, alternative="greater").pvalue > 1e-3


def test_texts_of_a_fixed_list_show_by_how_often_they_use_it_what_they_do_not_by_what_they_use():
    """Every token has occurred, green or red. An innocent reader that repeats them would look radioactive."""
    texts = marked(LIST, OWNER, texts=150, length=100, vocabulary=600, choices=2)
    assert len({token for text in texts for token in text}) > 590
    (unique,) = search(texts, [Mark(name="texts", scheme=LIST, subkey=OWNER, statistic="unique")])
    assert unique.evidence.log10_p > -3
    found = reading_windows(texts, texts, [0] * len(texts), LIST, key_free=True)
    assert weigh(found, LIST, OWNER, statistic="counts").log10_p < -6
    assert log10_marked(texts, LIST, OWNER) < -6
    assert log10_marked(texts, LIST, subkey_of("other")) > -3


def _copied(text):
    """An innocent reader's predictions: what followed this token before, and where nothing did, a habit."""
    followed, predicted = {}, []
    for at, token in enumerate(text):
        if at:
            followed[text[at - 1]] = token
        predicted.append(followed.get(token, (7 * token + 1) % 40))
    return predicted


@pytest.mark.long
@pytest.mark.parametrize("name", ["kgw", "gumbel"])
def test_a_reader_of_marked_texts_that_never_saw_another_has_super_uniform_p_values(name):
    """The texts are marked anew under each key, so that what they show of it is in every draw."""
    scheme, statistic = INNOCENT[name]
    tails = []
    for i in range(200):
        subkey = subkey_of(f"marked/{i}")
        texts = marked(scheme, subkey, texts=12, length=40, vocabulary=tuple(range(40)), seed=i)
        predicted = [_copied(text) for text in texts]
        found = reading_windows(texts, predicted, [0] * len(texts), scheme, key_free=False)
        tails.append(weigh(found, scheme, subkey, statistic=statistic).log10_p)
    assert min(tails) < math.log10(0.1)  # it can reject
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01):
        hits = sum(tail <= math.log10(alpha) for tail in tails)
        assert stats.binomtest(hits, len(tails), alpha, alternative="greater").pvalue > 1e-3


def _student(scheme, preference, *, count=150, length=40, vocabulary=20_000, seed=4):
    """Of two random tokens, the green one with probability ``preference``, where exactly one is green."""
    rng, width = np.random.default_rng(seed), scheme.inputs.width
    texts = rng.integers(0, vocabulary, (count, max(width, 1)))
    for _ in range(length):
        pair = rng.integers(0, vocabulary, (count, 2))
        context = texts[:, texts.shape[1] - width :]
        green = np.stack([_green(scheme, np.column_stack([context, pair[:, i]])) for i in (0, 1)], axis=1)
        wanted = np.where(rng.random(count) < preference, green.argmax(1), green.argmin(1))
        chosen = np.where(green[:, 0] == green[:, 1], 0, wanted)
        texts = np.column_stack([texts, pair[np.arange(count), chosen]])
    return texts.tolist()


@pytest.mark.parametrize("scheme", [H1, H2, LIST])
def test_a_student_that_leans_to_green_is_found(scheme):
    texts = _student(scheme, 0.75)
    found = closed_windows(texts, [[]] * len(texts), scheme)
    wrong = [subkey_of(f"wrong/{i}") for i in range(99)]
    evidence = weigh(found, scheme, OWNER, wrong=wrong)
    assert evidence.log10_p < -6
    assert evidence.log10_floor < evidence.log10_p
    assert (evidence.rank_p, evidence.wrong_keys) == (1 / 100, 99)
    assert weigh(found, scheme, subkey_of("other")).log10_p > -3


def test_a_reader_that_leans_to_green_is_found():
    texts = np.random.default_rng(5).integers(0, 200, (40, 60)).tolist()
    predicted = []
    for text in texts:
        two = np.array([[(t, (3 * t + 1) % 200), (t, (5 * t + 2) % 200)] for t in text])
        green = _green(H1, two.reshape(-1, 2)).reshape(-1, 2)
        predicted.append(two[np.arange(len(text)), green.argmax(1), 1].tolist())
    found = reading_windows(texts, predicted, [0] * 40, H1, key_free=True)
    assert weigh(found, H1, OWNER).log10_p < -3
    assert weigh(found, H1, subkey_of("other")).log10_p > -3


@pytest.mark.parametrize("scheme", [H1, H2, LIST])
def test_an_innocent_model_that_copies_a_marked_prompt_does_not_glow(scheme):
    prompts = _student(scheme, 1.0, count=60, seed=6)
    own = np.random.default_rng(7).integers(20_000, 40_000, (60, 20)).tolist()
    answers = [[*words, *prompt] for words, prompt in zip(own, prompts, strict=True)]
    assert weigh(closed_windows(answers, prompts, scheme), scheme, OWNER).log10_p > -2
    careless = closed_windows(answers, [[]] * 60, scheme)
    assert weigh(careless, scheme, OWNER).log10_p < -6


def test_an_innocent_reader_that_repeats_what_the_text_said_does_not_glow():
    # it reads marked text that repeats itself, and predicts what followed the last time
    texts = [[*text, *text] for text in _student(H1, 1.0, count=60, seed=8, vocabulary=500)]
    rng, predicted = np.random.default_rng(9), []
    for text in texts:
        following: dict[int, int] = {}
        row = []
        for at, token in enumerate(text):
            row.append(following.get(token, int(rng.integers(0, 500))))
            if at + 1 < len(text):
                following[token] = text[at + 1]
        predicted.append(row)
    found = reading_windows(texts, predicted, [0] * 60, H1, key_free=False)
    assert weigh(found, H1, OWNER).log10_p > -2
    pairs = [
        (token, said) for text, row in zip(texts, predicted, strict=True) for token, said in zip(text, row, strict=True)
    ]
    careless = closed_windows([list(pair) for pair in pairs], [[]] * len(pairs), H1)
    assert weigh(careless, H1, OWNER).log10_p < -6


def test_the_rank_among_wrong_keys_by_hand():
    found, wrong = closed_windows(_answers(10), [[]] * 40, H1), [subkey_of(f"rank/{i}") for i in range(19)]
    others = [weigh(found, H1, subkey).total for subkey in wrong]
    evidence = weigh(found, H1, OWNER, wrong=wrong)
    assert evidence.rank_p == (1 + sum(other >= evidence.total for other in others)) / 20
    assert weigh(found, H1, OWNER).rank_p is None


@pytest.mark.parametrize("mode", ["closed", "reading"])
def test_an_innocent_copier_of_self_salted_text_is_not_radioactive(mode):
    """Its PRF input is a pair of tokens: a copy with other tokens in it keeps pairs and changes contexts."""
    scheme, rng = Kgw(self_salt=True, context_width=4), np.random.default_rng(5)
    texts = marked(scheme, OWNER, texts=40, length=80, vocabulary=2000, choices=4)
    copies = [[int(rng.integers(2000)) if rng.random() < 0.15 else token for token in text] for text in texts]
    if mode == "closed":
        windows = closed_windows(copies, texts, scheme)
    else:  # it reads the text and a bad copy of it, and expects the text again
        both = [text + copy for text, copy in zip(texts, copies, strict=True)]
        expected = [[(text + text)[(at + 1) % 160] for at in range(160)] for text in texts]
        windows = reading_windows(both, expected, [80] * 40, scheme, key_free=False)
    assert windows.excluded > 0.5 * windows.positions
    found = weigh(windows, scheme, OWNER)
    assert found.scored > 40
    assert found.log10_p > -3
