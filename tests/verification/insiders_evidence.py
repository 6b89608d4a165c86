"""Who holds the real signing keys and edits what an audit stands on: plan, opening, probes, release, log, stamp."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from countermark.manifest import canonical_json, digest
from tests.support import key_of
from tests.verification.bundles import THIEF, TSA, Case
from tests.verification.sealed import Content, signed, with_fields
from verification import bundle_files as files
from verification.bundle_faults import Failure
from verification.checkpoint import Checkpoint, sign_note
from verification.leafing import open_plan, opening_to_json

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


def plan_edited(chance: random.Random, content: Content, case: Case) -> Any:
    """Digests and signatures fit again; the log knows another plan."""
    plan = json.loads(content[files.PLAN])
    claim = chance.choice(plan["claims"])
    edits: list[Callable[[], Any]] = [
        lambda: plan.update(alpha=chance.choice([0.05, 1e-3, 1e-9])),
        lambda: plan.update(wrong_keys=plan["wrong_keys"] + 1),
        lambda: plan.update(commitments_made=plan["commitments_made"] + 1),
        lambda: plan.update(audits_admitted=2),
        lambda: plan.update(wrong_key_seed="chosen"),
        lambda: plan.update(canaries=["Another?"]),
        lambda: plan.update(stopping="whenever it looks good"),
        lambda: plan["timing"].update(suspect_released="2030-01-01"),
        lambda: claim["mark"].update(scope="another"),
        lambda: claim.update(statistic="another"),
        lambda: claim["suspects"][0].update(digest="c" * 64),
    ]
    chance.choice(edits)()
    changed = {**content, files.PLAN: canonical_json(plan)}
    if chance.random() < 0.3:  # nor does it help to drop the log
        changed = {name: data for name, data in changed.items() if not name.startswith("ledger/")}
        return signed(changed), Failure.TIME
    return signed(changed), Failure.LEDGER


def plan_that_is_none(chance: random.Random, content: Content, _: Case) -> Any:
    plan = json.loads(content[files.PLAN])
    edits: list[Callable[[], Any]] = [
        lambda: plan.update(more=1), lambda: plan.pop("alpha"), lambda: plan.update(claims=[]),
        lambda: plan.update(alpha=2), lambda: plan.update(wrong_keys=10**9), lambda: plan.update(format=2),
        lambda: plan["claims"].append(plan["claims"][0]), lambda: plan.update(claims=3), lambda: plan.update(alpha="x"),
        lambda: plan["claims"][0]["suspects"].append(plan["claims"][0]["suspects"][0]),
    ]  # fmt: skip
    chance.choice(edits)()
    return signed({**content, files.PLAN: canonical_json(plan)}), Failure.PLAN


def other_commitment(chance: random.Random, content: Content, case: Case) -> Any:
    """A second commitment is opened instead of the first."""
    second = key_of(f"second {chance.random()}").with_salt(case.key.salt)
    opening = opening_to_json(second if chance.random() < 0.5 else open_plan(second, case.bundle.plan.claims)
                              if _keyed(case) else second)  # fmt: skip
    changed = {**content, files.OPENING: canonical_json(opening)}
    if chance.random() < 0.5:  # and the plan says that it was this one all along
        plan = json.loads(content[files.PLAN])
        plan["commitment"]["sha256"] = second.commit(plan["commitment"]["config_digest"])
        plan["commitment"]["key_id"] = second.key_id
        changed[files.PLAN] = canonical_json(plan)
        if opening["kind"] == "key":
            return signed(changed), Failure.LEDGER
    return signed(changed), Failure.OPENING


def _keyed(case: Case) -> bool:
    return all(claim.probes for claim in case.bundle.plan.claims)


def opening_edited(chance: random.Random, content: Content, _: Case) -> Any:
    body = json.loads(content[files.OPENING])
    if body["kind"] == "key":
        name = chance.choice(["secret", "nonce", "key_id"])
        body[name] = body[name][::-1]
    else:
        part = body["claims"][chance.choice(sorted(body["claims"]))]
        leaf = chance.choice(part["leaves"])
        name = chance.choice(["target", "trigger", "nonce", "index", "path", "root", "recipient"])
        if name == "root":
            part["root"] = part["root"][::-1]
        elif name == "path":
            leaf["path"] = chance.choice([leaf["path"][1:], [*leaf["path"], "0" * 64], leaf["path"][::-1]])
        elif isinstance(leaf[name], int):
            leaf[name] += 1
        else:
            leaf[name] = leaf[name][::-1] or "x"
    return signed({**content, files.OPENING: canonical_json(body)}), Failure.OPENING


def probes_edited(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice([name for name in sorted(content) if name.startswith("probes/")])
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines) - 1)
    kind = chance.choice(["dropped", "moved", "prompt", "arm"])
    if kind == "dropped":
        del lines[place]
    elif kind == "moved":
        lines[place], lines[place + 1] = lines[place + 1], lines[place]
    else:
        lines[place] = with_fields(lines[place], **{kind: "other"})
    return signed({**content, name: b"".join(lines)}), Failure.PROBES


def release_exchanged(chance: random.Random, content: Content, case: Case) -> Any:
    body = json.loads(content[files.RELEASE_MANIFEST])
    kind = chance.choice(["parents", "marks", "leaf_roots", "rows", "keys"])
    changed = dict(content)
    if kind == "rows":
        rows = json.loads(content[files.MARKED_ROWS])
        claim = chance.choice(sorted(rows))
        rows[claim] = chance.choice([rows[claim][1:], [0, *rows[claim][1:]], [*rows[claim], 5]])
        return signed({**content, files.MARKED_ROWS: canonical_json(rows)}), Failure.RELEASE
    if kind == "keys":
        keys = {**json.loads(content[files.KEYS_MANIFEST]), "commitment": "0" * 64}
        return signed({**content, files.KEYS_MANIFEST: canonical_json(keys)}), Failure.RELEASE
    edits = {"parents": {"keys": "0" * 64}, "marks": {"double_i": "0" * 64}, "leaf_roots": {"double_i": "0" * 64}}
    changed[files.RELEASE_MANIFEST] = canonical_json({**body, kind: edits[kind]})
    if chance.random() < 0.5:  # the log's word on it is dropped
        del changed["ledger/release.json"]
        # a text whose release is judged knows its manifest too
        return signed(changed), Failure.RELEASE
    return signed(changed), Failure.LEDGER


def ledger_edited(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(["ledger/commitment.json", "ledger/release.json", "ledger/plan.json"])
    body = json.loads(content[name])
    kind = chance.choice(["path", "entry", "index", "checkpoint", "exchanged", "gone", "consistency", "forged"])
    changed = dict(content)
    if kind == "gone":
        kept = {n: d for n, d in content.items() if not n.startswith("ledger/") or n == "ledger/keys.json"}
        return signed(kept), Failure.LEDGER
    if kind == "consistency":
        del changed["ledger/consistency.json"]
        return signed(changed), Failure.LEDGER
    if kind == "exchanged":
        changed["ledger/release.json"], changed["ledger/plan.json"] = (
            content["ledger/plan.json"], content["ledger/release.json"],
        )  # fmt: skip
        return signed(changed), Failure.LEDGER
    if kind == "forged":
        head = Checkpoint(origin="example.com/ledger", size=body["size"], root=bytes(32)).text()
        body["checkpoint"] = sign_note(head, THIEF).decode()
    elif kind == "path":
        body["path"] = [*body["path"][:-1]] if body["path"] else ["0" * 64]
    elif kind == "entry":
        body["entry"] = body["entry"].replace("2026-01", "2025-01")
    elif kind == "index":
        body["index"] += 1
    else:
        body["checkpoint"] = body["checkpoint"].replace("example.com", "example.org")
    return signed({**content, name: canonical_json(body)}), Failure.LEDGER


def stamp_edited(chance: random.Random, content: Content, _: Case) -> Any:
    made = chance.choice([TSA.stamp("0" * 64), b"no time stamp", TSA.stamp(digest({}), bound=bytes(32))])
    return signed({**content, files.TIMESTAMP: made}), Failure.TIMESTAMP
