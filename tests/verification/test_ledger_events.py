"""The closed set of events: one spelling each, and nothing that a text would fit into."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from tests.verification.ledgers import (
    AT,
    event,
    flipped,
    made,
    sha,
)
from verification.ledger_events import SHAPES, parse, prepare

SAMPLES = {
    "key": {"kind": "promote", "ring": "kr_1", "sequence": 3, "from": "active", "previous": sha("p"), "until": AT},
    "commitment": {"key_id": "ck_1", "sha256": sha("c"), "release": "mine-v1"},
    "generation": {"key_id": "ck_1", "prompt_sha256": sha("p"), "output_sha256": sha("o"), "tokens": 200},
    "release": {"manifest_sha256": sha("m"), "recipients": 3},
    "plan": {"plan_sha256": sha("p"), "queries": 1200},
    "audit": {"plan_sha256": sha("p"), "verdict_sha256": sha("v"), "decision": "not_supported"},
    "spent": {"audit": "spring", "suspect": "org/model@v2", "first": 0, "count": 40},
    "query": {"request_sha256": sha("r"), "endpoint": "detect", "answer": "unmarked"},
    "stage": {"run": "run_1", "line": 0, "stage": "generate", "phase": "done", "digest": sha("d"), "milliseconds": 12},
}


def sample(kind):
    return {"event": kind, "at": AT, **SAMPLES[kind]}


def test_there_is_a_sample_of_every_kind():
    assert set(SAMPLES) == set(SHAPES)


@pytest.mark.parametrize("kind", SAMPLES)
def test_an_entry_is_the_rfc_8785_form_of_its_event(kind):
    body = sample(kind)
    prepared = prepare(body)
    whole = {**body, "id": prepared.id.hex(), "seq": 12}
    assert prepared.numbered(12) == rfc8785.dumps(whole)
    assert prepared.id.hex() == sha(rfc8785.dumps(body).decode())
    assert parse(prepared.numbered(12)) == (12, prepared.id)
    assert prepare({**body, "id": sha("own")}).id.hex() == sha("own")


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_field_is_required_or_allowed_and_typed(kind):
    shape = SHAPES[kind]
    for name in shape.required:
        with pytest.raises(UsageError, match=name):
            prepare({k: v for k, v in sample(kind).items() if k != name})
    for name in sample(kind):
        for wrong in ("a text with spaces", 1.5, True, None, -1, [1], {"a": 1}, "x" * 200, "\ud800", 10**15, ""):
            with pytest.raises(UsageError):
                prepare({**sample(kind), name: wrong})
    with pytest.raises(UsageError, match="text"):
        prepare({**sample(kind), "text": "x"})


@pytest.mark.parametrize("body", [{}, {"event": "poem"}, {"event": ["key"]}, {**event(1), "seq": 3}])
def test_what_is_no_event(body):
    with pytest.raises(UsageError):
        prepare(body)


def test_a_long_wrong_value_is_not_repeated():
    with pytest.raises(UsageError) as caught:
        prepare({**event(1), "answer": "my secret passphrase " * 5})
    assert "secret" not in caught.value.diagnostics()


@given(st.binary(max_size=200))
def test_other_bytes_are_no_entry(data):
    assert parse(data) is None


@given(st.integers(0, 10_000))
def test_a_changed_byte_is_no_entry_or_another_one(place):
    data = prepare(sample("stage")).numbered(7)
    changed = flipped(data, place % (8 * len(data)))
    if parse(changed) is not None:
        assert rfc8785.dumps(json.loads(changed)) == changed != data


def test_the_time_is_filled_in_where_it_is_missing(tmp_path):
    with made(tmp_path / "l.db", 0) as ledger:
        ledger.append([{k: v for k, v in event(1).items() if k != "at"}] * 2)
        times = [json.loads(each.data)["at"] for each in ledger.entries()]
    assert times
    assert all(each.endswith("Z") and len(each) == 27 for each in times)
