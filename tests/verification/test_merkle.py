"""The tree against the RFC's own recursion, against known roots, and against every bit of a proof."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import UsageError
from tests.support import vectors
from tests.verification.ledgers import flipped
from verification import merkle

MOST = 64
LEAVES = [merkle.leaf_hash(f"leaf {number}".encode()) for number in range(MOST)]


def mth(leaves):
    """RFC 6962, 2.1, word for word, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    """SUBPROOF(m, D[n], b)."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


ROOTS = [mth(LEAVES[:size]) for size in range(MOST + 1)]
NODES = merkle.nodes_of(LEAVES)


def test_published_roots_and_paths():
    known = vectors("merkle")
    leaves = [merkle.leaf_hash(bytes.fromhex(each)) for each in known["leaves"]]
    assert merkle.EMPTY_ROOT.hex() == known["empty_root"]
    assert [merkle.root_of(leaves[: n + 1]).hex() for n in range(len(leaves))] == known["roots"]
    nodes = merkle.nodes_of(leaves)
    for each in known["inclusion"]:
        assert [h.hex() for h in merkle.inclusion_proof(each["index"], each["size"], nodes)] == each["path"]
    for each in known["consistency"]:
        assert [h.hex() for h in merkle.consistency_proof(each["old"], each["new"], nodes)] == each["path"]


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_every_inclusion_proof_is_the_rfcs_and_verifies_for_its_own_place_alone(size):
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, NODES)
        assert proof == path(index, LEAVES[:size])
        for claimed in range(size):
            holds = merkle.verify_inclusion(LEAVES[index], index=claimed, size=size, proof=proof, root=ROOTS[size])
            assert holds == (claimed == index)


@pytest.mark.parametrize("new", range(1, MOST + 1))
def test_every_consistency_proof_is_the_rfcs_and_verifies_for_its_own_sizes_alone(new):
    for old in range(1, new + 1):
        proof = merkle.consistency_proof(old, new, NODES)
        assert proof == subproof(old, LEAVES[:new], True)
        for claimed in range(1, new + 1):
            holds = merkle.verify_consistency(
                old=claimed, new=new, old_root=ROOTS[old], new_root=ROOTS[new], proof=proof
            )
            assert holds == (claimed == old)


@pytest.mark.parametrize(("index", "size"), [(0, 2), (5, 7), (6, 7), (0, 1), (20, 33), (32, 33), (11, 64)])
def test_an_inclusion_proof_with_one_bit_changed_is_none(index, size):
    proof = merkle.inclusion_proof(index, size, NODES)
    good = {"leaf": LEAVES[index], "index": index, "size": size, "proof": proof, "root": ROOTS[size]}
    assert merkle.verify_inclusion(**good)
    for bit in range(256):
        for place, each in enumerate(proof):
            changed = [*proof[:place], flipped(each, bit), *proof[place + 1 :]]
            assert not merkle.verify_inclusion(**good | {"proof": changed})
        assert not merkle.verify_inclusion(**good | {"leaf": flipped(LEAVES[index], bit)})
        assert not merkle.verify_inclusion(**good | {"root": flipped(ROOTS[size], bit)})
    for bit in range(9):
        assert not merkle.verify_inclusion(**good | {"index": index ^ (1 << bit)})
    for shape in ([*proof, LEAVES[0]], [LEAVES[0], *proof], proof[:-1] or [b""], [b"", *proof], [proof, proof]):
        assert not merkle.verify_inclusion(**good | {"proof": shape})


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 7), (4, 7), (6, 8), (7, 7), (32, 33), (33, 64), (5, 64)])
def test_a_consistency_proof_with_one_bit_changed_is_none(old, new):
    proof = merkle.consistency_proof(old, new, NODES)
    good = {"old": old, "new": new, "old_root": ROOTS[old], "new_root": ROOTS[new], "proof": proof}
    assert merkle.verify_consistency(**good)
    for bit in range(256):
        for place, each in enumerate(proof):
            changed = [*proof[:place], flipped(each, bit), *proof[place + 1 :]]
            assert not merkle.verify_consistency(**good | {"proof": changed})
        assert not merkle.verify_consistency(**good | {"old_root": flipped(ROOTS[old], bit)})
        assert not merkle.verify_consistency(**good | {"new_root": flipped(ROOTS[new], bit)})
    for shape in ([*proof, LEAVES[0]], [LEAVES[0], *proof], proof[:-1] or [b""], [b"", *proof]):
        assert not merkle.verify_consistency(**good | {"proof": shape})
    assert not merkle.verify_consistency(**good | {"old": 0})
    assert not merkle.verify_consistency(**good | {"old": new + 1})


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=8), st.integers(-2, 70), st.integers(-2, 70))
def test_verifiers_answer_whatever_they_are_given(proof, one, two):
    assert not merkle.verify_inclusion(LEAVES[0], index=one, size=two, proof=proof, root=LEAVES[1])
    assert not merkle.verify_consistency(old=one, new=two, old_root=LEAVES[0], new_root=LEAVES[1], proof=proof)


@given(st.integers(0, MOST), st.integers(0, MOST))
def test_a_frontier_goes_on_where_it_was_taken_up(first, second):
    first, second = sorted((first, second))
    frontier = merkle.Frontier.at(first, NODES)
    assert frontier.root() == ROOTS[first]
    other = frontier.copy()
    for leaf in LEAVES[first:second]:
        frontier.add(leaf)
    assert (frontier.size, frontier.root()) == (second, ROOTS[second])
    assert (other.size, other.root()) == (first, ROOTS[first])


def test_whole_subtrees_are_added_at_once_and_only_where_they_fit():
    frontier = merkle.Frontier.at(16, NODES)
    frontier.add(merkle.complete_root(LEAVES[16:32]), level=4)
    assert frontier.root() == ROOTS[32]
    frontier.add(LEAVES[32])
    with pytest.raises(UsageError):
        frontier.add(merkle.complete_root(LEAVES[:2]), level=1)
    for count in (0, 3, 5):
        with pytest.raises(UsageError):
            merkle.complete_root(LEAVES[:count])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_proof_of_what_is_not_there(index, size):
    with pytest.raises(UsageError):
        merkle.inclusion_proof(index, size, NODES)


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3), (-1, 2), (0, 0)])
def test_nothing_follows_from_an_empty_log(old, new):
    with pytest.raises(UsageError):
        merkle.consistency_proof(old, new, NODES)


def test_a_node_cannot_pass_for_a_leaf():
    data = LEAVES[0] + LEAVES[1]
    assert merkle.leaf_hash(data) != merkle.node_hash(LEAVES[0], LEAVES[1])
    assert merkle.leaf_hash(b"") == hashlib.sha256(b"\0").digest()
