"""Endpoints under test, and what one failure of theirs is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from verification.asking import Policy, QueryFailedError
from verification.clocks import WallClock
from verification.endpoints import ChatEndpoint

SECRET = "sk-canary-7c1f9e"
QUERY = "0" * 64
SHORT = Policy(timeout=20.0, max_bytes=20_000, concurrency=1, retries=1, backoff=0.0)
IMPATIENT = replace(SHORT, timeout=0.3)
OTHERS = {"suspect": "s", "clock": WallClock()}


def chat(url, **more):
    return ChatEndpoint("chat", url, model="served", **{"policy": SHORT, **more})


def failure(endpoint, prompt="prompt 1"):
    with pytest.raises(QueryFailedError) as caught:
        endpoint.query(prompt, query_id=QUERY)
    return caught.value
