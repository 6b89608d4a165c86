"""Verification of a bundle in a process of its own: on the base install, without network."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support import ROOT
from tests.verification.bundles import AUDITOR, LOG_KEY
from verification.dsse import public_key

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = frozenset(
    {
        "torch", "transformers", "pyarrow", "jinja2", "openai", "httpx", "matplotlib", "numba", "sklearn", "datasets",
        "tokenizers", "sqlalchemy", "pandas", "huggingface_hub", "peft", "trl", "accelerate",
    }
)  # fmt: skip
SCRIPT = f"""
import sys
heavy = {set(HEAVY)}
class Base:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in heavy else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Base, sys.meta_path)
import socket
def refuse(*_, **__):
    raise OSError("no network")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from pathlib import Path
from verification.bundle_check import verify_bundle
checked = verify_bundle(Path(sys.argv[1]), signers=[sys.argv[2]], ledger_keys=[sys.argv[3]])
assert not heavy & {{name.partition(".")[0] for name in sys.modules}}
sys.stdout.buffer.write(checked.encode())
"""


def verified_alone(folder: Path) -> bytes:
    """The result's bytes; every package that the base install lacks is hidden, and so is the network."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder.name, public_key(AUDITOR), LOG_KEY], cwd=folder.parent,
        capture_output=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
