"""YAML that remembers its lines, so that an error can name file, line and dotted key.

Safe tags only; duplicate keys, aliases (no bombs), huge files and deep nesting are refused. Floats follow YAML 1.2:
``1e-6`` is a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from countermark.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_CONFIG_BYTES = 1024 * 1024
MAX_DEPTH = 20

Dotted = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Parsed YAML: plain data, and the line of every key (1-based; 0 for values from ``--set``)."""

    path: str
    data: dict[str, Any]
    lines: dict[Dotted, int] = field(default_factory=dict)

    def where(self, key: Dotted) -> str:
        """``file:line: dotted.key`` of a key, or of its nearest parent that has a line."""
        probe = key
        while probe and probe not in self.lines:
            probe = probe[:-1]
        line = self.lines.get(probe, 1)
        place = f"{self.path}:{line}" if line else "--set"
        return f"{place}: {'.'.join(key)}" if key else place


def read_yaml(path: Path) -> Source:
    """Parses a config file.

    Raises:
        ConfigError: missing, unreadable or malformed, with the place.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"got no config file {path}, expected one", hint="see configs/ for files that run") from None
    except OSError as error:
        raise ConfigError(f"got {path}, which cannot be read ({error.strerror}), expected a YAML file") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"got {path} of {len(raw)} bytes, expected at most {MAX_CONFIG_BYTES}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"got {path} with a byte that is not UTF-8 at offset {error.start}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, path: str) -> Source:
    """Parses config text; ``path`` only names it in errors."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(f"{path}:{line}: got more than {MAX_DEPTH} levels, expected fewer")
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(
                    f"{path}:{line}: got the YAML alias '*{event.anchor}', expected plain values",
                    hint="write the value out",
                )
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(
            f"{path}:{line}: got YAML that cannot be parsed ({error.problem}), expected 'key: value' lines",
            hint="check indentation (spaces, never tabs), quotes and colons on this line",
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}:1: got text that is not YAML ({error}), expected 'key: value' lines") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: got an empty file or a bare value, expected 'key: value' lines")
    lines: dict[Dotted, int] = {}
    data = _construct(node, (), lines, path)
    return Source(path=path, data=data, lines=lines)


def with_overrides(source: Source, overrides: list[str]) -> Source:
    """``source`` with every ``a.b=value`` of ``--set`` applied; values are parsed as YAML."""
    data = _copy(source.data)
    lines = dict(source.lines)
    for override in overrides:
        name, equals, text = override.partition("=")
        keys = tuple(name.strip().split("."))
        if not equals or not all(keys):
            raise ConfigError(f"--set: got {override!r}, expected a.b=value", hint="for example --set seed=7")
        parent = data
        for key in keys[:-1]:
            parent = parent.setdefault(key, {})
            if not isinstance(parent, dict):
                raise ConfigError(f"--set: got {name!r}, expected a key: {key!r} holds a value")
        parsed = parse_yaml(f"value: {text}", "--set").data
        if set(parsed) != {"value"}:
            raise ConfigError(f"--set: got {override!r}, expected one value on one line")
        parent[keys[-1]] = parsed["value"]
        lines = {key: line for key, line in lines.items() if key[: len(keys)] != keys}
        lines[keys] = 0
    return Source(path=source.path, data=data, lines=lines)


def _construct(node: yaml.Node, at: Dotted, lines: dict[Dotted, int], path: str) -> Any:  # noqa: ANN401
    if len(at) > MAX_DEPTH:
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: got more than {MAX_DEPTH} levels, expected fewer")
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{path}:{line}: got a key that is no plain word, expected 'key: value'")
            key = str(key_node.value)
            dotted = (*at, key)
            if key in result:
                raise ConfigError(
                    f"{path}:{line}: {'.'.join(dotted)}: got this key twice, expected once "
                    f"(first at line {lines[dotted]})",
                    hint="remove one of the two",
                )
            lines[dotted] = line
            result[key] = _construct(value_node, dotted, lines, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[(*at, str(index))] = item.start_mark.line + 1
            items.append(_construct(item, (*at, str(index)), lines, path))
        return items
    return _scalar(node, at, path)


def _scalar(node: yaml.Node, at: Dotted, path: str) -> Any:  # noqa: ANN401
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{path}:{node.start_mark.line + 1}: {'.'.join(at)}: got {str(node.value)[:80]!r} ({problem}), "
            "expected a plain value"
        ) from None
    finally:
        loader.dispose()


def _copy(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
