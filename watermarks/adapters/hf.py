"""Hugging Face generation: ``model.generate(**inputs, watermarking_config=…)`` in transformers 5.

``generate`` puts a watermarking processor behind all warpers, which is ``order: after``. The config object holds a key
id and a handle into this process's key table, never key bytes: ``GenerationConfig`` serialises what it is given.
"""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessor
from transformers.generation.configuration_utils import BaseWatermarkingConfig, GenerationConfig, GenerationMode

from countermark.errors import UsageError
from watermarks.kernels.generate import mark
from watermarks.schemes import Scheme, make_scheme

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_handles = itertools.count(1)
_subkeys: dict[int, bytes] = {}

BIAS_MODES = {
    GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE,
}  # fmt: skip
SAMPLING_MODES = {GenerationMode.SAMPLE}


def mark_step(
    scheme: Scheme, subkey: bytes, input_ids: torch.Tensor, scores: torch.Tensor, *, start: int
) -> torch.Tensor:
    """Marked scores ``[B, V]`` for the token after ``input_ids [B, T]``, whose generated part begins at ``start``.

    A pure function of its arguments, row by row: rows may come, go, and be padded on the left as they like. Whatever
    width the scores have is the vocabulary. Where there is no full context yet, nothing is marked. A scheme that
    samples marks a position only if its context is generated text that has not stood there before: these are the
    inputs that a detector counts, and everything else keeps its ordinary randomness.
    """
    width = scheme.inputs.width
    if input_ids.shape[1] < width:
        return scores
    contexts = input_ids[:, input_ids.shape[1] - width :]
    if not scheme.samples:
        return mark(scheme, subkey, contexts, scores)
    fresh = fresh_contexts(input_ids, width, start)
    if not bool(fresh.any()):
        return scores
    if bool(fresh.all()):
        return mark(scheme, subkey, contexts, scores)
    marked = scores.clone()
    marked[fresh] = mark(scheme, subkey, contexts[fresh], scores[fresh])
    return marked


def fresh_contexts(input_ids: torch.Tensor, width: int, start: int) -> torch.Tensor:
    """Whether the last ``width`` tokens of each row lie in its generated part, and nowhere before in it; ``[B]``."""
    generated = input_ids[:, start:]
    if generated.shape[1] < width:
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    windows = generated.unfold(1, width, 1)
    return (windows == windows[:, -1:]).all(-1).sum(-1) == 1


class SchemeProcessor(LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Marks scores ``[B, V]`` by a scheme, inside someone else's loop.

    All it remembers is where the generated part begins: the length of the ids in the first call. Ids that did not grow
    by one token are another generation, and begin anew. Pass ``start`` to fix it.
    """

    def __init__(self, scheme: Scheme, subkey: bytes, *, start: int | None = None) -> None:
        self._scheme = scheme
        self._subkey = subkey
        self._fixed = start
        self._start = self._length = -1

    def __repr__(self) -> str:
        return f"SchemeProcessor({self._scheme!r})"

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        if length != self._length + 1:
            self._start = length
        self._length = length
        start = self._start if self._fixed is None else self._fixed
        return mark_step(self._scheme, self._subkey, input_ids, scores, start=start)


class CountermarkConfig(BaseWatermarkingConfig):  # type: ignore[misc, unused-ignore]
    """What ``generate(watermarking_config=…)`` takes.

    Build it with :meth:`from_key`. It serialises to scheme, parameters and key id; a copy loaded elsewhere has no
    handle there and refuses to generate.
    """

    def __init__(self, *, scheme: str, params: Mapping[str, Any], key_id: str, handle: int = 0) -> None:
        self.scheme = scheme
        self.params = dict(params)
        self.key_id = key_id
        self.handle = handle

    @classmethod
    def from_key(cls, scheme: Scheme, subkey: bytes, *, key_id: str) -> CountermarkConfig:
        """A config for this process; ``subkey`` stays in the process's table."""
        handle = next(_handles)
        _subkeys[handle] = subkey
        return cls(scheme=scheme.name, params=scheme.params(), key_id=key_id, handle=handle)

    def to_dict(self) -> dict[str, Any]:
        return {"scheme": self.scheme, "params": dict(self.params), "key_id": self.key_id, "handle": self.handle}

    def validate(self) -> None:
        """Raises :class:`UsageError` for an unknown scheme, bad parameters, or a config that was loaded from a file."""
        make_scheme(self.scheme, self.params)
        if self.handle not in _subkeys:
            raise UsageError(
                f"got a watermarking config of key {self.key_id} without its key, expected one made in this process",
                hint="build it with CountermarkConfig.from_key",
            )

    def construct_processor(self, vocab_size: int, device: Any = None) -> SchemeProcessor:  # noqa: ANN401, ARG002
        """The processor. The width of the logits it is given is what is marked, whatever the tokenizer's size.

        Raises:
            UsageError: the config is not of this process, or the scheme cannot be had in this kind of generation.
        """
        self.validate()
        scheme = make_scheme(self.scheme, self.params)
        if scheme.order == "before":
            raise UsageError(
                f"got scheme {scheme.name!r} with order 'before' as watermarking_config, which generate applies after",
                hint="pass logits_processor=[SchemeProcessor(scheme, subkey)]: those run before all warpers",
            )
        _check_mode(scheme, _calling_config(self))
        return SchemeProcessor(scheme, _subkeys[self.handle])


def _calling_config(mine: CountermarkConfig) -> GenerationConfig | None:
    """The generation config that is about to use this watermarking config.

    ``construct_processor`` is not told how tokens will be chosen, and a sampling scheme under greedy or beam search
    would silently not be itself. So the caller's frame is asked; a loop other than ``generate`` has none, and answers
    for itself.
    """
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("generation_config")
        if isinstance(found, GenerationConfig) and found.watermarking_config is mine:
            return found
        frame = frame.f_back
    return None


def _check_mode(scheme: Scheme, config: GenerationConfig | None) -> None:
    if config is None:
        return
    mode = config.get_generation_mode()
    if mode not in (SAMPLING_MODES if scheme.samples else BIAS_MODES):
        kind = "needs sampled tokens" if scheme.samples else "marks greedy, sampled and beam search"
        raise UsageError(
            f"got generation mode {mode.value} for scheme {scheme.name!r}, which {kind}",
            hint="set do_sample=True and num_beams=1"
            if scheme.samples
            else "leave assisted and contrastive search off",
        )


def sample_rows(scores: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    """One token a row ``[B]`` by inverse transform of the row's own uniform in [0, 1)."""
    cumulative = scores.double().softmax(-1).cumsum(-1)
    uniform = torch.tensor(uniforms, device=scores.device, dtype=torch.float64)
    picked = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    return picked.clamp(max=scores.shape[1] - 1)[:, 0]


def row_generator(seed: int) -> np.random.Generator:
    """The randomness of one row: Philox, keyed by the row's seed."""
    return np.random.Generator(np.random.Philox(key=seed))
