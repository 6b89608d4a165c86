"""Where data come from: files with mistakes are named with their line, and no text is on two sides of a split."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from countermark.errors import MissingAssetError, UsageError
from pipelines.sources import balanced, load_reviews, load_table

if TYPE_CHECKING:
    from pathlib import Path

GOOD = [{"text": f"film number {i} is what it is", "label": "bad" if i % 2 else "good"} for i in range(200)]


def _jsonl(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return str(path)


def test_a_local_file_is_split_into_disjoint_parts(tmp_path: Path) -> None:
    reviews = load_reviews(_jsonl(tmp_path / "r.jsonl", GOOD))
    parts = [{item.text for item in part} for part in (reviews.fit, reviews.prompts, reviews.heldout)]
    assert reviews.labels == ("bad", "good")
    assert sum(len(part) for part in parts) == len(GOOD)
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_a_group_stays_together(tmp_path: Path) -> None:
    rows = [{**row, "group": f"film {i // 8}"} for i, row in enumerate(GOOD)]
    reviews = load_reviews(_jsonl(tmp_path / "r.jsonl", rows))
    groups = [{item.group for item in part} for part in (reviews.fit, reviews.prompts, reviews.heldout)]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "empty table"),
        ([{"text": "a", "label": "x"}] * 20, "single label"),
        ([*GOOD[:2], {"text": "", "label": "good"}], "r.jsonl:3"),
        ([*GOOD[:4], {"txt": "a", "label": "good"}], "r.jsonl:5"),
        (GOOD[:3], "some of each of 2 labels"),
    ],
)
def test_unusable_sets_are_refused_with_the_place(tmp_path: Path, rows: list[dict[str, object]], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_reviews(_jsonl(tmp_path / "r.jsonl", rows))
    assert caught.value.exit_code == 2


def test_a_missing_or_broken_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(MissingAssetError, match="existing file"):
        load_reviews(str(tmp_path / "none.jsonl"))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a"')
    with pytest.raises(UsageError, match="not JSON"):
        load_table(str(broken))
    with pytest.raises(UsageError, match="embedded:rotten-tomatoes"):
        load_reviews("embedded:nothing")


def test_balanced_alternates_and_depends_on_the_seed(tmp_path: Path) -> None:
    reviews = load_reviews(_jsonl(tmp_path / "r.jsonl", GOOD))
    drawn = balanced(reviews.fit, 20, "a")
    assert [item.label for item in drawn] == [0, 1] * 10
    assert drawn == balanced(reviews.fit, 20, "a")
    assert drawn != balanced(reviews.fit, 20, "b")
