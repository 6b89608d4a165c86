"""What opens a commitment: the key, or only the leaves of the planned triggers, so that the rest stays secret.

With the key a verifier derives everything again. With leaves it checks that triggers and targets are those of a tree
whose root was published with the release; it cannot check that the tree came from the committed key
(:data:`LEAVES_NOT_REDERIVED`). Leaves exist for claims of many triggers with one independent target each; token marks,
single triggers and text marks need the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import digest
from verification import merkle
from watermarks.keys import Key, commitment_opens
from watermarks.leaves import KEYED, Leaf, classes_of, commit, parameters, recipients_of, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verification.plan import Claim

LEAVES_NOT_REDERIVED = (
    "assumes that the owner derived the opened triggers and targets from the committed key: only leaves were opened, "
    "and leaves that were chosen before the release would look the same"
)
_HINT = "open the key instead, or use the opening of the release that the plan cites"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLeaf:
    """A leaf with the path that leads from it to the root, siblings from the leaf up."""

    leaf: Leaf
    path: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLeaves:
    """What is opened of one claim.

    Args:
        mark: the parameters that the published root binds.
        root: the Merkle root over all leaves of the release.
        leaves: of the planned triggers, for the recipients of the claim.
        paper: prompts of arms that decide nothing (the paper's own numbers), word for word: a key would derive them.
    """

    mark: Mapping[str, Any]
    root: bytes
    leaves: tuple[OpenLeaf, ...]
    paper: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafOpening:
    """The opened leaves of every claim of one plan. Check it with :func:`check_opening` before use."""

    claims: Mapping[Claim, ClaimLeaves]

    def triggers(self, claim: Claim, mark: Mapping[str, Any], first: int, stop: int) -> tuple[str, ...]:
        """The triggers first … stop - 1 of the release.

        Raises:
            IntegrityError: one of them was not opened, or ``mark`` is not the mark that was committed.
        """
        recipient = recipients_of(self._of(claim, mark).mark)[0]
        return tuple(leaf.trigger for leaf in self._leaves(claim, mark, first, stop, recipient))

    def targets(
        self, claim: Claim, mark: Mapping[str, Any], first: int, stop: int, recipient: str = ""
    ) -> tuple[int, ...]:
        """The targets of the same triggers for one recipient; raises as :meth:`triggers`."""
        return tuple(leaf.target for leaf in self._leaves(claim, mark, first, stop, recipient))

    def paper(self, claim: Claim, arm: str, count: int) -> tuple[str, ...]:
        """The ``count`` prompts of an arm that no leaf holds.

        Raises:
            IntegrityError: not as many.
        """
        prompts = self.claims[claim].paper.get(arm, ())
        if len(prompts) != count:
            raise IntegrityError(f"got {len(prompts)} opened prompts of arm {arm}, expected {count}", hint=_HINT)
        return prompts

    def _of(self, claim: Claim, mark: Mapping[str, Any]) -> ClaimLeaves:
        found = self.claims.get(claim)
        if found is None:
            raise IntegrityError(f"got no opened leaves of claim {claim}, expected some", hint=_HINT)
        if digest(parameters(claim, mark)) != digest(found.mark):
            raise IntegrityError(
                f"got a {claim} mark with other parameters than the published leaves have, expected the same",
                hint="a plan may choose which triggers it asks, and nothing else of a mark",
            )
        return found

    def _leaves(self, claim: Claim, mark: Mapping[str, Any], first: int, stop: int, recipient: str) -> list[Leaf]:
        opened = {
            each.leaf.index: each.leaf for each in self._of(claim, mark).leaves if each.leaf.recipient == recipient
        }
        if missing := [index for index in range(first, stop) if index not in opened]:
            who = f" for {recipient}" if recipient else ""
            raise IntegrityError(f"got no opened leaf {missing[0]} of claim {claim}{who}, expected one", hint=_HINT)
        return [opened[index] for index in range(first, stop)]


Opened = Key | LeafOpening
"""What a verifier derives from. A wrong key is always a :class:`Key`: anyone can derive it."""


def needs_key(opened: Opened, claim: Claim) -> Key:
    """The key itself, for claims that no leaves can open.

    Raises:
        UsageError: only leaves were opened.
    """
    if isinstance(opened, LeafOpening):
        raise UsageError(
            f"got a leaf opening for claim {claim}, expected the key: leaves exist for {', '.join(KEYED)} alone",
            hint="open the key, or leave the claim out of the plan",
        )
    return opened


def check_opening(opened: Opened, commitment: Mapping[str, Any]) -> None:
    """Checks that what was opened is what had been committed to.

    Raises:
        IntegrityError: it is not: another key, another marking config, leaves under no published root.
    """
    if isinstance(opened, LeafOpening):
        for claim, part in opened.claims.items():
            _check_leaves(claim, part, commitment)
        return
    if not commitment_opens(commitment["sha256"], opened, commitment["config_digest"]):
        raise IntegrityError(
            f"got key {opened.key_id}, which does not open commitment {commitment['sha256'][:16]}…",
            hint="use the key ring that was committed, and the marking config of that release",
        )


def _check_leaves(claim: Claim, part: ClaimLeaves, commitment: Mapping[str, Any]) -> None:
    if claim not in KEYED:
        raise IntegrityError(f"got leaves of claim {claim}, expected some of {', '.join(KEYED)}", hint=_HINT)
    published = (commitment.get("leaf_roots") or {}).get(claim)
    if published is None or commit(claim, part.mark, part.root) != published:
        raise IntegrityError(
            f"got {claim} leaves under root {part.root.hex()[:16]}…, expected the root and parameters that were "
            "published with the release",
            hint=_HINT,
        )
    recipients, units = recipients_of(part.mark), units_of(claim, part.mark)
    classes, size = classes_of(claim, part.mark) or 0, units * len(recipients)
    triggers: dict[int, str] = {}
    seen: set[tuple[int, str]] = set()
    for each in part.leaves:
        leaf, place = each.leaf, (each.leaf.index, each.leaf.recipient)
        known = leaf.recipient in recipients and 0 <= leaf.index < units and 0 <= leaf.target < classes
        if not known or place in seen or triggers.setdefault(leaf.index, leaf.trigger) != leaf.trigger:
            raise IntegrityError(
                f"got leaf {leaf.index} of claim {claim} twice or out of range, expected one each", hint=_HINT
            )
        seen.add(place)
        if not merkle.verify_inclusion(
            merkle.leaf_hash(leaf.data()), index=leaf.index * len(recipients) + recipients.index(leaf.recipient),
            size=size, proof=each.path, root=part.root,
        ):  # fmt: skip
            raise IntegrityError(
                f"got leaf {leaf.index} of claim {claim}, which is not under the published root, expected one that is",
                hint=_HINT,
            )
