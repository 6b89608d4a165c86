"""What detection says: marked text is found under its key alone, wrong keys reject as often as they should, and text
that says nothing passes nothing.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from pipelines.config import WatermarkConfig
from tests.conformance.variants import (
    SCHEMES,
    every_scheme,
    every_statistic,
    evidence,
    fixed_texts,
    label,
    written,
)
from tests.support import key_of, subkey_of
from verification.corpus import Corpus
from verification.detect import Mark, detect, search
from verification.tails import log10_floor
from watermarks.schemes import Kgw, make_scheme
from watermarks.schemes.base import parameters_of

KEYS = [subkey_of(f"null {i}") for i in range(2_000)]
TEXTS = fixed_texts()
SUBKEY = subkey_of("power")


def _tails(corpus: Corpus, scheme, statistic: str) -> np.ndarray:
    """log10 p of the corpus under every key."""
    marks = [Mark(name="wrong", scheme=scheme, subkey=key, statistic=statistic) for key in KEYS]
    return np.array([found.evidence.log10_p for found in search(corpus, marks)])


# Calibration: the law is exact over keys for a given text, so keys are what varies

CORPORA = {"uniform": ["uniform"], "zipf": ["zipf"], "repeats": ["phrases", "few words", "phrases"]}


@pytest.mark.long
@every_statistic
@pytest.mark.parametrize("texts", CORPORA)
def test_wrong_keys_reject_fixed_texts_at_most_at_alpha(scheme, statistic, texts):
    tails = _tails(Corpus.pack([TEXTS[name] for name in CORPORA[texts]]), scheme, statistic)
    for alpha in (0.1, 0.01):
        hits = int((tails <= np.log10(alpha)).sum())
        assert stats.binomtest(hits, len(tails), alpha, alternative="greater").pvalue > 1e-3
    assert tails.max() <= 0.0
    assert tails.min() < np.log10(0.02)  # it does reject at times: it is no constant
    assert len(set(tails)) > 5
    if texts == "zipf":  # about half of all keys lie on each side of the median
        assert 0.4 < (tails < np.log10(0.5)).mean() <= 0.55


def test_a_self_salted_pair_is_one_coin_in_however_many_windows():
    text = TEXTS["few words"]
    windows, pairs = Kgw(context_width=4), Kgw(context_width=4, self_salt=True)
    assert detect([text], windows, SUBKEY)[1].scored > 130
    assert detect([text], pairs, SUBKEY)[1].scored <= 8 * 8


# Power


@every_scheme
def test_marked_text_is_found_under_its_key_alone(scheme):
    texts = written(scheme, SUBKEY)
    for statistic in scheme.statistics:
        assert detect(texts, scheme, SUBKEY, statistic=statistic)[1].log10_p < -6
        assert detect(texts, scheme, subkey_of("other"), statistic=statistic)[1].log10_p > -4
    decisive = [each.log10_p for each in detect(texts, scheme, SUBKEY)[0]]
    usual = scheme == make_scheme(scheme.name, {})
    assert max(decisive) < (-6 if usual else -2)


@pytest.mark.long
@every_scheme
def test_another_scheme_of_the_same_key_is_not_found(scheme):
    """A key gives every scheme and parameter set a sub-key of its own."""
    key = key_of("owner")

    def subkey(one):
        return key.token_subkey(scheme=one.name, params=one.params(), tokenizer="t", scope="s")

    texts = written(scheme, subkey(scheme))
    marks = [Mark(name=label(s), scheme=s, subkey=subkey(s), statistic=name) for s in SCHEMES for name in s.statistics]
    for found in search(texts, marks):
        assert (found.evidence.log10_p < -6) is (found.name == label(scheme)), found


@every_scheme
def test_another_scheme_under_the_very_sub_key_is_not_found(scheme):
    """Where the PRF inputs differ. (Those of equal context share draws, and are kept apart by their sub-keys.)"""
    texts = written(scheme, SUBKEY)
    others = [s for s in SCHEMES if s.name != scheme.name and s.inputs.width != scheme.inputs.width]
    assert others
    for other in others:
        for found in evidence(texts, other, SUBKEY):
            assert found[-1].log10_p > -4, other


@every_scheme
def test_many_keys_in_one_search_say_what_each_says(scheme):
    texts = written(scheme, SUBKEY, rows=2, length=80)
    keys = [SUBKEY, *KEYS[:9]]
    marks = [Mark(name=str(i), scheme=scheme, subkey=key) for i, key in enumerate(keys)]
    ranked = search(texts, marks)
    assert ranked[0].name == "0"
    assert ranked[0].evidence.log10_p <= ranked[0].log10_p_holm < -2 < ranked[1].log10_p_holm
    for found in ranked:
        assert found.evidence == detect(texts, scheme, keys[int(found.name)])[1]


# Text that says nothing


@every_scheme
@pytest.mark.parametrize("text", [[], [7]], ids=["empty", "one token"])
def test_a_text_shorter_than_its_window_is_never_a_pass(scheme, text):
    texts = [text[:width] for width in (0, scheme.inputs.width)]
    for found in evidence([*texts, list(range(scheme.inputs.width))], scheme, SUBKEY):
        for each in found:
            assert (each.scored, each.total, each.log10_p, each.log10_floor) == (0, 0, None, 0.0)
            assert each.too_short(0.0)


@every_scheme
def test_a_fully_masked_text_is_never_a_pass(scheme):
    texts = written(scheme, SUBKEY, rows=1)
    for each, corpus in evidence(texts, scheme, SUBKEY, masks=[[False] * 120]):
        assert each == corpus
        assert (each.scored, each.log10_p) == (0, None)
        assert each.too_short(-0.01)


@every_scheme
def test_masks_that_leave_no_whole_window_leave_nothing(scheme):
    width = scheme.inputs.width
    mask = ([False] + [True] * width) * 10
    for found in evidence([list(range(len(mask)))], scheme, SUBKEY, masks=[mask]):
        assert found[-1].log10_p is None
    for found in evidence([list(range(2 * width + 1))], scheme, SUBKEY, masks=[[False] * width + [True] * (width + 1)]):
        assert found[-1].scored == 1


@every_scheme
def test_nothing_beside_something_changes_nothing(scheme):
    texts = written(scheme, SUBKEY, rows=2)
    for found, alone in zip(
        evidence([[], *texts, [1][: scheme.inputs.width]], scheme, SUBKEY),
        evidence(texts, scheme, SUBKEY),
        strict=True,
    ):
        assert [found[1], found[2], found[-1]] == alone
        assert found[0] == found[3]
        assert found[0].log10_p is None


@every_statistic
def test_few_inputs_cannot_support_much(scheme, statistic):
    """The floor is the tail of the best sum there is, and falls as the text grows."""
    law, floors = scheme.law(statistic), []
    for scored in (1, 2, 20, 200):
        floors.append(log10_floor(law, scored))
        text = list(range(scored + scheme.inputs.width))
        (found,), _ = detect([text], scheme, SUBKEY, statistic=statistic)
        assert found.scored == scored
        assert found.log10_floor == pytest.approx(floors[-1])
        assert found.log10_p >= found.log10_floor - 1e-6
        assert found.too_short(found.log10_floor - 0.1)
        assert not found.too_short(found.log10_floor + 0.1)
    assert floors == sorted(floors, reverse=True)
    assert floors[-1] < -6


# Names and parameters


@every_scheme
def test_a_scheme_survives_json(scheme):
    params = json.loads(json.dumps(scheme.params()))
    assert params == scheme.params()
    assert set(params) == set(parameters_of(scheme.name))
    again = make_scheme(scheme.name, params)
    assert again == scheme
    assert hash(again) == hash(scheme)
    assert again.inputs == scheme.inputs
    assert again.order in {"after", "before"}


@every_scheme
def test_a_scheme_comes_out_of_a_config(scheme):
    built = WatermarkConfig.model_validate({"scheme": scheme.name, **scheme.params()}).build()
    assert built == scheme
    short = {k: v for k, v in scheme.params().items() if v != make_scheme(scheme.name, {}).params()[k]}
    assert WatermarkConfig.model_validate({"scheme": scheme.name, **short}).build() == scheme


def test_no_two_variants_are_equal():
    assert len(set(SCHEMES)) == len(SCHEMES)
    assert len({(s.name, json.dumps(s.params(), sort_keys=True)) for s in SCHEMES}) == len(SCHEMES)


@every_scheme
def test_the_statistic_for_effect_sizes_is_binomial(scheme):
    law = scheme.law(scheme.count_statistic)
    assert scheme.count_statistic in scheme.statistics
    assert 0.0 < law.p < 1.0
    assert law.trials >= 1
