"""Text quality as a causal language model sees it: perplexity, and MAUVE between two sets of texts.

MAUVE (Pillutla et al., NeurIPS 2021; Pillutla et al., JMLR 24, 2023) is computed here from the paper, because its
authors' package is under a licence that this project cannot depend on.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from countermark import libraries
from countermark.errors import UsageError
from pipelines.metrics import Measured, Z, bootstrap

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

AT_LEAST = 1000
_WEIGHTS = np.linspace(1e-6, 1 - 1e-6, 25)
_CHUNK = 32


def perplexity(
    texts: Sequence[str],
    folder: Path,
    *,
    batch_size: int = 8,
    max_length: int = 512,
    device: str | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Measured:
    """The exponential of the mean loss a token under the causal model in ``folder``, over all tokens.

    A text's first token is predicted from nothing and not scored, unless the tokenizer puts one of its own before it.
    Texts are cut to ``max_length`` tokens; ``n`` is the number of texts. The interval is a bootstrap over texts (or
    ``groups`` of them), each a pair of summed loss and token count. The model runs on ``device``, by default on
    :func:`countermark.libraries.reading_device`.

    Raises:
        UsageError: fewer than two texts, or no token to score.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    model = _load(AutoModelForCausalLM, folder, device or libraries.reading_device())
    sums = np.zeros((len(texts), 2))
    for rows, ids, mask in _batches(texts, folder, model.device, batch_size=batch_size, max_length=max_length):
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits
            for k, row in enumerate(rows):  # one by one: a whole batch in float32 would be gigabytes
                size = int(mask[k].sum())
                loss = cross_entropy(logits[k, : size - 1].float(), ids[k, 1:size], reduction="sum")
                sums[row] = float(loss), size - 1
    loss, tokens = sums.sum(0)
    if not tokens:
        raise UsageError("got texts of a single token or none, expected some to predict")
    low, high = bootstrap(sums, lambda total: np.exp(total[:, 0] / np.maximum(total[:, 1], 1)), groups, seed)
    return Measured(name="perplexity", value=math.exp(loss / tokens), low=low, high=high, n=len(texts))


def features(
    texts: Sequence[str], folder: Path, *, batch_size: int = 8, max_length: int = 512, device: str | None = None
) -> NDArray[np.float32]:
    """The last hidden state at the last token of each text under the model in ``folder``, one row a text.

    Texts are cut to ``max_length`` tokens: cut both sides alike. ``device`` is as in :func:`perplexity`.

    Raises:
        UsageError: a text without a token.
    """
    import torch
    from transformers import AutoModel

    model = _load(AutoModel, folder, device or libraries.reading_device())
    found: dict[int, NDArray[np.float32]] = {}
    for rows, ids, mask in _batches(texts, folder, model.device, batch_size=batch_size, max_length=max_length):
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        last = states[range(len(rows)), mask.sum(1) - 1].float().numpy(force=True)
        found.update(zip(rows, last, strict=True))
    if len(found) < len(texts) or not found:
        raise UsageError(f"got {len(texts) - len(found)} of {len(texts)} texts without a token, expected words in all")
    return np.stack([found[i] for i in range(len(texts))])


def mauve(
    ours: NDArray[Any],
    human: NDArray[Any],
    *,
    clusters: int | None = None,
    scaling: float = 5.0,
    variance: float = 0.9,
    smoothing: float = 0.0,
    repeats: int = 20,
    at_least: int = AT_LEAST,
    seed: int = 0,
) -> Measured:
    """MAUVE of two sets of features (rows), in (0, 1]; 1 means that no cluster tells them apart.

    Rows are scaled to length one and projected on the principal components that hold ``variance`` of theirs; k-means
    gives both sides a histogram over ``clusters`` (default: a tenth of the smaller side); the figure is the area under
    their divergence curve at 25 mixture weights and scaling factor 5. It is the mean over ``repeats`` k-means seeds.
    ``smoothing`` adds a pseudo-count to every cluster: 0.5 is Krichevsky and Trofimov's, which the 2023 paper advises.

    The figure falls as sets get smaller, even between two samples of one source: compare sets of equal size. The
    interval is a normal one; its variance is the delete-one jackknife's over texts given the clusters (the mean over
    seeds), plus that of the mean over seeds. A bootstrap would repeat texts, empty clusters, and lie below the figure.
    Near 1 the interval is too wide: the figure is bounded there, and the normal law is not.

    Raises:
        UsageError: fewer than ``at_least`` rows on a side, for which the figure says little; or features that do not
            fit each other.
    """
    if ours.ndim != 2 or human.ndim != 2 or ours.shape[1] != human.shape[1]:  # noqa: PLR2004 - rows of features
        raise UsageError(f"got features of shapes {ours.shape} and {human.shape}, expected rows of one width")
    smaller = min(len(ours), len(human))
    if smaller < max(at_least, 2):
        raise UsageError(
            f"got {len(ours)} and {len(human)} texts, expected at least {at_least} a side for MAUVE",
            hint="use more texts; a lower 'at_least' gives a figure that cannot be compared with others",
        )
    clusters = clusters or max(2, round(smaller / 10))
    points = _project(np.concatenate([ours, human]), variance)
    areas, spreads = [], []
    for repeat in range(repeats):
        labels = _quantise(points, clusters, seed + repeat)
        p = np.bincount(labels[: len(ours)], minlength=clusters)
        q = np.bincount(labels[len(ours) :], minlength=clusters)
        areas.append(float(_area(p, q, scaling, smoothing)[0]))
        spreads.append(_jackknife(p, q, scaling, smoothing))
    between = float(np.var(areas, ddof=1)) / repeats if repeats > 1 else 0.0
    value, half = float(np.mean(areas)), Z * math.sqrt(float(np.mean(spreads)) + between)
    return Measured(name="mauve", value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=smaller)


def _project(points: NDArray[Any], variance: float) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    scaled = normalize(points.astype(np.float64))
    return np.asarray(PCA(n_components=variance, svd_solver="full").fit_transform(scaled))


def _quantise(points: NDArray[np.float64], clusters: int, seed: int) -> NDArray[np.int32]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different texts than clusters: some stay empty
        labels: NDArray[np.int32] = KMeans(clusters, n_init=1, max_iter=500, random_state=seed).fit_predict(points)
    return labels


def _area(ours: NDArray[Any], human: NDArray[Any], scaling: float, smoothing: float) -> NDArray[np.float64]:
    """The area under the divergence curve of histograms (counts; many rows at a time, broadcast)."""
    from scipy.special import rel_entr

    p, q = (np.atleast_2d(counts) + smoothing for counts in (ours, human))
    p, q = (p / p.sum(1, keepdims=True))[:, None], (q / q.sum(1, keepdims=True))[:, None]
    mixture = _WEIGHTS[:, None] * p + (1 - _WEIGHTS[:, None]) * q
    # from the first weight, a mixture that is almost q, to the last: x falls from 1, y climbs to 1
    x, y = (np.exp(-scaling * rel_entr(side, mixture).sum(-1)) for side in (q, p))
    ends = np.ones((len(x), 1)), np.zeros((len(x), 1))
    x, y = np.concatenate([ends[0], x, ends[1]], axis=1), np.concatenate([ends[1], y, ends[0]], axis=1)
    return np.asarray(-np.trapezoid(y, x, axis=1))


def _jackknife(ours: NDArray[Any], human: NDArray[Any], scaling: float, smoothing: float) -> float:
    """The delete-one jackknife's variance over the texts of both sides; texts of one cluster are interchangeable."""
    total = 0.0
    for counts, other, mine_first in ((ours, human, True), (human, ours, False)):
        held = np.flatnonzero(counts)
        weights, n = counts[held], int(counts.sum())
        areas = []
        for at in range(0, len(held), _CHUNK):
            less = counts - np.eye(len(counts), dtype=int)[held[at : at + _CHUNK]]
            first, second = (less, other) if mine_first else (other, less)
            areas.append(_area(first, second, scaling, smoothing))
        left_out = np.concatenate(areas)
        centre = float(left_out @ weights) / n
        total += (n - 1) / n * float(weights @ (left_out - centre) ** 2)
    return total


def _load(kind: Any, folder: Path, device: str) -> Any:  # noqa: ANN401
    """The model, ready to read."""
    libraries.quiet()
    where = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    return kind.from_pretrained(folder, dtype=libraries.reading_dtype(device), **where).eval().to(device)


def _batches(
    texts: Sequence[str], folder: Path, device: torch.device, *, batch_size: int, max_length: int
) -> Iterator[tuple[list[int], Any, Any]]:
    """Batches of similar length, longest first: row indices, token ids, mask; padded on the right. No empty texts."""
    import torch
    from transformers import AutoTokenizer

    if not texts:
        raise UsageError("got 0 texts, expected some")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = sorted((i for i, ids in enumerate(encoded) if ids), key=lambda i: (-len(encoded[i]), i))
    for at in range(0, len(order), batch_size):
        rows = order[at : at + batch_size]
        ids = torch.zeros(len(rows), len(encoded[rows[0]]), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            ids[k, : len(encoded[row])] = torch.tensor(encoded[row])
            mask[k, : len(encoded[row])] = 1
        yield rows, ids.to(device), mask.to(device)
