"""What every trainer here shares: progress, determinism, and publishing only safetensors and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from countermark.manifest import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PUBLISHED_SUFFIXES = {".safetensors", ".json", ".txt", ".jinja", ".md"}
_HOST_FIELDS = {"_name_or_path", "base_model_name_or_path", "name_or_path"}


class StepProgress(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Reports every optimiser step."""

    def __init__(self, started: Callable[[int], None], advance: Callable[[int], None]) -> None:
        self._started = started
        self._advance = advance

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        self._started(state.max_steps)
        if state.global_step:  # resumed
            self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        self._advance(1)


def publish(folder: Path) -> None:
    """Removes what must not leave the machine from a saved model: pickles, paths, and orders that change by process.

    peft writes ``target_modules`` from a set, and a local base path; both would change an artifact's digest.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in PUBLISHED_SUFFIXES:
            path.unlink()
        elif path.is_file():
            path.chmod(0o644)
        if path.name in {"config.json", "adapter_config.json", "tokenizer_config.json"} and path.exists():
            body = json.loads(path.read_text("utf-8"), parse_int=_number)
            body = {k: sorted(v) if k == "target_modules" and isinstance(v, list) else v for k, v in body.items()}
            path.write_bytes(canonical_json({k: v for k, v in body.items() if k not in _HOST_FIELDS}))


def _number(text: str) -> int | float:
    """Tokenizers without a length limit write 10**30, more than canonical JSON's integers hold."""
    value = int(text)
    return value if abs(value) < 1 << 53 else float(value)
