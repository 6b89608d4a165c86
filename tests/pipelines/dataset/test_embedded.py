"""Samples of embedded tasks: balanced as far as the classes go, and never fewer rows than are asked for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from pipelines.dataset import embedded

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=5)


def lend(patch, sizes):
    """A task whose classes have these sizes."""
    rows = [{"text": f"{label}/{i}", "label": str(label)} for label, size in enumerate(sizes) for i in range(size)]
    patch.setitem(embedded._TASKS, "toy", lambda _: rows)
    return rows


@given(sizes=SIZES, share=st.floats(0.01, 1.0), seed=st.integers(0, 3))
def test_no_class_gives_less_than_another_while_it_has_rows_left(sizes, share, seed):
    count = max(1, round(share * sum(sizes)))
    with pytest.MonkeyPatch.context() as patch:
        lend(patch, sizes)
        found = embedded.embedded_rows("embedded:toy", part="train", count=count, seed=seed)
    assert len(found) == count == len({row["text"] for row in found})
    drawn = Counter(row["label"] for row in found)
    most = max(drawn.values())
    for label, size in enumerate(sizes):
        # the sample is cut to its count after the classes are drawn: each may lose as many as the cut takes
        assert drawn[str(label)] >= min(size, most) - len(sizes) - 1


def test_more_rows_than_there_are_is_refused(monkeypatch):
    rows = lend(monkeypatch, [3, 9])
    with pytest.raises(UsageError, match="at most the 12"):
        embedded.embedded_rows("embedded:toy", part="train", count=len(rows) + 1, seed=0)
