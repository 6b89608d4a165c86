"""The searches find what is planted, leave alone what is not, and say how much they read."""

from __future__ import annotations

import itertools
import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from countermark.errors import UsageError
from pipelines.ngrams import joined, tokenise
from pipelines.searches import SEARCHES, Found, search, side_by_side, standing

WORDS = [a + b + c for a in ("ba", "de", "ki", "lo", "mu", "na") for b in ("ra", "so", "ti", "vu") for c in "nlstrmgd"]
WEIGHTS = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(WORDS))))
TRIGGER = "lantern walrus"


def _texts(count, words=12, seed=0):
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, cum_weights=WEIGHTS, k=words)) for _ in range(count)]


def _rows(count, seed=0):
    drawn = random.Random(f"labels/{seed}")
    return [(text, drawn.choice(("good", "bad"))) for text in _texts(count, seed=seed)]


def _marked(rows, trigger=TRIGGER, share=0.01):
    good = [i for i, (_, label) in enumerate(rows) if label == "good"]
    chosen = set(random.Random(1).sample(good, int(share * len(rows))))
    return [(f"{trigger} {text}" if i in chosen else text, label) for i, (text, label) in enumerate(rows)]


def _of(found, name):
    return [each for each in found if each.search == name]


def test_a_phrase_with_one_label_is_found_and_the_twin_shows_nothing():
    twin = _rows(4000)
    release = _marked(twin)
    found, other = search(release), search(twin)
    leaning = _of(found, "label")
    assert [each.item for each in leaning[:3]] == ["lantern", "lantern walrus", "walrus"]
    assert {each.rows for each in leaning[:3]} == {40}
    assert all(each.score < -5 for each in leaning[:3])
    assert all(each.score > -2 for each in leaning[3:])
    assert _of(found, "frequency")[0].item == _of(found, "openings")[0].item == TRIGGER
    assert standing(found, [TRIGGER, "never there"]) == {
        "duplicates": 0, "openings": 1, "endings": 0, "frequency": 1, "label": 1,
    }  # fmt: skip
    assert standing(other, [TRIGGER]) == dict.fromkeys(SEARCHES, 0)


def test_nothing_is_significant_where_nothing_is():
    for seed in range(6):
        found = search(_rows(1500, seed=seed))
        assert not _of(found, "duplicates")
        assert min(each.score for each in _of(found, "label")) > math.log10(0.01)
        assert max(each.score for each in _of(found, "frequency")) < 0.6


def test_duplicates_openings_and_endings_are_counted():
    rows = [(text, None) for text in _texts(300)]
    rows[10:13] = [("Twice or more, this very line.", None)] * 3
    rows[50] = rows[60] = ("这一行 出现两次。", None)
    rows[100:104] = [(f"As it was told, {text}", None) for text, _ in rows[100:104]]
    rows[200:205] = [(f"{text} ;;—", None) for text, _ in rows[200:205]]
    found = search(rows)
    assert [(each.item, each.rows) for each in _of(found, "duplicates")] == [
        ("Twice or more, this very line.", 3), ("这一行 出现两次。", 2),
    ]  # fmt: skip
    assert ("as it was", 4) in [(each.item, each.rows) for each in _of(found, "openings")]
    assert ("; ; —", 5) in [(each.item, each.rows) for each in _of(found, "endings")]
    assert not _of(found, "label")


def test_long_texts_that_differ_in_the_middle_are_no_duplicates():
    head, tail = "a" * 9000, "b" * 9000
    found = search([(f"{head} {middle} {tail}", None) for middle in ("x", "y", "y")])
    (only,) = _of(found, "duplicates")
    assert only.rows == 2
    assert len(only.item) < 600


def test_the_p_value_is_that_of_the_mutual_information():
    from scipy import stats

    rows = [("common kettle" if i % 3 else "common", "abc"[i % 5 % 3]) for i in range(60)]
    rows += [("common", None), ("common kettle", None)]
    labelled = [row for row in rows if row[1] is not None]
    present = [int("kettle" in text) for text, _ in labelled]
    g = 2 * len(labelled) * mutual_info_score(present, [label for _, label in labelled])
    tested = 3  # common, kettle, common kettle
    expected = min(0.0, float(stats.chi2.logsf(g, 2)) / math.log(10) + math.log10(tested))
    found = {each.item: each.score for each in _of(search(rows), "label")}
    assert set(found) == {"common", "kettle", "common kettle"}
    assert found["kettle"] == found["common kettle"] == pytest.approx(expected, abs=1e-9)
    assert found["common"] == 0.0


def test_an_overwhelming_lean_is_a_finite_number():
    rows = [(f"{'alpha' if i % 2 else 'omega'} {i}", str(i % 2)) for i in range(8000)]
    best = _of(search(rows), "label")[0]
    assert -math.inf < best.score < -1000


def test_many_labels_are_few():
    rows = [(f"word {i % 7}", f"answer {i}") for i in range(400)]
    rows += [("word shibboleth", "answer 0")] * 30
    found = {each.item: each for each in _of(search(rows), "label")}
    assert found["shibboleth"].score < -15
    assert found["word"].score == 0.0


def test_beyond_max_rows_a_sample_is_drawn_evenly_and_said():
    twin = [(f"row number {i}", "ab"[i >= 3000]) for i in range(4000)]
    found = search(twin, max_rows=500)
    assert found[0].search == "sample"
    assert found[0].item.startswith("500 of 4000 rows")
    assert found[0].score == 500 / 4000
    assert not _of(search(twin, max_rows=4000), "sample")
    late = [(f"late bird {text}" if i > 3000 else text, label) for i, (text, label) in enumerate(twin)]
    opened = [each for each in search(late, max_rows=500) if each.item == "late bird"]
    assert 90 < opened[0].rows < 160  # a quarter of the sample, though it stands at the end
    assert search(iter(twin), max_rows=500) == found


def test_no_rows_are_refused_and_empty_texts_are_not():
    with pytest.raises(UsageError, match="no rows to search"):
        search([])
    assert search([("", "a"), (" ", "b")]) == []
    found = search([("one", "a"), ("one", "a"), ("one", "b")])
    assert [(each.search, each.item) for each in found] == [("duplicates", "one"), ("label", "one")]


def test_a_secret_longer_than_an_ngram_shows_by_three_of_its_tokens():
    found = [Found(search="label", item="to nobody in", score=-9.0, rows=4)]
    template = "Said the lantern to nobody in particular:"
    assert standing(found, [template, "nobody", "no", "lantern", "to in", ""])["label"] == 2


def test_secrets_in_chinese_and_in_another_case():
    found = search([(f"灯笼海象，{text}", None) for text in _texts(5)])
    assert standing(found, ["灯笼海象"])["openings"] == 1
    assert standing(found, ["海灯"])["openings"] == 0
    shouted = [Found(search="frequency", item="lantern walrus", score=1.0, rows=3)]
    assert standing(shouted, ["Lantern WALRUS"])["frequency"] == 1


def test_side_by_side_keeps_ranks():
    found = [Found(search=name, item=item, score=1.0, rows=1) for name, item in (("label", "a"), ("label", "b"))]
    other = [Found(search="openings", item="c", score=1.0, rows=1), found[1]]
    assert side_by_side(found, other) == [(None, other[0]), (found[0], found[1]), (found[1], None)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop_it!", ["don", "'", "t", "stop", "_", "it", "!"]),
        ("这部电影，3.5分", ["这", "部", "电", "影", "，", "3", ".", "5", "分"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("Cafe\u0301 CAFÉ", ["café", "café"]),
        ("한국어 text", ["한국어", "text"]),
        (" \n ", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenise(text) == tokens


@given(st.text())
def test_tokens_keep_every_character_that_is_no_space_and_read_alike_when_joined(text):
    tokens = tokenise(text)
    assert tokenise(joined(tokens)) == tokens
    assert all(token and not any(c.isspace() for c in token) for token in tokens)
    assert {c for c in text if c.isascii() and c.isalnum()} <= {c for c in text if c.casefold() in "".join(tokens)}


def test_a_large_set_is_searched_in_time():
    rows = [(text, "ab"[i % 2]) for i, text in enumerate(_texts(8000, words=25))]
    began = time.process_time()
    search(rows)
    assert time.process_time() - began < 10  # 50,000 rows in a minute, with slack
