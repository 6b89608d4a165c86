"""Training state without pickle: any tree of numbers, texts and tensors as JSON beside safetensors.

JSON here is Python's own and not canonical: it keeps 1 and 1.0 apart, whole integers, and infinities, and a state must
come back exactly. The checkpoint's manifest guards the bytes.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from countermark.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_TENSOR, _TUPLE, _MAP = "$tensor", "$tuple", "$map"


def save_tree(tree: object, folder: Path, name: str) -> None:
    """Writes ``name.json``, and ``name.safetensors`` if the tree holds tensors.

    Raises:
        UsageError: the tree holds an object that is neither number, text, tensor nor a container of them.
    """
    tensors: dict[str, torch.Tensor] = {}
    body = _encode(tree, tensors, set(), name)
    write_json(folder / f"{name}.json", body)
    if tensors:
        save_file(tensors, folder / f"{name}.safetensors")


def load_tree(folder: Path, name: str) -> Any:  # noqa: ANN401 - a tree is what it is
    """What :func:`save_tree` wrote, on CPU, exactly. The folder has been verified by its manifest."""
    path = folder / f"{name}.safetensors"
    return _decode(read_json(folder / f"{name}.json"), load_file(path) if path.exists() else {})


def write_json(path: Path, body: object) -> None:
    """Plain JSON; the folder it is in is fsynced as a whole."""
    path.write_text(json.dumps(body), "utf-8")


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Plain JSON of a verified folder: integers of any size, infinities."""
    return json.loads(path.read_bytes())


def rng_state(device: str) -> dict[str, Any]:
    """The state of every generator this process draws from, as JSON can say it.

    Raises:
        UsageError: the device is neither CPU nor CUDA.
    """
    if device not in {"cpu", "cuda"}:
        raise UsageError(
            f"got device {device!r}, expected 'cpu' or 'cuda'",
            hint="checkpoints cover these two; set save_strategy: no",
        )
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - what libraries draw from
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
        "cpu": _hex(torch.get_rng_state()),
    }
    return state | ({"cuda": _hex(torch.cuda.get_rng_state())} if device == "cuda" else {})


def set_rng_state(state: dict[str, Any]) -> None:
    """Puts every generator where :func:`rng_state` found it."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(_bytes(state["cpu"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(state["cuda"]))


def _encode(value: Any, tensors: dict[str, torch.Tensor], seen: set[int], at: str) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[at] = tensor.clone() if storage in seen else tensor  # safetensors refuses shared storage
        seen.add(storage)
        return {_TENSOR: at}
    if isinstance(value, list | tuple):
        items = [_encode(item, tensors, seen, f"{at}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, dict):
        pairs = [[_encode(k, tensors, seen, at), _encode(v, tensors, seen, f"{at}.{k}")] for k, v in value.items()]
        plain = all(isinstance(k, str) and not k.startswith("$") for k in value)
        return {k: v for k, v in pairs} if plain else {_MAP: pairs}  # noqa: C416 - pairs are lists
    raise UsageError(
        f"got a {type(value).__name__} in the training state at {at}, expected numbers, texts and tensors",
        hint="this optimizer or scheduler cannot be checkpointed; choose another, or set save_strategy: no",
    )


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_decode(item, tensors) for item in value[_TUPLE])
    if _MAP in value:
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value[_MAP]}
    return {k: _decode(v, tensors) for k, v in value.items()}


def _hex(state: torch.Tensor) -> str:
    return bytes(state.cpu().numpy()).hex()


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8).clone()
