"""A small strict reader of DER (ITU-T X.690): what a time stamp needs, and nothing more.

Lengths are definite and in their shortest form, tags below 31; anything else is refused. No value is copied twice, and
nothing recurses over foreign depth: children are read one level at a time, on demand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from countermark.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
GENERALIZED_TIME, SEQUENCE, SET = 0x18, 0x30, 0x31
CONTEXT = 0xA0
"""Tag of ``[0]`` where it is constructed; add the number."""
_LONG_LENGTH, _MOST_LENGTH_BYTES, _HIGH_TAG = 0x80, 4, 0x1F


class DerError(IntegrityError):
    """Bytes that are no DER, or DER of another structure than expected."""

    def __init__(self, got: str) -> None:
        super().__init__(f"got {got}, expected DER", hint="fetch the time stamp again")


@dataclass(frozen=True, slots=True)
class Node:
    """One value: its tag, its content, and the bytes of the whole."""

    tag: int
    body: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    def expect(self, tag: int) -> Node:
        """This node, if it has ``tag``."""
        if self.tag != tag:
            raise DerError(f"tag {self.tag:#04x} instead of {tag:#04x}")
        return self

    def children(self) -> list[Node]:
        """The values inside a constructed one."""
        if not self.tag & 0x20:
            raise DerError(f"a primitive value of tag {self.tag:#04x} instead of a constructed one")
        found, rest = [], self.body
        while rest:
            node, rest = _first(rest)
            found.append(node)
        return found

    def sequence(self, least: int) -> list[Node]:
        """The children of a SEQUENCE that has at least so many."""
        found = self.expect(SEQUENCE).children()
        if len(found) < least:
            raise DerError(f"a sequence of {len(found)} instead of {least} or more")
        return found

    def oid(self) -> str:
        """An OBJECT IDENTIFIER in dotted decimal."""
        numbers, value = [], 0
        for place, byte in enumerate(self.expect(OID).body):
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                numbers.append(value)
                value = 0
            elif place == len(self.body) - 1:
                raise DerError("an identifier that breaks off")
        if not numbers:
            raise DerError("an empty identifier")
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))

    def integer(self) -> int:
        """An INTEGER."""
        if not self.expect(INTEGER).body:
            raise DerError("an empty integer")
        return int.from_bytes(self.body, "big", signed=True)


def parse(data: bytes) -> Node:
    """The one value that ``data`` is.

    Raises:
        DerError: it is none, or more than one.
    """
    node, rest = _first(data)
    if rest:
        raise DerError(f"{len(rest)} bytes behind the value")
    return node


def encode(tag: int, *parts: bytes) -> bytes:
    """A value of ``tag`` over its parts."""
    body = b"".join(parts)
    if len(body) < _LONG_LENGTH:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, _LONG_LENGTH | len(length)]) + length + body


def encode_oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    return encode(OID, *(_base128(number) for number in (40 * first + second, *rest)))


def encode_integer(value: int) -> bytes:
    """An INTEGER that is not negative."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def find(nodes: Sequence[Node], tag: int) -> Node | None:
    """The first node of ``tag``."""
    return next((node for node in nodes if node.tag == tag), None)


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def _first(data: bytes) -> tuple[Node, bytes]:
    if len(data) < 2 or data[0] & _HIGH_TAG == _HIGH_TAG:  # noqa: PLR2004 - tag and length
        raise DerError("bytes that break off, or a tag beyond 30")
    length, start = data[1], 2
    if length & _LONG_LENGTH:
        count = length & 0x7F
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        shortest = max(1, (length.bit_length() + 7) // 8)
        if not 1 <= count <= _MOST_LENGTH_BYTES or length < _LONG_LENGTH or count != shortest:
            raise DerError("a length that is not in its shortest form")
    stop = start + length
    if stop > len(data):
        raise DerError(f"a value of {length} bytes of which {max(0, len(data) - start)} are there")
    return Node(data[0], data[start:stop], data[:stop]), data[stop:]
