"""What the tests of other libraries' faults share: a key, wrong ones, and tokens that nobody marked."""

from __future__ import annotations

import numpy as np

from tests.support import subkey_of

SUBKEY = subkey_of("peers")
WRONG = [subkey_of(f"peers {i}") for i in range(2_000)]
IID = np.random.default_rng(1).integers(0, 50_000, 250).tolist()
