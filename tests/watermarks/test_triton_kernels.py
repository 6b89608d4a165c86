"""The Triton kernels against the plain path, in Triton's interpreter, which needs no GPU.

Triton comes with CUDA builds of torch; where it is missing these tests are skipped, and say so. A GPU runs the compiled
kernels with ``python benchmarks/gpu.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import torch
from watermarks.kernels import triton
from watermarks.kernels.generate import mark_plain
from watermarks.schemes import Gumbel, Kgw, Tournament

subkey = bytes(range(16))
generator = torch.Generator().manual_seed(5)
scores = torch.randn(3, 2_500, generator=generator) * 3
scores[1, 40:] = float("-inf")
salted = Kgw(context_width=4, self_salt=True)
for scheme in (Kgw(), salted, Gumbel(), Gumbel(alpha=0.2), Tournament(), Tournament(layers=7)):
    contexts = torch.randint(0, 2**31, (3, scheme.inputs.width), generator=generator)
    got = triton.kernel_of(scheme)(scheme, subkey, contexts, scores)
    want = mark_plain(scheme, subkey, contexts, scores)
    if scheme.name == "kgw":
        assert torch.equal(got, want), scheme
    else:
        assert torch.allclose(got.softmax(-1), want.softmax(-1), atol=1e-6), scheme
print("same")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed (it comes with CUDA builds of torch)")
def test_every_kernel_gives_what_the_plain_path_gives():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-3000:]
