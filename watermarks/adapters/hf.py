"""Hugging Face generation: ``model.generate(**inputs, watermarking_config=…)`` in transformers 5.

``generate`` puts a watermarking processor behind all warpers, which is ``order: after``. The config object holds a key
id and a handle into this process's key table, never key bytes: ``GenerationConfig`` serialises what it is given.
"""

from __future__ import annotations

import inspect
import secrets
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

_subkeys: dict[int, tuple[str, Scheme, bytes]] = {}
"""Key id, scheme and sub-key by handle. Handles are random, so that one of another process means nothing here."""

BIAS_MODES = {
    GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE,
}  # fmt: skip
SAMPLING_MODES = {GenerationMode.SAMPLE}


def mark_step(
    scheme: Scheme,
    subkey: bytes,
    input_ids: torch.Tensor,
    scores: torch.Tensor,
    *,
    start: int,
    attention: torch.Tensor | None = None,
) -> torch.Tensor:
    """Marked scores ``[B, V]`` for the token after ``input_ids [B, T]``, whose generated part begins at ``start``.

    A pure function of its arguments, row by row: rows may come, go, and be padded on the left as they like. Whatever
    width the scores have is the vocabulary. Where there is no full context yet, nothing is marked; padding is no
    context, if ``attention [B, T]`` says where it is (``generate`` does not tell its processors). A scheme that
    samples marks a position only if its context is generated text that has not stood there before: these are the
    inputs that a detector counts, and everything else keeps its ordinary randomness.
    """
    width = scheme.inputs.width
    if input_ids.shape[1] < width:
        return scores
    contexts = input_ids[:, input_ids.shape[1] - width :]
    if scheme.samples:
        wanted = fresh_contexts(input_ids, width, start)
    elif attention is not None and width:
        wanted = attention[:, -width:].all(-1)
    else:
        return mark(scheme, subkey, contexts, scores)
    if not bool(wanted.any()):
        return scores
    if bool(wanted.all()):
        return mark(scheme, subkey, contexts, scores)
    marked = scores.clone()
    marked[wanted] = mark(scheme, subkey, contexts[wanted], scores[wanted])
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

    All it remembers are the ids of its last call. Ids that are not those plus one token each are another generation,
    whose generated part begins there. Pass ``start`` to fix where it begins.

    Inside ``generate`` a custom processor runs before the warpers: there it serves ``order: before`` alone, and all
    else goes through :class:`CountermarkConfig`, whose processor is ``last``.
    """

    def __init__(self, scheme: Scheme, subkey: bytes, *, start: int | None = None, last: bool = False) -> None:
        self._scheme = scheme
        self._subkey = subkey
        self._fixed = start
        self._last = last
        self._start = -1
        self._ids: torch.Tensor | None = None

    def __repr__(self) -> str:
        return f"SchemeProcessor({self._scheme!r})"

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self._continues(input_ids):
            self._start = input_ids.shape[1]
            if not self._last:
                _check_place(self._scheme)
        self._ids = input_ids
        start = self._start if self._fixed is None else self._fixed
        return mark_step(self._scheme, self._subkey, input_ids, scores, start=start)

    def _continues(self, input_ids: torch.Tensor) -> bool:
        """Whether these are the ids of the last call and one more token; beams may have changed places meanwhile."""
        if self._ids is None or input_ids.shape != (self._ids.shape[0], self._ids.shape[1] + 1):
            return False
        return not self._scheme.samples or torch.equal(input_ids[:, :-1], self._ids)


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
        handle = secrets.randbits(52)
        _subkeys[handle] = (key_id, scheme, subkey)
        return cls(scheme=scheme.name, params=scheme.params(), key_id=key_id, handle=handle)

    def to_dict(self) -> dict[str, Any]:
        return {"scheme": self.scheme, "params": dict(self.params), "key_id": self.key_id, "handle": self.handle}

    def validate(self) -> None:
        """Raises :class:`UsageError` for an unknown scheme, bad parameters, or a config that was loaded from a file."""
        scheme = make_scheme(self.scheme, self.params)
        if self.handle not in _subkeys or _subkeys[self.handle][:2] != (self.key_id, scheme):
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
        config, assistant = _caller(self)
        if config is not None:
            _check_mode(scheme, config.get_generation_mode(assistant))
        return SchemeProcessor(scheme, _subkeys[self.handle][2], last=True)


def _caller(mine: CountermarkConfig | None) -> tuple[GenerationConfig | None, Any]:
    """The generation config of the ``generate`` that is calling, with its assistant model; ``mine`` must be its mark.

    Neither ``construct_processor`` nor a processor is told how tokens will be chosen, and a sampling scheme under
    greedy or beam search would silently not be itself. So the callers' frames are asked; a loop other than ``generate``
    has none, and answers for itself.
    """
    frame = inspect.currentframe()
    config = None
    while frame is not None:
        found = frame.f_locals.get("generation_config")
        if config is None and isinstance(found, GenerationConfig):
            config = found if mine is None or found.watermarking_config is mine else None
        if config is not None and frame.f_code.co_name == "generate":
            return config, frame.f_locals.get("assistant_model")
        frame = frame.f_back
    return config, None


def _check_place(scheme: Scheme) -> None:
    """A processor of ours among the custom ones of ``generate`` runs before the warpers."""
    config, _ = _caller(None)
    if config is not None and scheme.order == "after":
        raise UsageError(
            f"got scheme {scheme.name!r} with order 'after' as logits_processor, which generate applies before warpers",
            hint="pass watermarking_config=CountermarkConfig.from_key(…), or make the scheme with order='before'",
        )


def _check_mode(scheme: Scheme, mode: GenerationMode) -> None:
    if mode in (SAMPLING_MODES if scheme.samples else BIAS_MODES):
        return
    kind = "needs sampled tokens" if scheme.samples else "marks greedy, sampled and beam search"
    chosen = scheme.samples and mode in BIAS_MODES
    raise UsageError(
        f"got generation mode {mode.value} for scheme {scheme.name!r}, which {kind}",
        hint="set do_sample=True and num_beams=1" if chosen else "leave assisted and contrastive search off",
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
