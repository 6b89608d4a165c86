"""Fixtures of the tests that ask."""

from __future__ import annotations

import pytest

from tests.servers import OpenAIServer
from tests.verification.asking_cases import Counting, ask, memory, says


@pytest.fixture
def folder():
    with memory() as made:
        yield made


@pytest.fixture
def answers(folder):
    return ask(Counting(), folder / "undisturbed")


@pytest.fixture(scope="module")
def server():
    with OpenAIServer(says) as running:
        yield running
