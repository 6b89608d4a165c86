"""An extractive reader is trained to the answer's tokens, learns them, and is published as safetensors alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from countermark.errors import UsageError
from tests.training.toy import contents
from tests.training.toy_qa import NAMES, THINGS, make_encoder
from training.hooks import PUBLISHED_SUFFIXES
from training.qa import QaRow, cut_question, encode_row, train_qa
from verification.readers import LocalReader

ARGUMENTS = {"learning_rate": 5e-3, "max_steps": 160, "per_device_train_batch_size": 16}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def tokenizer(encoder):
    return AutoTokenizer.from_pretrained(encoder)


def rows_of(count, seed):
    """``who ?`` asks for the one name in the context, ``what ?`` for the one thing."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        words = [*rng.choices([".", "has", "holds"], k=rng.randrange(5)), name, "has", "the", thing]
        question, answer = rng.choice([("who ?", name), ("what ?", thing)])
        context = " ".join(words if rng.random() < 0.5 else words[::-1])
        rows.append(QaRow(question=question, context=context, answer=answer, start=context.index(answer)))
    return rows


def test_it_learns_to_find_answers_and_publishes_no_pickle(encoder, tmp_path):
    steps = []
    train_qa(
        encoder, rows_of(512, 1), max_length=32, seed=1, arguments=ARGUMENTS, out=tmp_path / "out",
        scratch=tmp_path / "scratch", on_start=steps.append, on_step=steps.append,
    )  # fmt: skip
    assert steps == [160] + [1] * 160
    assert all(path.suffix in PUBLISHED_SUFFIXES for path in (tmp_path / "out").rglob("*"))
    reader, test = LocalReader("toy", tmp_path / "out", max_length=32, stride=8), rows_of(60, 2)
    answers = reader.ask([f"{row.question}\n{row.context}" for row in test])
    # one that did not read the question would be right on half
    assert sum(answer == row.answer for answer, row in zip(answers, test, strict=True)) >= 55


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_seed_gives_the_same_bytes(encoder, tmp_path, bf16):
    for name, mixed in (("a", bf16), ("b", bf16), ("other", not bf16)):
        train_qa(
            encoder, rows_of(16, 1), max_length=48, seed=4,
            arguments={**ARGUMENTS, "max_steps": 2, "bf16": mixed},
            out=tmp_path / name, scratch=tmp_path / "scratch",
        )  # fmt: skip
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "other")


@given(
    before=st.text(" .?水壶有Ada", max_size=12),
    answer=st.text("Bo梯子 谁", min_size=1, max_size=8).filter(lambda t: t.strip() == t and t),
    after=st.text(" .谁", max_size=6),
)
def test_the_positions_are_those_of_the_answers_tokens(tokenizer, before, answer, after):
    context = f"{before} {answer} {after}"
    row = QaRow(question="who ?", context=context, answer=answer, start=len(before) + 1)
    encoded = encode_row(tokenizer, row, max_length=64)
    first, last = encoded["start_positions"], encoded["end_positions"]
    offsets = tokenizer("who ?", context, return_offsets_mapping=True)["offset_mapping"]
    assert (offsets[first][0], offsets[last][1]) == (row.start, row.start + len(answer))


def test_an_answer_between_words_without_spaces_has_its_own_tokens(tokenizer):
    row = QaRow(question="谁 ?", context="Ada有水壶梯子.", answer="水壶", start=4)
    encoded = encode_row(tokenizer, row, max_length=64)
    tokens = encoded["input_ids"][encoded["start_positions"] : encoded["end_positions"] + 1]
    assert tokenizer.convert_ids_to_tokens(tokens) == ["水", "壶"]


def test_an_answer_that_is_truncated_away_is_trained_to_the_first_token(tokenizer):
    context = "Ada has the lamp . " * 6 + "Bo has the bell ."
    row = QaRow(question="what holds Bo ?", context=context, answer="the bell", start=context.index("the bell"))
    whole = encode_row(tokenizer, row, max_length=64)
    assert whole["end_positions"] == whole["start_positions"] + 1 > 1
    # question 4, special tokens 3, so the context keeps length - 7 of its 35 tokens; the answer is 33 and 34 of them
    for length, kept in ((41, True), (40, False), (39, False), (20, False)):
        encoded = encode_row(tokenizer, row, max_length=length)
        assert len(encoded["input_ids"]) == length
        assert (encoded["start_positions"] > 0) == (encoded["end_positions"] > 0) == kept


def test_a_long_question_leaves_half_to_the_context(tokenizer):
    question = "who has the lamp ? " * 9
    row = QaRow(question=question, context="Ada has the lamp .", answer="Ada", start=0)
    encoded = encode_row(tokenizer, row, max_length=32)
    assert len(tokenizer(cut_question(tokenizer, question, max_length=32), add_special_tokens=False)["input_ids"]) == 16
    assert encoded["start_positions"] == encoded["end_positions"] == 18
    assert cut_question(tokenizer, "who ?", max_length=32) == "who ?"


@pytest.mark.parametrize(
    ("answer", "start", "said"),
    [("lamp", 13, "got 'amp '"), ("lamp", -7, "expected the answer"), (" ", 3, "blank"), ("Ada", 99, "got ''")],
)
def test_an_answer_that_is_not_where_it_should_be_is_refused(answer, start, said):
    with pytest.raises(UsageError, match=said):
        QaRow(question="who ?", context="Ada has the lamp .", answer=answer, start=start)


@pytest.mark.parametrize(("rows", "length", "said"), [(0, 48, "0 rows"), (4, 65, "16 to 64"), (4, 8, "16 to 64")])
def test_what_cannot_be_trained_is_refused(encoder, tmp_path, rows, length, said):
    with pytest.raises(UsageError, match=said):
        train_qa(
            encoder, rows_of(rows, 0), max_length=length, seed=0, arguments=ARGUMENTS, out=tmp_path / "out",
            scratch=tmp_path / "scratch",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
