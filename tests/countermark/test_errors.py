"""The tree that is drawn is the tree that is."""

from __future__ import annotations

import inspect
import re

import pytest

from countermark import errors
from countermark.errors import CountermarkError

CLASSES = {name: cls for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, CountermarkError)}


def _drawn() -> dict[str, tuple[str | None, int]]:
    """Name to (parent, exit code), read off the drawing's indentation."""
    found: dict[str, tuple[str | None, int]] = {}
    open_at: list[tuple[int, str]] = []
    for line in inspect.getdoc(errors).splitlines():
        match = re.match(r"^([\s│├└─]*)(\w*Error)\s+(\d+)\s", line)
        if match:
            depth, name = len(match.group(1)), match.group(2)
            open_at = [(d, n) for d, n in open_at if d < depth]
            assert name not in found
            found[name] = (open_at[-1][1] if open_at else None, int(match.group(3)))
            open_at.append((depth, name))
    return found


def test_the_drawing_names_every_class_its_parent_and_its_exit_code():
    actual = {
        name: (cls.__base__.__name__ if cls is not CountermarkError else None, cls.exit_code)
        for name, cls in CLASSES.items()
    }
    assert _drawn() == actual


def test_everything_public_is_exported_and_sorted():
    public = {name for name in vars(errors) if not name.startswith("_") and name != "annotations"}
    assert set(errors.__all__) == public
    groups = [n for n in errors.__all__ if n.isupper()], [n for n in errors.__all__ if not n.isupper()]
    assert errors.__all__ == [*sorted(groups[0]), *sorted(groups[1])]


def test_exit_codes_are_the_published_ones():
    codes = {name: value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert codes == {
        "EXIT_OK": 0, "EXIT_NOT_SUPPORTED": 1, "EXIT_USAGE": 2, "EXIT_INTEGRITY": 3, "EXIT_UNREACHABLE": 4,
        "EXIT_INCONCLUSIVE": 5, "EXIT_INTERNAL": 70, "EXIT_INTERRUPTED": 130,
    }  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("hint", ["", "do this\nand\tthat"])
def test_diagnostics_are_two_lines_whatever_the_text(name, hint):
    text = CLASSES[name]("got\r\na\u2028 b\x0bc\nerror: d", hint=hint).diagnostics()
    lines = text.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: got")
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > len("hint: ")
