"""``--set a.b=c``: overrides are checked like the file, and their errors do not blame a line."""

from __future__ import annotations

import pytest

from countermark.errors import ConfigError
from pipelines.config import load_config
from tests.support import QUICKSTART


def _error(*overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(QUICKSTART, list(overrides))
    assert len(caught.value.diagnostics().splitlines()) == 2
    return caught.value


def test_an_override_overrides_and_the_last_one_wins():
    config = load_config(QUICKSTART, ["seed=7", "audit.alpha=1e-3", "seed=8", "keys.key_id=ck_1", "name=a"])
    assert (config.seed, config.audit.alpha, config.keys.key_id, config.name) == (8, 1e-3, "ck_1", "a")
    whole = load_config(QUICKSTART, ["generate.watermark={scheme: kgw, gamma: 0.5}"]).generate.watermark.build()
    assert whole.params() == {"gamma": 0.5, "delta": 2.0, "context_width": 2}


def test_what_is_not_overridden_stays():
    base, other = load_config(QUICKSTART, []), load_config(QUICKSTART, ["seed=7"])
    assert other == base.model_copy(update={"seed": 7})
    assert load_config(QUICKSTART, []) == base


@pytest.mark.parametrize("override", ["seed", "=7", "", ".seed=7", "seed.=7", "a..b=7", "seed 7"])
def test_what_is_no_override(override):
    assert "expected a.b=value" in _error(override).message


BAD = {
    "sed=7": ("--set: sed", "did you mean 'seed'?"),
    "audit.alpa=0.1": ("--set: audit.alpa", "did you mean 'alpha'?"),
    "mark.input_level.trigers=3": ("--set: mark.input_level.trigers", "did you mean 'triggers'?"),
    "generate.watermark.gama=0.5": ("--set: generate.watermark.gama", "did you mean 'gamma'?"),
    "seed=seven": ("--set: seed", None),
    "seed=": ("--set: seed", None),
    "seed=-1": ("--set: seed", None),
    "seed=1.5": ("--set: seed", None),
    "audit.alpha=.nan": ("--set: audit.alpha", None),
    "generate=5": ("--set: generate", None),
    "mark.double_i=[]": ("--set: mark.double_i", None),
    "seed.x=5": ("--set: ", None),
    "seed.x.y=5": ("--set: ", None),
    "name=[": ("--set", None),
    "name=*a": ("--set", None),
    "name=a: b": ("--set", None),
    "name=!!python/name:os.system": ("--set", None),
    "generate.watermark.scheme=nope": ("--set: generate.watermark.scheme", None),
}


@pytest.mark.parametrize("override", BAD)
def test_a_bad_override_is_named(override):
    start, hint = BAD[override]
    error = _error(override)
    assert error.message.startswith(start), error.message
    assert str(QUICKSTART) not in error.message
    assert hint is None or error.hint == hint


def test_an_override_is_one_value():
    _error("seed=7\nname: other")


def test_a_section_that_was_set_does_not_blame_the_file():
    error = _error("mark.input_level={triggers: 0, rows_per_trigger: 5}")
    assert error.message.startswith("--set: mark.input_level.triggers"), error.message
