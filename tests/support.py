"""What several tests share: fixed keys, vectors, and a way to look at an error."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from watermarks.keys import Key

ROOT = Path(__file__).parent.parent
VECTORS = Path(__file__).parent / "vectors"
QUICKSTART = ROOT / "configs" / "quickstart.yaml"


def key_of(name: str, *, salt: bytes = b"") -> Key:
    """A key that is the same in every run; ``name`` decides every byte."""
    secret, nonce = (hashlib.sha256(f"{part}/{name}".encode()).digest() for part in ("secret", "nonce"))
    return Key(key_id=f"ck_{name}", secret=secret, nonce=nonce, salt=salt)


def subkey_of(name: str) -> bytes:
    """16 bytes that are the same in every run."""
    return hashlib.sha256(f"subkey/{name}".encode()).digest()[:16]


def vectors(name: str) -> Any:
    """The known answers of ``tests/vectors/<name>.json``."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
