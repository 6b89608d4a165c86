"""One toy base for all tests of training."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from countermark import libraries
from tests.training.toy import make_base

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """What the libraries say of each other is not ours to mend: as in :func:`training.sft.train`."""
    libraries.quiet()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_base(tmp_path_factory.mktemp("base"))
