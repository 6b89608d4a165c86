"""Fixtures of the tests that detect."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    from tests.pipelines.detection_desk import Desk

    return Desk(tmp_path_factory.mktemp("detection"))


@pytest.fixture
def desk(opened, monkeypatch):
    """The desk, with its model verified and its tokenizer loaded once for all tests."""
    from pipelines.engines import hf

    monkeypatch.setattr("pipelines.assets.resolve_model", lambda _: opened.model)
    monkeypatch.setattr(hf, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda *_, **__: opened.tokenizer))
    return opened
