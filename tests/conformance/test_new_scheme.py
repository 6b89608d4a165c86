"""A scheme is three short functions, and everything else comes for nothing: one is registered here, and used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import pytest
import torch

from countermark.errors import UsageError
from pipelines.config import WatermarkConfig
from tests.conformance.variants import VARIANTS, evidence, variants, written
from tests.support import subkey_of
from verification.detect import detect
from watermarks import prf
from watermarks.adapters.hf import CountermarkConfig
from watermarks.kernels import observe
from watermarks.kernels.generate import mark, mark_plain
from watermarks.schemes import BinomialLaw, Kgw, Sliding, base, make_scheme, scheme_names

SUBKEY = subkey_of("new")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Favours even draws."""

    name: ClassVar[str] = "parity"
    samples: ClassVar[bool] = False
    statistics: ClassVar[tuple[str, ...]] = ("even",)
    count_statistic: ClassVar[str] = "even"
    order: ClassVar[str] = "after"
    push: float = 3.0

    @property
    def inputs(self):
        return Sliding(width=3)

    def params(self):
        return asdict(self)

    def draws(self, subkey, contexts, tokens):
        return prf.draws(subkey, contexts, tokens)

    def observe(self, subkey, windows):
        return prf.draws(subkey, windows[..., :-1], windows[..., -1]), None

    def bend(self, scores: Any, draws: Any):
        return scores + self.push * (1 - (draws & 1))

    def worth(self, draws, statistic):
        base.check_statistic(self, statistic)
        return 1 - (draws & 1)

    def law(self, statistic):
        base.check_statistic(self, statistic)
        return BinomialLaw(p=0.5)


class Other(Kgw):
    """A ``kgw`` of another stream, by inheritance."""

    name: ClassVar[str] = "other"

    def draws(self, subkey, contexts, tokens):
        return prf.draws(subkey, contexts, tokens, 9)

    def observe(self, subkey, windows):
        return prf.draws(subkey, windows[..., :-1], windows[..., -1], 9), None


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.setitem(base._REGISTRY, "parity", Parity)
    return make_scheme("parity", {})


def test_a_scheme_that_is_not_listed_is_tested_with_its_defaults(parity):
    assert "parity" in scheme_names()
    assert "parity" not in VARIANTS
    assert [scheme for scheme in variants() if scheme.name == "parity"] == [parity]
    assert set(VARIANTS) <= set(scheme_names())


def test_a_new_scheme_marks_and_is_found_without_a_kernel(parity, monkeypatch):
    texts = written(parity, SUBKEY)
    assert detect(texts, parity, SUBKEY)[1].log10_p < -6
    assert detect(texts, parity, subkey_of("another"))[1].log10_p > -4
    found = evidence(texts, parity, SUBKEY)
    assert evidence(texts, parity, SUBKEY, device="cpu:0") == found
    monkeypatch.setattr(observe, "KERNELS", False)
    assert evidence(texts, parity, SUBKEY) == found
    contexts, scores = torch.tensor([[1, 2, 3]]), torch.zeros(1, 50)
    assert torch.equal(mark(parity, SUBKEY, contexts, scores), mark_plain(parity, SUBKEY, contexts, scores))


def test_a_new_scheme_is_known_to_configs_and_to_transformers(parity):
    assert WatermarkConfig.model_validate({"scheme": "parity", "push": 1}).build() == Parity(push=1)
    config = CountermarkConfig.from_key(parity, SUBKEY, key_id="ck_1")
    scores = torch.zeros(1, 50)
    marked = config.construct_processor(50)(torch.tensor([[1, 2, 3]]), scores)
    assert set(marked.flatten().tolist()) == {0.0, 3.0}
    with pytest.raises(UsageError, match="statistic 'odd'"):
        detect([[1, 2, 3, 4]], parity, SUBKEY, statistic="odd")


def test_a_scheme_that_inherits_is_detected_by_its_own_functions(monkeypatch):
    monkeypatch.setitem(base._REGISTRY, "other", Other)
    scheme = make_scheme("other", {})
    texts = written(scheme, SUBKEY)
    assert detect(texts, scheme, SUBKEY)[1].log10_p < -6
