"""Makes what :mod:`verification.opening` checks: the root that a release publishes, opened leaves, and their JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from verification import double_i, merkle
from verification.claims import derive_input_level, derive_targets, robust_triggers, slice_of
from verification.opening import ClaimLeaves, LeafOpening, Opened, OpenLeaf, needs_key
from verification.plan import Claim, ClaimPlan
from watermarks.keys import Key
from watermarks.leaves import KEYED, Leaf, commit, leaf_nonce, parameters, recipients_of, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY_KIND, LEAVES_KIND = "key", "leaves"


def leaf_root(key: Key, claim: Claim, mark: Mapping[str, Any]) -> str:
    """What a release publishes of a claim's leaves (hex), so that some can be opened later without the key.

    A pure function of key and mark; the slice that a plan asks is no part of it.

    Raises:
        UsageError: the claim has no leaves.
    """
    return commit(claim, mark, merkle.root_of([merkle.leaf_hash(leaf.data()) for leaf in all_leaves(key, claim, mark)]))


def all_leaves(key: Key, claim: Claim, mark: Mapping[str, Any]) -> list[Leaf]:
    """Every leaf of the release: index by index, within one in the order of the recipients.

    Raises:
        UsageError: the claim has no leaves.
    """
    if claim not in KEYED:
        needs_key(LeafOpening(claims={}), claim)
    whole = {name: value for name, value in mark.items() if name not in {"first", "count"}}
    triggers = _triggers(key, claim, whole)
    recipients = recipients_of(whole)
    targets = {who: derive_targets(key, claim, whole, who) for who in recipients}
    return [
        Leaf(
            index=i, recipient=who, trigger=triggers[i], target=targets[who][i],
            nonce=leaf_nonce(key, claim, whole, index=i, recipient=who),
        )
        for i in range(units_of(claim, whole))
        for who in recipients
    ]  # fmt: skip


def open_leaves(key: Key, claim: Claim, mark: Mapping[str, Any], first: int, count: int) -> ClaimLeaves:
    """Opens the triggers first … first + count - 1 with the targets of all recipients, who are all scored.

    Raises:
        UsageError: the claim has no leaves. InconclusiveError: no such triggers.
    """
    leaves = all_leaves(key, claim, mark)
    start, stop = slice_of({"triggers": units_of(claim, mark), "first": first, "count": count})
    nodes = merkle.nodes_of([merkle.leaf_hash(leaf.data()) for leaf in leaves])
    judge = double_i.judge_of(mark) if claim is Claim.DOUBLE_I else None
    return ClaimLeaves(
        mark=parameters(claim, mark),
        root=merkle.range_root(0, len(leaves), nodes),
        leaves=tuple(
            OpenLeaf(leaf=leaf, path=tuple(merkle.inclusion_proof(place, len(leaves), nodes)))
            for place, leaf in enumerate(leaves)
            if start <= leaf.index < stop
        ),
        paper=double_i.paper_prompts(key, mark, judge) if judge else {},
    )


def open_plan(key: Key, claims: Sequence[ClaimPlan]) -> LeafOpening:
    """Opens what a plan asks, claim by claim, and nothing else.

    Raises:
        UsageError: a claim needs the key.
    """
    opened = {}
    for claim in claims:
        total = units_of(claim.claim, claim.mark) if claim.claim in KEYED else 0
        first, count = claim.mark.get("first", 0), claim.mark.get("count", total)
        opened[claim.claim] = open_leaves(key, claim.claim, claim.mark, first, count)
    return LeafOpening(claims=opened)


def opening_to_json(opened: Opened) -> dict[str, Any]:
    """Plain JSON. An opened key is public from then on: its marks can be found, removed and forged by anybody.

    The public value B is no part of it: it is the commitment's, and no opening may choose another.
    """
    if isinstance(opened, LeafOpening):
        return {"kind": LEAVES_KIND, "claims": {str(name): _part_to_json(part) for name, part in opened.claims.items()}}
    secret, nonce = opened.secret.hex(), opened.nonce.hex()
    return {"kind": KEY_KIND, "key_id": opened.key_id, "secret": secret, "nonce": nonce}


def opening_from_json(body: Mapping[str, Any], commitment: Mapping[str, Any]) -> Opened:
    """What :func:`opening_to_json` wrote; a key is salted with the commitment's public value B, where it has one.

    Raises:
        IntegrityError: another shape.
    """
    try:
        if body["kind"] == KEY_KIND and set(body) == {"kind", "key_id", "secret", "nonce"}:
            secret, nonce = _bytes(body["secret"]), _bytes(body["nonce"])
            return Key(key_id=_text(body["key_id"]), secret=secret, nonce=nonce, salt=salt_of(commitment))
        if body["kind"] == LEAVES_KIND and set(body) == {"kind", "claims"} and body["claims"]:
            claims = {Claim(name): _part_from_json(part) for name, part in body["claims"].items()}
            return LeafOpening(claims=claims)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise IntegrityError(f"got an opening of another shape ({error}), expected a key or leaves") from None
    raise IntegrityError("got an opening of another shape, expected a key or leaves")


def salt_of(commitment: Mapping[str, Any]) -> bytes:
    """The salt of every derivation under a commitment: its public value B, or nothing."""
    public = commitment.get("public_value")
    return public["value"].encode() if public else b""


def _triggers(key: Key, claim: Claim, mark: Mapping[str, Any]) -> tuple[str, ...]:
    if claim is Claim.INPUT_LEVEL:
        return derive_input_level(key, mark).triggers
    return double_i.codewords(key, mark) if claim is Claim.DOUBLE_I else robust_triggers(key, mark)


def _part_to_json(part: ClaimLeaves) -> dict[str, Any]:
    return {
        "mark": dict(part.mark),
        "root": part.root.hex(),
        "leaves": [
            {
                "index": each.leaf.index, "recipient": each.leaf.recipient, "trigger": each.leaf.trigger,
                "target": each.leaf.target, "nonce": each.leaf.nonce.hex(), "path": [node.hex() for node in each.path],
            }
            for each in part.leaves
        ],
        "paper": {arm: list(prompts) for arm, prompts in part.paper.items()},
    }  # fmt: skip


def _part_from_json(body: Mapping[str, Any]) -> ClaimLeaves:
    _fields(body, "mark", "root", "leaves", "paper")
    return ClaimLeaves(
        mark=dict(body["mark"]),
        root=_bytes(body["root"]),
        leaves=tuple(map(_leaf_from_json, body["leaves"])),
        paper={arm: tuple(map(_text, prompts)) for arm, prompts in body["paper"].items()},
    )


def _leaf_from_json(body: Mapping[str, Any]) -> OpenLeaf:
    _fields(body, "index", "recipient", "trigger", "target", "nonce", "path")
    leaf = Leaf(
        index=_integer(body["index"]), recipient=_text(body["recipient"]), trigger=_text(body["trigger"]),
        target=_integer(body["target"]), nonce=_bytes(body["nonce"]),
    )  # fmt: skip
    return OpenLeaf(leaf=leaf, path=tuple(map(_bytes, body["path"])))


def _fields(body: Mapping[str, Any], *names: str) -> None:
    if set(body) != set(names):
        raise ValueError(f"fields other than {', '.join(names)}")


def _bytes(value: Any) -> bytes:  # noqa: ANN401 - JSON is what it is
    """Hex in its one spelling of 32 bytes."""
    found = bytes.fromhex(value)
    if found.hex() != value or len(found) != merkle.HASH_BYTES:
        raise ValueError("hex that is not 32 bytes in lower case")
    return found


def _text(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise TypeError("no text where one was expected")
    return value


def _integer(value: Any) -> int:  # noqa: ANN401
    if type(value) is not int:
        raise TypeError("no integer where one was expected")
    return value
