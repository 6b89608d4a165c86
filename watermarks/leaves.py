"""Leaves of a release: what one trigger commits to, so that it can be shown without the key.

A leaf is one trigger (or codeword), one recipient, the target that the key gave the two, and a nonce of 32 bytes from
an HKDF label of the leaf's own. The nonce hides it: who sees a leaf's hash learns nothing about trigger and target,
and who sees some leaves opened learns nothing about the nonces of the others.

Leaves stand index by index, within an index in the order of the release's recipients. Number and order belong to the
commitment (:func:`commit`): a tree whose size or recipients were open could be read in two ways, and its owner would
choose the reading after looking at a suspect.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.manifest import canonical_json, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from watermarks.keys import Key

NONCE_BYTES = 32
_LEAF_DOMAIN = b"countermark/leaf/v1"
_TREE_DOMAIN = b"countermark/leaves/v1"
_PURPOSE = "leaf"

KEYED = ("input_level", "double_i", "output_robust")
"""Claims whose triggers can be opened one by one: one independent target each."""

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "token": ("scheme", "params", "tokenizer", "scope", "statistic"),
    "input_level": ("scope", "triggers", "classes", "words", "families", "vocabulary", "joiner"),
    "double_i": ("scope", "codewords", "words", "vocabulary", "word_joiner", "form", "recipients"),
    "double_i_trigger": ("scope", "judge"),
    "input_trigger": (
        "scope", "kind", "target", "target_of", "style", "rules_each", "families", "words", "vocabulary", "joiner",
        "decoys",
    ),
    "output_weak": ("scope", "lexicon", "baseline"),
    "output_robust": ("scope", "triggers", "words", "vocabulary", "joiner", "form", "first_line"),
    "output_steganographic": ("scope", "baseline"),
}  # fmt: skip
"""What decides a mark, by claim: fixed when the data are marked, and not a plan's to choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What one leaf says. ``index`` counts over the whole release, ``target`` over the mark's answers."""

    index: int
    recipient: str
    trigger: str
    target: int
    nonce: bytes = field(repr=False)

    def data(self) -> bytes:
        """The bytes that are hashed: domain-separated, every part with its length."""
        parts = (str(self.index), self.recipient, self.trigger, str(self.target))
        return framed(_LEAF_DOMAIN, *(part.encode() for part in parts), self.nonce)


def leaf_nonce(key: Key, claim: str, mark: Mapping[str, Any], *, index: int, recipient: str) -> bytes:
    """The nonce of one leaf, from a label of its own: it shares nothing with triggers, targets or other leaves."""
    label = {"purpose": _PURPOSE, "claim": claim, "scope": mark["scope"], "index": index, "recipient": recipient}
    return key.derive(label, NONCE_BYTES)


def commit(claim: str, mark: Mapping[str, Any], merkle_root: bytes) -> str:
    """What is published of a tree of leaves: SHA-256 (hex) over the mark's parameters and the Merkle root.

    The parameters fix how many leaves there are and what stands where.
    """
    said = canonical_json({"claim": claim, "mark": parameters(claim, mark)})
    return hashlib.sha256(framed(_TREE_DOMAIN, said, merkle_root)).hexdigest()


def mark_digest(claim: str, mark: Mapping[str, Any], answers: Sequence[str]) -> str:
    """What a release publishes of one mark's parameters and answers, secrets excepted: it has none of them.

    A plan names them again. Without this digest a plan could choose, after looking at a suspect, the order of the
    answers, the recipients' names or the vocabulary that fit best.
    """
    return digest({"claim": claim, "mark": parameters(claim, mark), "answers": list(answers)})


def parameters(claim: str, mark: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``mark`` that was decided at marking time."""
    if claim not in PARAMETERS:
        raise UsageError(f"got claim {claim!r}, expected one of: {', '.join(PARAMETERS)}")
    # a target that the key drew is the key's to show: there are few classes, and whoever tries them all would know it
    hidden = {"target"} if mark.get("target_of") is not None else set()
    return {name: mark[name] for name in PARAMETERS[claim] if name not in hidden and mark.get(name) is not None}


def units_of(claim: str, mark: Mapping[str, Any]) -> int:
    """How many triggers or codewords the release has."""
    return int(mark["codewords" if claim == "double_i" else "triggers"])


def classes_of(claim: str, mark: Mapping[str, Any]) -> int | None:
    """From how many answers the key draws each target; None for claims that the binomial does not decide."""
    if claim == "input_level":
        return int(mark["classes"])
    if claim == "double_i":
        return len(mark["form"]["answers"])
    return len(mark["form"]["openings"]) if claim == "output_robust" else None


def recipients_of(mark: Mapping[str, Any]) -> tuple[str, ...]:
    """The recipients of the release; one nameless where it has none."""
    return tuple(mark.get("recipients") or ("",))


def framed(*parts: bytes) -> bytes:
    """Every part with its length before it, as 8 bytes big-endian: no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
