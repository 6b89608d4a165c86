"""What a ledger may hold: a closed set of flat events, each of one canonical spelling.

An event is a JSON object of times, digests, identifiers, counts and words of closed sets; nothing else fits. There is
no field for a text, and an identifier is short ASCII without spaces, so that a prompt or an answer cannot slip in
unnoticed (a key in hex would look like a digest: callers must not do that). No floats, no nesting.

The canonical JSON (RFC 8785) of such an object is a regular language. Each kind is therefore one regular expression
over bytes: it checks fields, types, order and spelling at once, when an event is appended and when a log is verified.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Event = dict[str, Any]

DIGEST = r'"[0-9a-f]{64}"'
NAME = r'"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}"'
COUNT = r"(?:0|[1-9][0-9]{0,14})"
_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
TIME = f'"{_DATE}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{{1,6}})?Z"'
_SAID = {DIGEST: "64 hex digits", NAME: "an identifier: ASCII without spaces, at most 128", COUNT: "a count",
         TIME: "UTC as 2026-01-31T23:59:59Z"}  # fmt: skip


def _words(*words: str) -> str:
    return '"(?:' + "|".join(words) + ')"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The fields of one kind of event, besides ``at``, ``event``, ``id`` and ``seq``, each with its pattern."""

    required: Mapping[str, str]
    optional: Mapping[str, str]
    pattern: re.Pattern[bytes]


def _shape(kind: str, required: Mapping[str, str], optional: Mapping[str, str] | None = None) -> Shape:
    """Compiles the one spelling. Groups: what is before the id, the id, what is between, the number, the rest."""
    optional = optional or {}
    everywhere = {"at": TIME, "event": f'"{kind}"', "id": DIGEST, "seq": COUNT}
    pattern = r"(\{"
    for number, name in enumerate(sorted({**everywhere, **required, **optional})):
        comma = "," if number else ""
        value = {**everywhere, **required, **optional}[name]
        if name == "id":
            pattern += f')(?:{comma}"id":"([0-9a-f]{{64}})")?('
        elif name == "seq":
            pattern += f')(?:{comma}"seq":({COUNT}))?('
        else:
            field = f'{comma}"{name}":{value}'
            pattern += f"(?:{field})?" if name in optional else field
    return Shape(required=required, optional=optional, pattern=re.compile((pattern + r"\})").encode()))


SHAPES: Mapping[str, Shape] = {
    kind: _shape(kind, *fields)
    for kind, fields in {
        # a transition of a key ring (watermarks.keyevents), flattened
        "key": (
            {"kind": NAME, "ring": NAME, "sequence": COUNT},
            {"previous": DIGEST, "key_id": NAME, "version": COUNT, "from": NAME, "to": NAME, "replaced": NAME,
             "until": TIME, "destroy_after": TIME, "sha256": DIGEST, "config_digest": DIGEST},
        ),
        "commitment": ({"key_id": NAME, "sha256": DIGEST}, {"config_digest": DIGEST, "release": NAME}),
        # hashes of prompt and output, never the texts
        "generation": (
            {"key_id": NAME, "prompt_sha256": DIGEST, "output_sha256": DIGEST, "tokens": COUNT},
            {"scheme": NAME, "model_sha256": DIGEST, "request": NAME},
        ),
        "release": ({"manifest_sha256": DIGEST}, {"commitment_sha256": DIGEST, "name": NAME, "recipients": COUNT}),
        "plan": ({"plan_sha256": DIGEST}, {"audit": NAME, "suspect": NAME, "release_sha256": DIGEST, "queries": COUNT}),
        "audit": (
            {"plan_sha256": DIGEST, "verdict_sha256": DIGEST,
             "decision": _words("supported", "not_supported", "inconclusive")},
            {"audit": NAME, "suspect": NAME, "claim": NAME},
        ),
        # triggers first … first + count - 1 of a release were shown to a suspect
        "spent": ({"audit": NAME, "suspect": NAME, "first": COUNT, "count": COUNT}, {"release_sha256": DIGEST}),
        # one question to a detection service, and the class that was answered
        "query": ({"request_sha256": DIGEST, "endpoint": NAME, "answer": NAME}, {"client": NAME, "key_id": NAME}),
        "stage": (
            {"run": NAME, "line": COUNT, "stage": NAME, "phase": NAME},
            {"digest": DIGEST, "milliseconds": COUNT},
        ),
    }.items()
}  # fmt: skip
ID_BYTES = 32
_SHOWN = 40
_ID = re.compile(rb'"id":"([0-9a-f]{64})"')
_KIND = re.compile(rb'"event":"([a-z]+)"')
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked event that waits for its number: ``head``, the number, ``tail`` are the entry's bytes."""

    id: bytes
    head: bytes
    tail: bytes

    def numbered(self, seq: int) -> bytes:
        """The entry's bytes, if it becomes number ``seq``."""
        return b'%b,"seq":%d%b' % (self.head, seq, self.tail)


def now_text() -> str:
    """The time as entries hold it: UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def prepare(event: Mapping[str, Any]) -> Prepared:
    """Checks an event and spells it canonically.

    ``at`` is filled in where it is missing, then ``id`` with the digest of all the rest: the same event, retold with
    the same time, has the same id.

    Raises:
        UsageError: an unknown kind, or a field that is missing, unknown or of another type; named.
    """
    shape = SHAPES.get(event.get("event", "")) if isinstance(event.get("event"), str) else None
    if shape is not None and "seq" not in event:
        body = event if "at" in event else {"at": now_text(), **event}
        try:
            data = _encode(body).encode()
        except (TypeError, ValueError, RecursionError):
            data = b""
        found = shape.pattern.fullmatch(data)
        if found is not None:
            before, known, between, _, tail = found.groups()
            new = hashlib.sha256(data).hexdigest().encode() if known is None else known
            return Prepared(bytes.fromhex(new.decode()), b'%b,"id":"%b"%b' % (before, new, between), tail)
    raise _explain(event)


def id_of(data: bytes) -> bytes:
    """The id in an entry's bytes, without a look at the rest; zeros where there is none."""
    found = _ID.search(data)
    return bytes.fromhex(found[1].decode()) if found else bytes(ID_BYTES)


def parse(data: bytes) -> tuple[int, bytes] | None:
    """Number and id of an entry, or None where ``data`` is not the one spelling of an event with both."""
    kind = _KIND.search(data)
    shape = SHAPES.get(kind.group(1).decode()) if kind else None
    found = shape.pattern.fullmatch(data) if shape else None
    if found is None or found[2] is None or found[4] is None:
        return None
    return int(found[4]), bytes.fromhex(found[2].decode())


def _explain(event: Mapping[str, Any]) -> UsageError:
    """Why an event is none, field by field."""
    kind = event.get("event")
    if not isinstance(kind, str) or kind not in SHAPES:
        return UsageError(f"got an event of kind {_show(kind)}, expected one of: {', '.join(SHAPES)}")
    shape = SHAPES[kind]
    hint = f"{kind}: {', '.join(shape.required)}" + "".join(f", [{name}]" for name in shape.optional)
    fields = {"at": TIME, "event": NAME, "id": DIGEST, **shape.required, **shape.optional}
    for name in shape.required:
        if name not in event:
            return UsageError(f"got a {kind!r} event without {name!r}, expected one", hint=hint)
    for name, value in event.items():
        if name not in fields:
            return UsageError(f"got a {kind!r} event with {_show(name)}, expected no such field", hint=hint)
        spelled = _encode(value) if isinstance(value, str | int) else ""
        if not re.fullmatch(fields[name], spelled):
            expected = _SAID.get(fields[name], fields[name])
            return UsageError(f"got {name}: {_show(value)} in a {kind!r} event, expected {expected}", hint=hint)
    return UsageError(f"got a {kind!r} event that cannot be spelled canonically, expected one that can")


def _show(value: object) -> str:
    """A wrong value, cut: it may be just what must not be in a ledger, and errors are logged."""
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"a text of {len(value)} characters"
    return repr(value)[:_SHOWN]
