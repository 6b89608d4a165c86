"""Trains a classical classifier, TF-IDF and logistic regression, and writes it as safetensors and JSON.

A pickle would run code of its maker on whoever opens it. What the model consists of is two vectors, a matrix, a word
list and a few settings, and these are written as such; ``verification.readers.LinearClassifier`` reads them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from countermark.errors import UsageError
from countermark.files import atomic_write, make_dir, sha256_bytes
from countermark.manifest import write_checked_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT = "countermark.linear/1"
WEIGHTS, SETTINGS = "model.safetensors", "linear.json"
_MAX_ITERATIONS = 5_000


def train_linear(
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    label_names: Sequence[str],
    seed: int,
    out: Path,
    ngrams: tuple[int, int] = (1, 2),
    max_features: int = 50_000,
    analyzer: Literal["word", "char"] = "word",
    c: float = 4.0,
) -> None:
    """Trains and writes ``out/model.safetensors`` and, last, ``out/linear.json``, which binds it by its SHA-256.

    The same texts, settings, libraries and machine give the same bytes. ``seed`` is handed to the solver (L-BFGS, which
    draws nothing) and written down. ``labels`` index ``label_names``; a class without a text is never predicted.

    Of the n-grams of ``ngrams[0]`` to ``ngrams[1]`` words the ``max_features`` most frequent are kept. ``analyzer``
    "char" counts characters instead, for scripts without spaces between words; take (1, 3) or so there. ``c`` is the
    inverse strength of the L2 penalty.

    Raises:
        UsageError: labels do not fit the texts or their names, fewer than two classes, or no n-gram in any text.
    """
    _check(texts, labels, label_names)
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    # sublinear: a word said ten times in a text is no ten times the evidence
    settings = {"analyzer": analyzer, "ngram_range": list(ngrams), "lowercase": True, "sublinear_tf": True}
    vectorizer = TfidfVectorizer(**{**settings, "ngram_range": tuple(ngrams)}, max_features=max_features)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError as error:  # nothing to count, or n-grams that cannot be
        raise UsageError(
            f"got {len(texts)} texts without features ({error}), expected words", hint="try analyzer='char'"
        ) from error
    model = LogisticRegression(C=c, max_iter=_MAX_ITERATIONS, random_state=seed)
    model.fit(features, list(labels))
    body = {
        "format": FORMAT,
        "labels": [label_names[i] for i in model.classes_],
        "vectorizer": settings,
        "vocabulary": sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__),
        "training": {"c": c, "max_features": max_features, "rows": len(texts), "seed": seed},
        "versions": _versions(),
    }
    _write(out, {"idf": vectorizer.idf_, "coef": model.coef_, "intercept": model.intercept_}, body)


def _check(texts: Sequence[str], labels: Sequence[int], label_names: Sequence[str]) -> None:
    if len(texts) != len(labels):
        raise UsageError(f"got {len(texts)} texts and {len(labels)} labels, expected one label a text")
    if len(set(label_names)) != len(label_names):
        raise UsageError(f"got label names {list(label_names)}, expected distinct ones")
    broken = next((i for i, text in enumerate(texts) if any("\ud800" <= c <= "\udfff" for c in text)), None)
    if broken is not None:
        raise UsageError(f"got text {broken} with half of a surrogate pair, expected Unicode text")
    outside = sorted({label for label in labels if not 0 <= label < len(label_names)})
    if outside:
        raise UsageError(f"got labels {outside}, expected 0 to {len(label_names) - 1}")
    if len(set(labels)) < 2:  # noqa: PLR2004 - a classifier needs two classes
        raise UsageError(f"got texts of {len(set(labels))} classes, expected at least two")


def _write(out: Path, arrays: dict[str, Any], body: dict[str, Any]) -> None:
    import numpy as np
    from safetensors.numpy import save

    # float64: a third party's labels are then those of the trained model, ties and all
    weights = save({name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()})
    make_dir(out)
    atomic_write(out / WEIGHTS, weights)
    write_checked_json(out / SETTINGS, {**body, "weights_sha256": sha256_bytes(weights)})


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "safetensors", "scikit-learn", "scipy")}
