"""The command in this process, with keys that are the same in every run of the tests: one after the other."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from tests.pipelines.release_data import Command


class Drawn:
    """Stands in for the operating system's generator, in new keys alone."""

    def __init__(self):
        self._numbers = itertools.count()

    def token_bytes(self, size):
        return hashlib.sha256(f"dataset/{next(self._numbers)}".encode()).digest()[:size]

    def token_hex(self, size):
        return self.token_bytes(size).hex()


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.setattr("watermarks.keys.secrets", Drawn())
    return Command(monkeypatch, capsys)
