"""A benchmark is made in shards on several machines: together they are all of it, and none is silently nothing."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from dataclasses import dataclass
from itertools import chain

import pytest

from benchmarks.parts import Part, run, shard_of


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
    parts = [made(monkeypatch, f"{i}/{shards}") for i in range(1, shards + 1)]
    assert sorted(chain(*parts)) == sorted(f"{group}{i}" for i in range(3) for group in "abcde")
    assert sum(len({name[0] for name in part}) for part in parts) == 5


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected I/N"):
        shard_of(text)
