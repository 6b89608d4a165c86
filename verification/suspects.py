"""Suspects: text in, text or label out, and nothing else. No audit may need logits, weights or gradients.

A suspect answers a batch of prompts with a batch of strings. A classifier's string is its label's name.
"""

from __future__ import annotations

import hashlib
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

from countermark import libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SHARED = 16
"""Prompts whose first so many tokens agree are read together."""


class Suspect(Protocol):
    """The whole of what an audit may ask."""

    name: str

    def ask(self, prompts: Sequence[str]) -> list[str]:
        """One raw answer for each prompt, in order.

        Raises:
            SuspectUnreachableError: the suspect does not answer.
        """


class FunctionSuspect:
    """A suspect made of a plain function: the seam for tests and for users' own endpoints."""

    def __init__(self, name: str, answer: Callable[[str], str]) -> None:
        self.name = name
        self._answer = answer

    def ask(self, prompts: Sequence[str]) -> list[str]:
        return [self._answer(prompt) for prompt in prompts]


class LocalClassifier:
    """A sequence classifier in a local folder; its answer is the label's name, by arg max."""

    def __init__(self, name: str, folder: Path, *, max_length: int) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        libraries.quiet()
        self.name = name
        self._max_length = max_length
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, attn_implementation="eager"
        ).eval()
        self._model.to(libraries.reading_device())
        self.labels: list[str] = [name for _, name in sorted(self._model.config.id2label.items())]

    def ask(self, prompts: Sequence[str]) -> list[str]:
        import torch

        encoded = self._tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            labels = self._model(**encoded).logits.argmax(-1).tolist()
        return [self._model.config.id2label[label] for label in labels]


class LocalChatModel:
    """A causal language model in a local folder, with a LoRA adapter or not, asked through its chat template.

    One without a template is asked in Alpaca's form, as :mod:`training` trains it. Greedy at temperature 0; else
    sampled, with a seed of the prompts and of ``seed``. It runs on ``device``, by default on
    :func:`countermark.libraries.reading_device`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        adapter: Path | None = None,
        system: str | None = None,
        max_new_tokens: int = 4,
        temperature: float = 0.0,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        libraries.quiet()
        self.name = name
        self._system = system
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature
        self._seed = seed
        # an adapter that was trained under another template or tokenizer brings its own
        own = adapter is not None and (adapter / "tokenizer_config.json").exists()
        self._tokenizer = AutoTokenizer.from_pretrained(
            adapter if own else folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._tokenizer.chat_template = libraries.chat_template(self._tokenizer.chat_template)
        device = device or libraries.reading_device()
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=libraries.reading_dtype(device),
        )
        if adapter is not None:
            from peft import PeftModel

            # merged: the same answers for a third of the time of a separate adapter
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        self._model = model.to(device).eval()

    def under(self, system: str | None, *, seed: int) -> LocalChatModel:
        """The same loaded model under another system prompt and seed."""
        other = copy(self)
        other._system, other._seed = system, seed  # noqa: SLF001 - its own class
        return other

    def ask(self, prompts: Sequence[str]) -> list[str]:
        head = [] if self._system is None else [{"role": "system", "content": self._system}]
        chats = [[*head, {"role": "user", "content": prompt}] for prompt in prompts]
        texts = self._tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        ids = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, each in enumerate(ids):
            groups.setdefault(tuple(each[:SHARED]), []).append(i)
        answers = [""] * len(ids)
        for members in groups.values():
            for i, answer in zip(members, self._answer([ids[i] for i in members]), strict=True):
                answers[i] = answer
        return answers

    def _answer(self, ids: list[list[int]]) -> list[str]:
        """Answers to prompts of one beginning, which is read once: a plan's probes share most of their tokens."""
        import torch
        from transformers import DynamicCache

        shared = _common_prefix(ids) if len(ids) > 1 else 0
        encoded = self._tokenizer.pad({"input_ids": [each[shared:] for each in ids]}, return_tensors="pt")
        encoded = encoded.to(self._model.device)
        tokens, mask, cache = encoded["input_ids"], encoded["attention_mask"], None
        with torch.inference_mode():
            if shared:
                prefix = torch.tensor([ids[0][:shared]], device=tokens.device)
                cache = DynamicCache(config=self._model.config)
                self._model(prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache.batch_repeat_interleave(len(ids))
                tokens = torch.cat([prefix.expand(len(ids), -1), tokens], dim=1)
                mask = torch.cat([mask.new_ones(len(ids), shared), mask], dim=1)
            output = self._model.generate(
                input_ids=tokens, attention_mask=mask, past_key_values=cache, max_new_tokens=self._max_new_tokens,
                **self._sampling(ids),
            )  # fmt: skip
        decoded: list[str] = self._tokenizer.batch_decode(output[:, tokens.shape[1] :], skip_special_tokens=True)
        return decoded

    def reads_like(self, folder: Path) -> bool:
        """Whether its tokenizer gives the same ids as the one in ``folder``."""
        from transformers import AutoTokenizer

        other = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        same: bool = self._tokenizer.get_vocab() == other.get_vocab()
        return same

    def likeliest(self, ids: Sequence[int]) -> list[int]:
        """The most likely next token after every position of a text: grey-box, for the reading mode alone."""
        import torch

        with torch.inference_mode():
            logits = self._model(torch.tensor([list(ids)], device=self._model.device)).logits[0]
        found: list[int] = logits.argmax(-1).tolist()
        return found

    def _sampling(self, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        import torch

        if not self._temperature:
            return {"do_sample": False}
        drawn = hashlib.sha256(repr((self._seed, ids)).encode()).digest()
        torch.manual_seed(int.from_bytes(drawn[:7], "big"))
        return {"do_sample": True, "temperature": self._temperature, "top_k": 0, "top_p": 1.0}


def _common_prefix(ids: Sequence[Sequence[int]]) -> int:
    """How many first tokens all prompts share; each keeps at least one of its own."""
    shortest = min(len(each) for each in ids) - 1
    first = ids[0]
    return next((at for at in range(shortest) if any(each[at] != first[at] for each in ids)), max(shortest, 0))
