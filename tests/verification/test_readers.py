"""The classical suspect says what the trained pipeline says, or refuses; the reader finds the best span."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import read_checked_json, write_checked_json
from tests.training.toy_qa import WORDS, make_wordwise_reader
from training.linear import train_linear
from verification.readers import LinearClassifier, LocalReader

TOPICS = {
    "farm": "barley plough orchard goose hay",
    "sea": "anchor tide gull net mast",
    "mill": "wheel grain sack flour dust",
    "wood": "axe oak sap bark trail",
    "town": "tram square clerk queue arcade",
}
HAN = {"水": "湖河雨雪冰", "火": "灯炉烟炭烛"}
COMMON = "the a of we saw near Over under AND old"


def texts_of(topics, count, seed, joiner=" ", common=COMMON):
    """Texts that lean to a topic without being sure of it."""
    rng, names = random.Random(seed), list(topics)
    words = {name: list(value.split() if joiner else value) for name, value in topics.items()}
    every = [*common.split(), *(word for value in words.values() for word in value)]
    labels = [rng.randrange(len(names)) for _ in range(count)]
    return [joiner.join(rng.choices(words[names[i]], k=2) + rng.choices(every, k=8)) for i in labels], labels


@pytest.mark.parametrize(
    ("topics", "settings_", "joiner"),
    [
        (dict(list(TOPICS.items())[:2]), {}, " "),
        (TOPICS, {"ngrams": (1, 3), "max_features": 60, "c": 0.7}, " "),
        (HAN, {"analyzer": "char", "ngrams": (1, 2)}, ""),
    ],
)
def test_the_labels_are_those_of_the_trained_pipeline(tmp_path, topics, settings_, joiner):
    common = COMMON if joiner else "山 田 日 人"
    texts, labels = texts_of(topics, 120, 1, joiner, common)
    names = list(topics)
    train_linear(texts, labels, label_names=names, seed=0, out=tmp_path, **settings_)
    pipeline = make_pipeline(
        TfidfVectorizer(
            analyzer=settings_.get("analyzer", "word"), ngram_range=settings_.get("ngrams", (1, 2)),
            max_features=settings_.get("max_features", 50_000), sublinear_tf=True,
        ),
        LogisticRegression(C=settings_.get("c", 4.0), max_iter=1000),
    ).fit(texts, labels)  # fmt: skip
    test = [*texts_of(topics, 297, 2, joiner, common)[0], "", "zebra", "𝔘nknown ﬁsh"]
    expected = [names[i] for i in pipeline.predict(test)]
    assert len(set(expected)) == len(names)
    suspect = LinearClassifier("linear", tmp_path)
    assert suspect.ask(test) == expected
    assert suspect.ask([]) == []


def test_a_class_without_training_texts_is_never_predicted_and_shifts_no_other(tmp_path):
    texts, labels = texts_of(dict(list(TOPICS.items())[:2]), 80, 1)
    names = ["farm", "absent", "sea"]
    train_linear(texts, [2 * label for label in labels], label_names=names, seed=0, out=tmp_path)
    found = LinearClassifier("linear", tmp_path).ask(["barley goose plough", "tide anchor mast"])
    assert found == ["farm", "sea"]


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    texts, labels = texts_of(TOPICS, 60, 1)
    train_linear(texts, labels, label_names=list(TOPICS), seed=0, out=folder, max_features=20)
    return folder


@settings(max_examples=30)
@given(st.sampled_from(["linear.json", "model.safetensors"]), st.integers(0, 10**6), st.integers(1, 255))
def test_no_flipped_byte_goes_unnoticed(linear, tmp_path_factory, name, place, change):
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(linear, folder, dirs_exist_ok=True)
    data = bytearray((folder / name).read_bytes())
    data[place % len(data)] ^= change
    (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError):
        LinearClassifier("linear", folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "countermark.linear/2"}, "format"),
        ({"labels": ["farm", "sea"]}, "shapes"),
        ({"labels": ["farm"] * 5}, "distinct labels"),
        ({"vocabulary": None}, "vocabulary"),
        ({"vocabulary": ["one", "word", "less"]}, "shapes"),
        ({"vectorizer": {"analyzer": "word"}}, "vectoriser"),
        (
            {"vectorizer": {"analyzer": "x", "ngram_range": [1, 2], "lowercase": True, "sublinear_tf": True}},
            "words or characters",
        ),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(linear, tmp_path, change, said):
    shutil.copytree(linear, tmp_path, dirs_exist_ok=True)
    body = read_checked_json(tmp_path / "linear.json")
    write_checked_json(tmp_path / "linear.json", {**body, **change})
    with pytest.raises(IntegrityError, match=said):
        LinearClassifier("linear", tmp_path)


def test_another_models_weights_and_missing_files_are_refused(linear, tmp_path):
    texts, labels = texts_of(TOPICS, 60, 9)
    train_linear(texts, labels, label_names=list(TOPICS), seed=0, out=tmp_path, max_features=20)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((linear / "model.safetensors").read_bytes())
    with pytest.raises(IntegrityError, match="another model's"):
        LinearClassifier("linear", tmp_path)
    weights.unlink()
    with pytest.raises(IntegrityError, match="no file"):
        LinearClassifier("linear", tmp_path)
    (tmp_path / "linear.json").write_text(json.dumps([]))
    with pytest.raises(IntegrityError):
        LinearClassifier("linear", tmp_path)


@pytest.fixture(scope="module")
def wordwise(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    return folder, make_wordwise_reader(folder)


def best_by_hand(words, logits, longest):
    """The best score of all spans, and the score of a given answer."""
    spans = {
        (a, b): logits[words[a]][0] + logits[words[b]][1]
        for a in range(len(words))
        for b in range(a, min(a + longest, len(words)))
    }
    return max(spans.values()), {" ".join(words[a : b + 1]): score for (a, b), score in spans.items()}


LATIN = [word for word in WORDS if word.isalpha() and word.isascii()]


@settings(max_examples=40)
@given(
    contexts=st.lists(st.lists(st.sampled_from(LATIN), min_size=1, max_size=90), min_size=1, max_size=3),
    question=st.lists(st.sampled_from(LATIN), max_size=30),
    longest=st.integers(1, 7),
)
def test_long_contexts_are_read_whole_and_the_best_span_wins(wordwise, contexts, question, longest):
    folder, logits = wordwise
    reader = LocalReader("r", folder, max_length=32, stride=12, max_answer_tokens=longest, batch_size=3)
    answers = reader.ask([f"{' '.join(question)}\n{' '.join(context)}" for context in contexts])
    for answer, context in zip(answers, contexts, strict=True):
        best, scores = best_by_hand(context, logits, longest)
        assert answer in scores  # a span of the context, short enough
        assert scores[answer] == pytest.approx(best, abs=1e-4)


def test_the_answer_is_found_at_every_place_of_a_long_context(wordwise):
    folder, logits = wordwise
    reader = LocalReader("r", folder, max_length=24, stride=4, max_answer_tokens=4)
    start, end = (max(LATIN, key=lambda word: logits[word][side]) for side in (0, 1))
    filler = min((word for word in LATIN if word not in {start, end}), key=lambda word: sum(logits[word]))
    assert start != end
    for place in range(50):
        context = [filler] * place + [start, filler, filler, end] + [filler] * (50 - place)
        assert reader.ask([f"who ?\n{' '.join(context)}"]) == [f"{start} {filler} {filler} {end}"]


def test_a_batch_answers_as_each_prompt_alone_in_order(wordwise):
    folder, _ = wordwise
    reader = LocalReader("r", folder, max_length=24, stride=4, batch_size=4)
    rng = random.Random(0)
    prompts = [f"who ?\n{' '.join(rng.choices(LATIN, k=rng.randrange(1, 60)))}" for _ in range(12)]
    answers = reader.ask(prompts)
    assert answers == [reader.ask([prompt])[0] for prompt in prompts] == reader.ask(prompts[::-1])[::-1]
    assert len(set(answers)) > 3


def test_the_question_ends_at_the_first_line_feed_and_is_never_the_answer(wordwise):
    folder, logits = wordwise
    reader = LocalReader("r", folder, max_length=32, stride=8, max_answer_tokens=1)
    by_score = sorted(LATIN, key=lambda word: sum(logits[word]))
    best, poor, worst = by_score[-1], by_score[1], by_score[0]
    assert reader.ask([f"{best}\n{poor}"]) == [poor]
    assert reader.ask([f"{poor}\n{worst}\n{best}"]) == [best]  # later line feeds are the context's
    assert reader.ask([f"{best}", f"{best}\n", f"{best}\n \t ", ""]) == ["", "", "", ""]
    assert reader.ask([]) == []


def test_answers_are_slices_of_the_context_in_any_script(wordwise):
    folder, logits = wordwise
    reader = LocalReader("r", folder, max_length=32, max_answer_tokens=1)
    words = ["水", "壶", "梯", "子"]
    assert reader.ask([f"谁有?\n{''.join(words)}"]) == [max(words, key=lambda word: sum(logits[word]))]


@pytest.mark.parametrize("sizes", [{"max_length": 0}, {"max_answer_tokens": 0}, {"batch_size": 0}, {"stride": -1}])
def test_sizes_must_be_positive(wordwise, sizes):
    with pytest.raises(UsageError, match="positive"):
        LocalReader("r", wordwise[0], **sizes)


def test_windows_too_small_or_too_large_are_refused(wordwise):
    with pytest.raises(UsageError, match="at most 64"):
        LocalReader("r", wordwise[0], max_length=65)
    with pytest.raises(UsageError, match="room"):
        LocalReader("r", wordwise[0], max_length=3).ask(["who has\nAda"])
