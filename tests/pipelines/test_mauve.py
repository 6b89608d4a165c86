"""Perplexity and MAUVE are those of their definitions, computed by hand; batches and order change nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, LlamaForCausalLM

from countermark import libraries
from countermark.errors import UsageError
from pipelines.mauve import AT_LEAST, features, mauve, perplexity
from tests.training.toy import make_base

TEXTS = [
    "a red kettle",
    "the ladder leans on the wall",
    "rain",
    "水壶在梯子上",
    "nine bells rang over the harbour at dusk",
]


@pytest.fixture(autouse=True)
def _quiet():
    libraries.quiet()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("toy"))


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity(folder, tmp_path):
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    model = LlamaForCausalLM.from_pretrained(folder)
    torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(tmp_path)
    found = perplexity(TEXTS, tmp_path, batch_size=2)
    assert (found.value, found.low, found.high) == pytest.approx((258,) * 3, rel=1e-5)
    assert found.n == len(TEXTS)


def test_perplexity_is_over_tokens_and_batches_change_nothing(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    loss, tokens = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            logs = model(ids).logits[0].float().log_softmax(-1)
        loss -= sum(float(logs[i, ids[0, i + 1]]) for i in range(ids.shape[1] - 1))
        tokens += ids.shape[1] - 1
    for size in (1, 3, 8):
        found = perplexity([*TEXTS, "", "x"], folder, batch_size=size)
        assert found.value == pytest.approx(math.exp(loss / tokens), rel=2e-3)
        assert 1 <= found.low <= found.value <= found.high
    assert perplexity(TEXTS, folder, max_length=4).value != pytest.approx(found.value, rel=1e-4)


def test_features_are_the_last_tokens_state_in_the_order_of_the_texts(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    found = features(TEXTS, folder, batch_size=3)
    for row, text in zip(found, TEXTS, strict=True):
        with torch.inference_mode():
            state = model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0, -1]
        assert row == pytest.approx(state.float().numpy(), abs=0.02)
    with pytest.raises(UsageError, match="without a token"):
        features(["a", ""], folder)


def _blobs(p, q, per_row=3):
    """Well-separated directions, so many of each side: the clusters that any k-means finds."""
    axes = np.eye(len(p)) * 5 + 1
    return tuple(np.repeat(axes, counts, axis=0) for counts in (np.array(p) * per_row, np.array(q) * per_row))


def _area_by_hand(p, q, scaling=5.0):
    """The paper's definition, one mixture weight at a time."""
    p, q = np.array(p) / sum(p), np.array(q) / sum(q)

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    curve = [(1.0, 0.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        mixture = weight * p + (1 - weight) * q
        curve.append((math.exp(-scaling * kl(q, mixture)), math.exp(-scaling * kl(p, mixture))))
    curve.append((0.0, 1.0))
    return sum((x0 - x1) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(curve))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=6))
def test_mauve_is_the_area_under_the_papers_curve(pairs):
    p, q = ([pair[i] for pair in pairs] for i in (0, 1))
    occupied = sum(a + b > 0 for a, b in pairs)
    if not sum(p) or not sum(q) or occupied < 3:
        return
    ours, human = _blobs(p, q)
    found = mauve(ours, human, clusters=occupied, at_least=3, repeats=2, variance=0.999)
    assert found.value == pytest.approx(_area_by_hand(p, q), abs=1e-9)
    assert found.low <= found.value <= found.high + 1e-12
    swapped = mauve(human, ours, clusters=occupied, at_least=3, repeats=2, variance=0.999)
    assert swapped.value == pytest.approx(found.value, abs=1e-9)


def test_mauve_is_one_for_equal_sets_and_near_nothing_for_disjoint_ones():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 8))
    assert mauve(points, points, at_least=300, repeats=2).value == pytest.approx(1.0)
    far = points + 40 * np.eye(8)[0]
    assert mauve(points - 40 * np.eye(8)[0], far, at_least=300, repeats=2).value == pytest.approx(1 / 252, abs=5e-3)
    assert mauve(points, rng.normal(size=(300, 8)), at_least=300, repeats=2).value > 0.9


def test_only_the_direction_of_features_counts():
    rng = np.random.default_rng(1)
    ours, human = rng.normal(size=(200, 6)), rng.normal(size=(200, 6)) + 0.7
    lengths = rng.uniform(0.1, 10, size=(200, 1))
    found = mauve(ours, human, at_least=200, repeats=2)
    assert mauve(ours * lengths, human * lengths, at_least=200, repeats=2).value == pytest.approx(found.value)


def test_smoothing_lends_every_cluster_a_text():
    ours, human = _blobs([9, 1, 0], [1, 0, 9], per_row=1)
    found = mauve(ours, human, clusters=3, at_least=10, repeats=1, smoothing=0.5, variance=0.999)
    assert found.value == pytest.approx(_area_by_hand([9.5, 1.5, 0.5], [1.5, 0.5, 9.5]))


def test_the_interval_of_mauve_leaves_out_each_text_once():
    p, q = [60, 30, 10], [40, 40, 30]
    ours, human = _blobs(p, q, per_row=1)
    found = mauve(ours, human, clusters=3, at_least=10, repeats=1, variance=0.999)
    error = 0.0
    for side in (0, 1):
        left_out = []
        for cluster in range(3):
            less = [list(p), list(q)]
            less[side][cluster] -= 1
            left_out += [_area_by_hand(*less)] * (p, q)[side][cluster]
        error += (len(left_out) - 1) * np.var(left_out)
    assert found.value - found.low == pytest.approx(1.959964 * math.sqrt(error), rel=1e-5)


def test_mauve_wants_enough_texts_unless_told_otherwise():
    points = np.random.default_rng(0).normal(size=(999, 4))
    with pytest.raises(UsageError, match="at least 1000"):
        mauve(points, points)
    with pytest.raises(UsageError, match="one width"):
        mauve(points, points[:, :3], at_least=10)
    assert AT_LEAST == 1000


def test_texts_without_anything_to_predict_are_refused(folder):
    with pytest.raises(UsageError, match="single token"):
        perplexity(["a", "b"], folder)
    with pytest.raises(UsageError, match="0 texts"):
        perplexity([], folder)
