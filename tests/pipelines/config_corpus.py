"""The quickstart config, line by line, and ways to break one line of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from pipelines.config import RunConfig
from tests.support import QUICKSTART

TEXT = QUICKSTART.read_text("utf-8")
FREE = ("generate", "prompts")  # its keys are the user's own


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One key of the file: where it is, and its value if it is a leaf."""

    key: tuple[str, ...]
    line: int
    value: Any

    @property
    def dotted(self) -> str:
        return ".".join(self.key)

    @property
    def is_leaf(self) -> bool:
        return not isinstance(self.value, dict)


def _entries(node: yaml.MappingNode, at: tuple[str, ...]) -> list[Entry]:
    found = []
    for key_node, value_node in node.value:
        key = (*at, key_node.value)
        inner = _entries(value_node, key) if isinstance(value_node, yaml.MappingNode) else []
        value = {} if inner else yaml.safe_load(value_node.value) if value_node.style is None else value_node.value
        found += [Entry(key=key, line=key_node.start_mark.line + 1, value=value), *inner]
    return found


ENTRIES = _entries(yaml.compose(TEXT), ())
LEAVES = [entry for entry in ENTRIES if entry.is_leaf]
BY_NAME = {entry.dotted: entry for entry in ENTRIES}


def typo(name: str) -> str:
    """The name as a hurried person writes it."""
    return name[:-2] + name[-1] if len(name) > 4 else name + name[-1]


def with_typo(entry: Entry) -> str:
    return _edit(entry, lambda line: line.replace(f"{entry.key[-1]}:", f"{typo(entry.key[-1])}:", 1))


def with_value(entry: Entry, value: str) -> str:
    """The file with another value (any text) on one line."""
    return _edit(entry, lambda line: line[: line.index(":")] + f": {value}")


def without(entry: Entry) -> str:
    """The file without a leaf."""
    lines = TEXT.split("\n")
    return "\n".join(lines[: entry.line - 1] + lines[entry.line :])


def repeated(entry: Entry) -> str:
    """The file with a leaf twice."""
    lines = TEXT.split("\n")
    return "\n".join([*lines[: entry.line], lines[entry.line - 1], *lines[entry.line :]])


def required(model: Any = RunConfig, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key without a default, sections included."""
    found = []
    for name, field in model.model_fields.items():
        if field.is_required():
            found.append((*at, name))
        if hasattr(field.annotation, "model_fields"):
            found += required(field.annotation, (*at, name))
    return found


def _edit(entry: Entry, change: Any) -> str:
    lines = TEXT.split("\n")
    changed = change(lines[entry.line - 1])
    assert changed != lines[entry.line - 1]
    lines[entry.line - 1] = changed
    return "\n".join(lines)
