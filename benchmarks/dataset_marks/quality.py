"""Is a marked text still the text? Meaning by an encoder's cosine, fluency by a language model's perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.assets import resolve_model

if TYPE_CHECKING:
    from collections.abc import Sequence

ENCODER = "embedded:minilm-l6"


def embeddings(texts: Sequence[str]) -> Any:  # noqa: ANN401 - an array, a unit row a text
    """MiniLM's sentence embeddings: the mean of its last hidden states, normalised."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    path = resolve_model(ENCODER).path
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    found = []
    for start in range(0, len(texts), 64):
        encoded = tokenizer(
            list(texts[start : start + 64]), return_tensors="pt", padding=True, truncation=True, max_length=128
        )
        with torch.inference_mode():
            hidden = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(found)


def cosines(first: Sequence[str], second: Sequence[str]) -> Any:  # noqa: ANN401 - an array
    """Cosine of every pair."""
    return (embeddings(first) * embeddings(second)).sum(1)
