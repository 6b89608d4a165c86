"""Suspects: text in, text or label out, and nothing else. No audit may need logits, weights or gradients.

A suspect answers a batch of prompts with a batch of strings. A classifier's string is its label's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from countermark import libraries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


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

    def ask(self, prompts: Sequence[str]) -> list[str]:
        import torch

        encoded = self._tokenizer(
            list(prompts), padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            labels = self._model(**encoded).logits.argmax(-1).tolist()
        return [self._model.config.id2label[label] for label in labels]


class LocalChatModel:
    """A causal language model in a local folder, with a LoRA adapter or not, asked through its chat template.

    Greedy at temperature 0; else sampled, with a seed of the prompts and of ``seed``.
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
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        libraries.quiet()
        self.name = name
        self._system = system
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature
        self._seed = seed
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="left"
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.bfloat16
        )
        if adapter is not None:
            from peft import PeftModel

            # merged: the same answers for a third of the time of a separate adapter
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        self._model = model.eval()

    def ask(self, prompts: Sequence[str]) -> list[str]:
        import torch

        head = [] if self._system is None else [{"role": "system", "content": self._system}]
        chats = [[*head, {"role": "user", "content": prompt}] for prompt in prompts]
        texts = self._tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        encoded = self._tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            output = self._model.generate(**encoded, max_new_tokens=self._max_new_tokens, **self._sampling(texts))
        new_tokens = output[:, encoded["input_ids"].shape[1] :]
        decoded: list[str] = self._tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
        return decoded

    def _sampling(self, texts: Sequence[str]) -> dict[str, Any]:
        import hashlib

        import torch

        if not self._temperature:
            return {"do_sample": False}
        drawn = hashlib.sha256("\0".join([str(self._seed), *texts]).encode()).digest()
        torch.manual_seed(int.from_bytes(drawn[:7], "big"))
        return {"do_sample": True, "temperature": self._temperature, "top_k": 0, "top_p": 1.0}
