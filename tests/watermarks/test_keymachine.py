"""Lives of key rings with crashes; see :mod:`tests.watermarks.keymachine` for what has to hold."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.watermarks.keymachine import Lives

pytestmark = pytest.mark.long

TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=200, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
