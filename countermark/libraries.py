"""Manners of the libraries we load: no bars or notices of their own, one template, memory kept for the next step."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def chat_template(own: str | None) -> str:
    """A model's own chat template; Alpaca's for a model that has none, when it is trained and when it is asked."""
    return own or resources.files("countermark").joinpath("templates/alpaca.jinja").read_text("utf-8")


def quiet() -> None:
    """Progress is ours to draw: the bars, notices and deprecation warnings of the libraries stay off stderr.

    Call it after importing them; it imports neither itself.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    if "datasets" in sys.modules:
        import datasets

        datasets.disable_progress_bars()


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether the machine multiplies in bfloat16: one without its instructions emulates it, and is far slower."""
    import platform

    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return True
    cpu: Any = torch.cpu  # torch has no public name for what the instructions are
    if platform.machine() in {"x86_64", "AMD64"}:
        return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())  # noqa: SLF001
    mkldnn: Any = torch.backends.mkldnn
    return bool(mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def reading_device() -> str:
    """Where models read and write text: ``cuda`` where there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def reading_dtype(device: str = "cpu") -> torch.dtype:
    """In which a language model is loaded to read or write text: bfloat16 where that is fast, else float32."""
    import torch

    return torch.bfloat16 if has_bfloat16(device) else torch.float32


def reading() -> str:
    """Device and dtype of the language models that this machine asks, as a run's log says it: ``cpu, float32``."""
    device = reading_device()
    return f"{device}, {str(reading_dtype(device)).removeprefix('torch.')}"


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks instead of returning them to the system.

    A training step on CPU allocates and frees the same gigabyte again and again; without this, every step pays for its
    page faults anew. A matter of speed only: where there is no glibc it does nothing.
    """
    import ctypes

    m_trim_threshold, m_mmap_threshold, one_gib = -1, -3, 1 << 30
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(m_mmap_threshold, one_gib)
    mallopt(m_trim_threshold, one_gib)
