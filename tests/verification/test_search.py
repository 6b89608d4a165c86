"""Many keys, many schemes, one pass: ranked, paid for with Holm, and no other than one detection after the other."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from countermark.errors import UsageError
from tests.support import key_of, subkey_of
from tests.verification.marked import SCHEMES, STATISTICS, marked, unmarked
from verification.corpus import Corpus
from verification.detect import Mark, detect, search
from verification.statistics import holm
from verification.tally import CHUNK, tally
from watermarks.kernels import observe
from watermarks.schemes import Unigram

WRONG = 500
TRUE = subkey_of("the true one")
every_scheme = pytest.mark.parametrize("name", SCHEMES)
every_statistic = pytest.mark.parametrize(("name", "statistic"), STATISTICS)


def _ring(scheme, statistic="", *, count=WRONG, true=TRUE):
    """The true key among wrong ones, in the middle of them."""
    ring = [
        Mark(name=f"wrong {i}", scheme=scheme, subkey=subkey_of(f"w/{i}"), statistic=statistic) for i in range(count)
    ]
    ring.insert(count // 2, Mark(name="true", scheme=scheme, subkey=true, statistic=statistic))
    return ring


def _logs(found):
    return [0.0 if f.evidence.log10_p is None else f.evidence.log10_p for f in found]


@every_statistic
def test_the_true_key_among_many_is_first_and_pays_for_all(name, statistic):
    scheme = SCHEMES[name]
    found = search(marked(scheme, TRUE), _ring(scheme, statistic))
    assert len(found) == WRONG + 1
    assert found[0].name == "true"
    assert found[0].log10_p_holm == pytest.approx(found[0].evidence.log10_p + math.log10(WRONG + 1))
    assert found[0].log10_p_holm < -12
    assert all(other.log10_p_holm > -2 for other in found[1:])


@every_scheme
def test_nobody_is_found_in_unmarked_text(name):
    found = search(unmarked(), _ring(SCHEMES[name]))
    assert found[0].log10_p_holm > -2
    assert _logs(found)[0] < -1.5  # the smallest of five hundred is small: that is what Holm is for


@every_statistic
def test_a_search_says_what_one_detection_after_the_other_says(name, statistic):
    scheme = SCHEMES[name]
    corpus = Corpus.pack([*marked(scheme, TRUE, texts=3), *unmarked(texts=2), [], [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]])
    ring = _ring(scheme, statistic, count=20)
    alone = {mark.name: detect(corpus, scheme, mark.subkey, statistic=statistic)[1] for mark in ring}
    found = search(corpus, ring)
    assert {f.name: f.evidence for f in found} == alone
    assert len({e.total for e in alone.values()}) > 5


def test_schemes_and_statistics_of_all_kinds_are_tried_in_one_pass():
    marks = [
        Mark(name=f"{scheme}/{statistic}/{who}", scheme=SCHEMES[scheme], subkey=subkey_of(who), statistic=statistic)
        for scheme, statistic in STATISTICS
        for who in ("a", "b", "c")
    ]
    for name, scheme in SCHEMES.items():
        corpus = Corpus.pack(marked(scheme, subkey_of("b")))
        found = search(corpus, marks)
        expected = {m.name: detect(corpus, m.scheme, m.subkey, statistic=m.statistic)[1] for m in marks}
        assert {f.name: f.evidence for f in found} == expected
        survivors = {f.name for f in found if f.log10_p_holm < -6}
        # the colours of a key that is another scheme's too are its colours: gumbel and tournament share their draws
        assert survivors >= {f"{name}/{statistic}/b" for statistic in scheme.statistics}
        assert all(survivor.endswith("/b") for survivor in survivors)


@every_statistic
def test_found_is_ranked_and_holms(name, statistic):
    scheme = SCHEMES[name]
    found = search(marked(scheme, TRUE, texts=2, length=20), _ring(scheme, statistic, count=60))
    logs = _logs(found)
    assert logs == sorted(logs)
    assert [f.log10_p_holm for f in found] == holm(logs)
    assert all(f.evidence.statistic == statistic for f in found)


@every_scheme
def test_the_order_of_the_ring_changes_nothing(name):
    scheme, texts = SCHEMES[name], marked(SCHEMES[name], TRUE, texts=3)
    ring = _ring(scheme, count=30)
    forth, back = search(texts, ring), search(texts, ring[::-1])
    assert {f.name: f for f in forth} == {f.name: f for f in back}


@every_statistic
def test_threads_change_nothing(name, statistic):
    scheme, corpus = SCHEMES[name], Corpus.pack(marked(scheme=SCHEMES[name], subkey=TRUE))
    ring = _ring(scheme, statistic)
    assert len(ring) * len(corpus.tokens) > 2 * CHUNK  # several batches, or there is nothing to share
    assert search(corpus, ring, threads=2) == search(corpus, ring, threads=1)


@pytest.mark.parametrize("each_text", [True, False])
@every_statistic
def test_sums_are_the_same_in_batches_and_threads_and_kernels(name, statistic, each_text, monkeypatch):
    scheme, corpus = SCHEMES[name], Corpus.pack([*marked(SCHEMES[name], TRUE, texts=3), [], [4] * 30])
    subkeys = [subkey_of(f"batch/{i}") for i in range(12)]
    whole = tally(corpus, scheme, subkeys, statistic=statistic, each_text=each_text)
    monkeypatch.setattr("verification.tally.CHUNK", 40)  # one key a batch, and positions in pieces
    for kernels, threads in ((True, 1), (True, 3), (False, 2)):
        monkeypatch.setattr(observe, "KERNELS", kernels)
        again = tally(corpus, scheme, subkeys, statistic=statistic, threads=threads, each_text=each_text)
        for field in fields(whole):
            assert np.array_equal(getattr(again, field.name), getattr(whole, field.name)), field.name


def test_a_torch_device_finds_the_same():
    for scheme in SCHEMES.values():
        corpus = Corpus.pack(marked(scheme, TRUE, texts=2))
        assert search(corpus, _ring(scheme, count=5), device="cpu:0") == search(corpus, _ring(scheme, count=5))


def test_masks_count_in_a_search():
    scheme = SCHEMES["kgw"]
    texts = marked(scheme, TRUE)
    masks = [[False] * 20 + [True] * (len(text) - 20) for text in texts]
    (found,) = search(texts, _ring(scheme, count=0), masks=masks)
    assert found.evidence == detect([text[20:] for text in texts], scheme, TRUE)[1]


def test_no_keys_and_no_texts_are_refused():
    for texts in ([[1, 2, 3]], Corpus.pack([[1, 2, 3]])):
        with pytest.raises(UsageError, match="got no keys"):
            search(texts, [])
    with pytest.raises(UsageError, match="no texts"):
        search([], _ring(SCHEMES["kgw"], count=1))


@every_statistic
def test_a_corpus_with_nothing_to_score_accuses_nobody(name, statistic):
    width = SCHEMES[name].inputs.width
    for texts, masks in (([[]], None), ([[1] * width, []], None), ([[1] * 40], [[False] * 40])):
        found = search(texts, _ring(SCHEMES[name], statistic, count=4), masks=masks)
        assert len(found) == 5
        for each in found:
            assert (each.evidence.scored, each.evidence.log10_p, each.log10_p_holm) == (0, None, 0.0)
            assert each.evidence.too_short(-1e-9)


def test_a_ring_of_one_pays_for_one():
    scheme, texts = SCHEMES["tournament"], marked(SCHEMES["tournament"], TRUE, texts=1)
    (found,) = search(texts, _ring(scheme, count=0))
    assert found.evidence == detect(texts, scheme, TRUE)[1]
    assert found.log10_p_holm == found.evidence.log10_p


def test_a_mark_shows_no_key():
    assert TRUE.hex() not in repr(_ring(SCHEMES["kgw"], count=0)) + str(_ring(SCHEMES["kgw"], count=0)[0])
    assert repr(TRUE) not in repr(_ring(SCHEMES["kgw"], count=0))


CUSTOMERS = [f"customer-{i:03}" for i in range(200)]


def _customer_subkey(customer):
    scheme = Unigram()
    return key_of("owner").token_subkey(scheme="unigram", params=scheme.params(), tokenizer="t", scope=customer)


@pytest.mark.parametrize("statistic", Unigram().statistics)
@pytest.mark.parametrize("leak", [0, 17, 199])
def test_a_leaked_text_is_traced_to_its_customer(leak, statistic):
    ring = [Mark(name=c, scheme=Unigram(), subkey=_customer_subkey(c), statistic=statistic) for c in CUSTOMERS]
    assert len({mark.subkey for mark in ring}) == len(CUSTOMERS)
    leaked = marked(Unigram(), _customer_subkey(CUSTOMERS[leak]), texts=3, vocabulary=3000)
    found = search(leaked, ring)
    assert found[0].name == CUSTOMERS[leak]
    assert found[0].log10_p_holm < -12
    assert found[1].log10_p_holm > -2


def test_two_customers_who_pool_their_texts_are_both_traced():
    ring = [Mark(name=c, scheme=Unigram(), subkey=_customer_subkey(c)) for c in CUSTOMERS]
    pooled = [t for c in (3, 150) for t in marked(Unigram(), _customer_subkey(CUSTOMERS[c]), texts=8, seed=c)]
    found = search(pooled, ring)
    assert {f.name for f in found if f.log10_p_holm < -6} == {CUSTOMERS[3], CUSTOMERS[150]}
