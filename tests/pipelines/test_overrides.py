"""``--set a.b=c``: overrides are checked like the file, and their errors do not blame a line."""

from __future__ import annotations

import pytest

from countermark.errors import ConfigError
from pipelines.config import RunConfig, load_config
from tests.support import QUICKSTART
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram, make_scheme, scheme_names


def _error(*overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(QUICKSTART, list(overrides))
    assert len(caught.value.diagnostics().splitlines()) == 2
    return caught.value


def test_an_override_overrides_and_the_last_one_wins():
    config = load_config(QUICKSTART, ["seed=7", "audit.alpha=1e-3", "seed=8", "keys.key_id=ck_1", "name=a"])
    assert (config.seed, config.audit.alpha, config.keys.key_id, config.name) == (8, 1e-3, "ck_1", "a")
    whole = load_config(QUICKSTART, ["generate.watermark={scheme: kgw, gamma: 0.5}"]).generate.watermark.build()
    assert whole == Kgw(gamma=0.5)


SCHEMES = {
    "{scheme: kgw, gamma: 0.5, delta: 3, context_width: 4, self_salt: true, order: before}": Kgw(
        gamma=0.5, delta=3.0, context_width=4, self_salt=True, order="before"
    ),
    "{scheme: kgw, hard: true}": Kgw(hard=True),
    "{scheme: unigram}": Unigram(),
    "{scheme: gumbel, alpha: 0.1}": Gumbel(alpha=0.1),
    "{scheme: gumbel, alpha: 0}": Gumbel(),
    "{scheme: tournament, layers: 32, context_width: 1}": Tournament(layers=32, context_width=1),
}


@pytest.mark.parametrize("text", SCHEMES)
def test_a_run_takes_any_scheme_with_its_parameters(text):
    config = load_config(QUICKSTART, [f"generate.watermark={text}"])
    assert config.generate.watermark.build() == SCHEMES[text]
    assert RunConfig.model_validate(config.model_dump()).generate.watermark.build() == SCHEMES[text]
    assert config.marking_digest() != load_config(QUICKSTART, []).marking_digest()


@pytest.mark.parametrize("name", scheme_names())
def test_every_registered_scheme_runs_on_its_defaults(name):
    built = load_config(QUICKSTART, [f"generate.watermark={{scheme: {name}}}"]).generate.watermark.build()
    assert built == make_scheme(name, {})


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
    "generate.watermark.order=sideways": ("--set: generate.watermark.order", None),
    "generate.watermark.self_salt=1": ("--set: generate.watermark.self_salt", None),
    "generate.watermark.self_sallt=true": ("--set: generate.watermark.self_sallt", "did you mean 'self_salt'?"),
    "generate.watermark.context_width=true": ("--set: generate.watermark.context_width", None),
    "generate.watermark={scheme: kgw, hard: true, delta: 3.0}": ("--set: generate.watermark.delta", None),
    "generate.watermark={scheme: gumbel, alpha: 0.6}": ("--set: generate.watermark.alpha", None),
    "generate.watermark={scheme: gumbel, alpha: true}": ("--set: generate.watermark.alpha", None),
    "generate.watermark={scheme: gumbel, delta: 2.0}": ("--set: generate.watermark.delta", None),
    "generate.watermark={scheme: tournament, layers: 33}": ("--set: generate.watermark.layers", None),
    "generate.watermark={scheme: tournament, layers: 30.0}": ("--set: generate.watermark.layers", None),
    "generate.watermark={scheme: tournament, layer: 3}": (
        "--set: generate.watermark.layer",
        "did you mean 'layers'?",
    ),
    "generate.watermark={scheme: unigram, context_width: 1}": ("--set: generate.watermark.context_width", None),
    "generate.watermark={gamma: 0.5}": ("--set: generate.watermark.scheme", None),
    "generate.min_p=1.0": ("--set: generate.min_p", None),
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
