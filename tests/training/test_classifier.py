"""An encoder with a classification head learns, in mixed precision too, and the same seed gives the same bytes."""

from __future__ import annotations

import random

import pytest

from tests.training.toy import contents
from tests.training.toy_qa import NAMES, THINGS, make_encoder
from training.classifier import train_classifier
from training.hooks import PUBLISHED_SUFFIXES
from verification.suspects import LocalClassifier

ARGUMENTS = {"learning_rate": 5e-3, "max_steps": 60, "per_device_train_batch_size": 16}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder"))


def texts_of(count, seed):
    """A text's class is the kind of its first word."""
    rng = random.Random(seed)
    codes = [rng.randrange(2) for _ in range(count)]
    return [f"{rng.choice((NAMES, THINGS)[code])} has {rng.choice(NAMES + THINGS)} ." for code in codes], codes


def trained(encoder, folder, scratch, count, **arguments):
    texts, codes = texts_of(count, 1)
    folder.mkdir()
    train_classifier(
        encoder, texts, codes, label_names=["name", "thing"], max_length=16, seed=4,
        arguments={**ARGUMENTS, **arguments}, out=folder, scratch=scratch,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("bf16", [False, True])
def test_it_learns_and_publishes_no_pickle(encoder, tmp_path, bf16):
    out = trained(encoder, tmp_path / "out", tmp_path / "scratch", 256, bf16=bf16)
    assert all(path.suffix in PUBLISHED_SUFFIXES for path in out.rglob("*"))
    texts, codes = texts_of(60, 2)
    answers = LocalClassifier("toy", out, max_length=16).ask(texts)
    assert sum(a == ("name", "thing")[c] for a, c in zip(answers, codes, strict=True)) >= 57


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_seed_gives_the_same_bytes(encoder, tmp_path, bf16):
    first, again, other = (
        contents(trained(encoder, tmp_path / name, tmp_path / "scratch", 32, max_steps=2, bf16=mixed))
        for name, mixed in (("a", bf16), ("b", bf16), ("other", not bf16))
    )
    assert first == again != other
