"""What every output folder says of itself: ``training.json`` for machines, ``README.md`` for the Hub and people."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

from countermark.files import atomic_write
from countermark.manifest import canonical_json, digest
from countermark.version import FORMAT_VERSION, __version__

if TYPE_CHECKING:
    from pathlib import Path

    from training.job import TrainingJob

MANIFEST_NAME = "training.json"
_LIBRARIES = ("accelerate", "datasets", "peft", "tokenizers", "torch", "transformers", "trl")


def describe(job: TrainingJob, *, chat_template: object, processes: int, computed: str) -> dict[str, Any]:
    """The training's manifest: all that decides the result, and no clock, host, path or duration.

    ``chat_template`` is the one in force; ``processes`` multiplies the batch; ``computed`` is the kind of device and
    the mixed precision, which a launcher may set where the arguments are silent.
    """
    rows = [[dict(message) for message in dialogue] for dialogue in job.dialogues]
    fields: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "method": job.method,
        "base": {"name": job.base_name, "digest": job.base_digest},
        "rows": len(rows),
        "rows_sha256": digest(rows),
        "chat_template_sha256": digest(chat_template),
        "arguments": dict(job.arguments),
        "seed": job.seed,
        "dtype": job.dtype,
        "processes": processes,
        "computed": computed,
        "versions": {"countermark": __version__} | {name: metadata.version(name) for name in _LIBRARIES},
    }
    if job.method == "lora":
        return fields | {"lora": dict(job.lora), "quantization": job.quantization}
    return fields | {"save_dtype": job.save_dtype}


def write_card(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes ``training.json`` and ``README.md`` into ``folder``, over what a library may have left there."""
    atomic_write(folder / MANIFEST_NAME, canonical_json(manifest))
    atomic_write(folder / "README.md", card(manifest).encode())


def card(manifest: dict[str, Any]) -> str:
    """A Hub model card: YAML front matter, how to load the folder, and the manifest as a table."""
    adapter = manifest["method"] == "lora"
    name = manifest["base"]["name"]
    kind = "LoRA adapter for" if adapter else "full fine-tuning of"
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in _flat(manifest))
    return f"""---
base_model: {json.dumps(name)}
library_name: {"peft" if adapter else "transformers"}
pipeline_tag: text-generation
tags:
- {manifest["method"]}
- sft
- trl
---

# A {kind} {_cell(name)}

Trained by supervised fine-tuning on {manifest["rows"]} dialogues; the loss counts the last answer of each alone.

## How to load it

```python
{_LOAD_ADAPTER if adapter else _LOAD_MODEL}
```

## Training

| field | value |
|---|---|
{rows}

`{MANIFEST_NAME}` holds the same as canonical JSON.
"""


_LOAD_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("PATH_OR_ID_OF_THE_BASE_MODEL")
model = PeftModel.from_pretrained(base, "PATH_OF_THIS_FOLDER")"""
_LOAD_MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")"""


def _flat(value: dict[str, Any], at: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, inner in sorted(value.items()):
        name = f"{at}.{key}" if at else key
        rows += _flat(inner, name) if isinstance(inner, dict) and inner else [(name, inner)]
    return rows


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return " ".join(text.split()).replace("|", "\\|")
