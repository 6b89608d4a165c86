"""Two more suspects: a classical classifier, and a reader that answers a question with a span of its context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.errors import IntegrityError, UsageError
from countermark.files import sha256_file
from countermark.manifest import read_checked_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

LINEAR_FORMAT = "countermark.linear/1"
SEPARATOR = "\n"
"""What stands between question and context in a prompt: the first one counts, so a question is a single line."""
_VECTORIZER = {"analyzer", "ngram_range", "lowercase", "sublinear_tf"}
_HINT = "restore the folder from a copy, or train it again; do not use it as evidence"


class LinearClassifier:
    """TF-IDF and logistic regression as ``training.linear`` wrote them; its answer is the label's name.

    It is scikit-learn's own vectoriser and model, given their parameters back: no pickle is opened, and the labels are
    those of the pipeline that was trained.

    Raises:
        IntegrityError: a file is missing or damaged, or the two do not belong together.
    """

    def __init__(self, name: str, folder: Path) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self.name = name
        body = _settings(folder)
        arrays = _weights(folder, body)
        settings = {**body["vectorizer"], "ngram_range": tuple(body["vectorizer"]["ngram_range"])}
        self.labels: list[str] = body["labels"]
        self._vectorizer = TfidfVectorizer(**settings, vocabulary=body["vocabulary"])
        self._vectorizer.idf_ = arrays["idf"]
        self._model = LogisticRegression()
        self._model.coef_, self._model.intercept_ = arrays["coef"], arrays["intercept"]
        self._model.classes_ = list(range(len(self.labels)))

    def ask(self, prompts: Sequence[str]) -> list[str]:
        if not prompts:
            return []
        scores = self._model.decision_function(self._vectorizer.transform(prompts))
        found = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        return [self.labels[i] for i in found]


class LocalReader:
    """An extractive reader (``AutoModelForQuestionAnswering``) in a local folder; its answer is a span of the context.

    A prompt is ``question``, a line feed, ``context`` (see :data:`SEPARATOR`). The answer is the text of the span with
    the largest sum of start and end logits, of context tokens alone and at most ``max_answer_tokens`` long, outer white
    space removed; ties go to the first. A prompt without a context is answered by "". It never abstains otherwise.

    Long contexts are read in windows of ``max_length`` tokens that share ``stride`` tokens, or half of what the
    question leaves if that is less: no answer is cut by a window's edge as long as that is ``max_answer_tokens``. A
    question longer than half a window is cut to half a window, as in ``training.qa``.

    Args:
        batch_size: windows a forward pass; answers depend on it by rounding alone.

    Raises:
        UsageError: the tokenizer has no character offsets, a size is not positive, or a window is too long.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        max_length: int = 384,
        stride: int = 128,
        max_answer_tokens: int = 30,
        batch_size: int = 32,
    ) -> None:
        from transformers import AutoModelForQuestionAnswering, AutoTokenizer

        libraries.quiet()
        sizes = {"max_length": max_length, "max_answer_tokens": max_answer_tokens, "batch_size": batch_size}
        if min(sizes.values()) < 1 or stride < 0:
            raise UsageError(f"got {sizes} and stride {stride}, expected positive sizes and no negative stride")
        self.name = name
        self._max_length, self._stride = max_length, stride
        self._max_answer_tokens, self._batch_size = max_answer_tokens, batch_size
        where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **where)
        if not self._tokenizer.is_fast:
            raise UsageError(f"got a tokenizer in {folder} without character offsets, expected a fast one")
        self._model = AutoModelForQuestionAnswering.from_pretrained(
            folder, use_safetensors=True, attn_implementation="eager", **where
        ).eval()
        self._model.to(libraries.reading_device())
        limit = getattr(self._model.config, "max_position_embeddings", max_length)
        if max_length > limit:
            raise UsageError(f"got max_length {max_length}, expected at most {limit}, the model's positions")

    def ask(self, prompts: Sequence[str]) -> list[str]:
        answers, best = [""] * len(prompts), [float("-inf")] * len(prompts)
        contexts = [prompt.partition(SEPARATOR)[2] for prompt in prompts]
        windows = [(i, window) for i, prompt in enumerate(prompts) for window in self._windows(prompt)]
        for at in range(0, len(windows), self._batch_size):
            batch = windows[at : at + self._batch_size]
            scored = self._logits([window for _, window in batch])
            for (i, window), (starts, ends) in zip(batch, scored, strict=True):
                score, first, last = self._best_span(window, starts, ends)
                if score > best[i]:
                    best[i] = score
                    offsets = window["offset_mapping"]
                    answers[i] = contexts[i][offsets[first][0] : offsets[last][1]].strip()
        return answers

    def _windows(self, prompt: str) -> Iterator[dict[str, Any]]:
        """The encoded windows of one prompt that hold context; the tokens of each are marked in ``parts``."""
        question, _, context = prompt.partition(SEPARATOR)
        if not context.strip():
            return
        asked = self._tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        half = self._max_length // 2
        if len(asked) > half:
            question, asked = question[: asked[half - 1][1]], asked[:half]
        room = self._max_length - len(asked) - self._tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise UsageError(f"got max_length {self._max_length}, expected room for a question and a context")
        encoded = self._tokenizer(
            question, context, truncation="only_second", max_length=self._max_length,
            stride=min(self._stride, room // 2), return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        for k in range(len(encoded["input_ids"])):
            fields = {name: values[k] for name, values in encoded.items() if name != "overflow_to_sample_mapping"}
            window = {**fields, "parts": encoded.sequence_ids(k)}
            if 1 in window["parts"]:
                yield window

    def _logits(self, windows: Sequence[dict[str, Any]]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Start and end logits of every window, without its padding."""
        import torch

        fields = [{k: v for k, v in window.items() if k not in {"parts", "offset_mapping"}} for window in windows]
        encoded = self._tokenizer.pad(fields, padding_side="right", return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            output = self._model(**encoded)
        for k, window in enumerate(windows):
            size = len(window["parts"])
            yield output.start_logits[k, :size].numpy(force=True), output.end_logits[k, :size].numpy(force=True)

    def _best_span(
        self, window: dict[str, Any], starts: NDArray[np.floating], ends: NDArray[np.floating]
    ) -> tuple[float, int, int]:
        """The best score and its first and last token, among context tokens."""
        import numpy as np

        places = np.array([at for at, part in enumerate(window["parts"]) if part == 1])
        scores = starts[places][:, None] + ends[places][None, :]
        length = np.arange(len(places))[None, :] - np.arange(len(places))[:, None]  # last minus first token
        scores = np.where((length >= 0) & (length < self._max_answer_tokens), scores, -np.inf)
        first, last = np.unravel_index(scores.argmax(), scores.shape)
        return float(scores[first, last]), int(places[first]), int(places[last])


def _settings(folder: Path) -> dict[str, Any]:
    """The body of ``linear.json``, its shape checked."""
    path = folder / "linear.json"
    body = read_checked_json(path)
    if not isinstance(body, dict) or body.get("format") != LINEAR_FORMAT:
        got = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise IntegrityError(f"got format {got!r} in {path}, expected {LINEAR_FORMAT!r}", hint=_HINT)
    settings, labels, vocabulary = (body.get(field) for field in ("vectorizer", "labels", "vocabulary"))
    if not isinstance(settings, dict) or set(settings) != _VECTORIZER:
        raise IntegrityError(f"got other vectoriser settings in {path}, expected {sorted(_VECTORIZER)}", hint=_HINT)
    ngrams = settings["ngram_range"]
    if settings["analyzer"] not in {"word", "char"} or not isinstance(ngrams, list) or len(ngrams) != 2:  # noqa: PLR2004
        raise IntegrityError(f"got vectoriser settings {settings} in {path}, expected words or characters", hint=_HINT)
    for name, values in (("labels", labels), ("vocabulary", vocabulary)):
        if not isinstance(values, list) or not values or len(set(map(str, values))) != len(values):
            raise IntegrityError(f"got no list of distinct {name} in {path}, expected one", hint=_HINT)
    return body


def _weights(folder: Path, body: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The arrays, their bytes checked before they are opened and their shapes after."""
    from safetensors.numpy import load_file

    path = folder / "model.safetensors"
    found = sha256_file(path) if path.is_file() else "no file"
    if found != body.get("weights_sha256"):
        raise IntegrityError(
            f"{path} is damaged or another model's: got SHA-256 {found[:16]}, "
            f"expected {str(body.get('weights_sha256'))[:16]}",
            hint=_HINT,
        )
    arrays: dict[str, NDArray[np.float64]] = load_file(path)
    rows, features = len(body["labels"]), len(body["vocabulary"])
    rows = 1 if rows == 2 else rows  # noqa: PLR2004 - of two classes, one row says which
    expected = {"idf": (features,), "coef": (rows, features), "intercept": (rows,)}
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != expected:
        raise IntegrityError(f"got shapes {shapes} in {path}, expected {expected}", hint=_HINT)
    return arrays
