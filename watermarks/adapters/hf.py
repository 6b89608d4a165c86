"""Hugging Face generation: ``model.generate(**inputs, watermarking_config=…)`` in transformers 5.

``generate`` puts a watermarking processor behind all warpers, which is ``order: after``. The config object holds a key
id and a handle into this process's key table, never key bytes: ``GenerationConfig`` serialises what it is given.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessor
from transformers.generation.configuration_utils import BaseWatermarkingConfig

from countermark.errors import UsageError
from watermarks import prf
from watermarks.schemes import Scheme, make_scheme

if TYPE_CHECKING:
    from collections.abc import Mapping

_handles = itertools.count(1)
_subkeys: dict[int, bytes] = {}


class SchemeProcessor(LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Bends scores ``[B, V]`` by a scheme. Stateless: rows may come, go and be padded as they like."""

    def __init__(self, scheme: Scheme, subkey: bytes, vocab_size: int) -> None:
        self._scheme = scheme
        self._subkey = subkey
        self._vocab_size = vocab_size

    def __repr__(self) -> str:
        return f"SchemeProcessor({self._scheme!r})"

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] < self._scheme.context_width:
            return scores  # no full context yet: unmarked here, and not counted by the detector
        return self._scheme.bend(scores, self.draws(input_ids))  # type: ignore[no-any-return]

    def draws(self, input_ids: torch.Tensor) -> torch.Tensor:
        """``h(token)`` for the next position: ``[B, T]`` ids give ``[B, V]`` draws on their device."""
        contexts = input_ids[:, -self._scheme.context_width :].long()
        if contexts.device.type == "cpu":
            from watermarks.kernels.cpu import expand_vocabulary

            lo, hi = prf.split(prf.siphash_words(self._subkey, contexts.numpy()))
            return torch.from_numpy(expand_vocabulary(lo, hi, self._vocab_size))
        lo, hi = prf.split(prf.siphash_words(self._subkey, contexts))
        tokens = torch.arange(self._vocab_size, device=contexts.device)
        drawn: torch.Tensor = prf.expand(lo[:, None], hi[:, None], tokens[None, :])
        return drawn


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
        """The processor; ``vocab_size`` is the width of the logits, which is what is marked and what is counted."""
        self.validate()
        return SchemeProcessor(make_scheme(self.scheme, self.params), _subkeys[self.handle], vocab_size)


class RowSampler(LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Samples inside the processor list, each row from its own generator: batch and shard size change nothing.

    Put it last, and decode greedily: it leaves one finite score a row. Randomness is Philox keyed by the row's seed.
    """

    def __init__(self, seeds: list[int]) -> None:
        self._generators = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        cumulative = scores.double().softmax(-1).cumsum(-1)
        uniform = torch.tensor([g.random() for g in self._generators], device=scores.device, dtype=torch.float64)
        picked = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
        picked = picked.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, float("-inf")).scatter(1, picked, 0.0)
