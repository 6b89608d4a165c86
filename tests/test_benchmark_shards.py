"""A benchmark is made in shards on several machines: together they are all of it, and none is silently nothing."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from benchmarks import parts, rows
from benchmarks.parts import Part, run, shard_of

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Named:
    name: str


def made(monkeypatch: pytest.MonkeyPatch, shard: str) -> list[str]:
    done: list[str] = []
    part = Part(
        rows=list, recipes=lambda: [Named(f"{group}{i}") for i in range(3) for group in "abcde"],
        make=lambda recipe: done.append(recipe.name), group=lambda recipe: recipe.name[0],
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["bench", "--shard", shard])
    run("none", {"part": part}, draw=len, doc=None)
    return done


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_share_the_recipes_and_keep_groups_together(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    shares = [made(monkeypatch, f"{i}/{shards}") for i in range(1, shards + 1)]
    assert sorted(chain(*shares)) == sorted(f"{group}{i}" for i in range(3) for group in "abcde")
    assert sum(len({name[0] for name in share}) for share in shares) == 5


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected I/N"):
        shard_of(text)


def test_a_part_that_is_made_meanwhile_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (parts, rows):
        monkeypatch.setattr(module, "RESULTS", tmp_path)

    def slow() -> list[rows.Row]:
        rows.write("area", [{"name": "made meanwhile", "part": "quick"}, {"name": "of last year", "part": "slow"}])
        return [row]

    row = rows.row("figure", 1.0, trials=1, seconds=0.0, command="true")
    monkeypatch.setattr(sys, "argv", ["bench", "slow"])
    run("area", {"slow": Part(rows=slow), "quick": Part(rows=list)}, draw=len, doc=None)
    assert [each["name"] for each in json.loads((tmp_path / "area.json").read_text())] == ["figure", "made meanwhile"]
