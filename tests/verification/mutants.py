"""Bundles that were tampered with, each with the classes of failure that may be named for it.

Three attackers: one who only has the files; one who signs with a key of his own; and one who holds the real signing
keys, makes statement and digests fit, and must still be caught by recomputation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.manifest import canonical_json, digest
from tests.support import key_of
from tests.verification.bundles import AUDITOR, LOG_KEY, OWNER, THIEF, TSA, Case, honest
from verification import bundle_files as files
from verification.bundle import bundle_files, statement_of
from verification.bundle_faults import BundleError, Failure
from verification.bundle_judge import judge
from verification.checkpoint import Checkpoint, sign_note
from verification.dsse import public_key, seal
from verification.leafing import open_plan, opening_to_json
from verification.plan import Claim
from verification.sequential import boundaries

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from verification.bundle_check import Checked

Content = dict[str, bytes]
EXPECTED = [public_key(AUDITOR)]


@dataclass(frozen=True)
class Mutant:
    """A mutated bundle: what was done, its files (bytes, or what to link to), and what may be said of it."""

    name: str
    content: dict[str, Any]
    failures: frozenset[Failure]


def content_of(case: Case) -> Content:
    """The files of an honest bundle."""
    content = {**bundle_files(case.bundle, judge(case.bundle)), "report.html": b"<p>what people read</p>\n"}
    return signed(content)


def signed(content: Content, *signers: Any, **predicate: Any) -> Content:
    """The same files under a statement that fits them, or, with ``predicate``, says otherwise."""
    rest = {name: data for name, data in content.items() if name != files.STATEMENT}
    payload = statement_of(rest, "0.1.0")
    if predicate:
        body = json.loads(payload)
        body["predicate"].update(predicate)
        payload = canonical_json(body)
    return {**rest, files.STATEMENT: seal(payload, signers or (AUDITOR, OWNER))}


def put(folder: Path, content: dict[str, Any]) -> Path:
    """Writes a bundle's files; a string is where a link leads."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            path.symlink_to(data)
        else:
            path.write_bytes(data)
    return folder


def verified(folder: Path) -> Checked:
    """By a reader who knows signer, log and authority."""
    from verification.bundle_check import verify_bundle

    return verify_bundle(folder, signers=EXPECTED, ledger_keys=[LOG_KEY], authorities=[TSA.pem])


def failure_of(mutant: Mutant, folder: Path) -> Failure | None:
    """What verification says of a mutant; None if it passes."""
    try:
        verified(put(folder, mutant.content))
    except BundleError as error:
        return error.failure
    return None


def draw(chance: random.Random, content: Content, case: Case) -> Mutant:
    """One mutant at random."""
    while True:
        name = chance.choice(list(MUTATIONS))
        made = MUTATIONS[name](chance, dict(content), case)
        if made is not None and made[0] != content:
            return Mutant(name, made[0], frozenset(made[1:]))


# ---- who only has the files -----------------------------------------------------------------------------------------


def _by_name(name: str, other: Failure = Failure.DIGEST) -> Failure:
    return Failure.SIGNATURE if name == files.STATEMENT else other


def bit_flip(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    data = bytearray(content[name])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return {**content, name: bytes(data)}, _by_name(name)


def cut(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    return {**content, name: content[name][: chance.randrange(len(content[name]))]}, _by_name(name)


def grown(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    return {**content, name: content[name] + chance.choice([b" ", b"\n", b"{}\n", b"\0"])}, _by_name(name)


def exchanged(chance: random.Random, content: Content, _: Case) -> Any:
    one, other = chance.sample(sorted(content), 2)
    changed = {**content, one: content[other], other: content[one]}
    return changed, Failure.SIGNATURE if files.STATEMENT in {one, other} else Failure.DIGEST


def dropped(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    del content[name]
    top = name in {files.STATEMENT, files.PLAN, files.OPENING, files.RESULTS}
    return content, Failure.LAYOUT if top else Failure.DIGEST


def added(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(["manifests/other.json", "answers/double_i/other.jsonl", "report.json", "timestamp.tsr"])
    return None if name in content else ({**content, name: b"{}"}, Failure.DIGEST)


def unknown(chance: random.Random, content: Content, _: Case) -> Any:
    names = ["notes.txt", "answers/double_i/x.pkl", "ledger/other.json", ".hidden", "probes/deep/x.jsonl", "plan.json~",
             "manifests/../x.json", "report.js", "answers/double_i/sub/x.jsonl"]  # fmt: skip
    name = chance.choice([each for each in names if ".." not in each])
    return {**content, name: b"x"}, Failure.LAYOUT


def linked(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(sorted(content))
    return {**content, name: chance.choice(["/etc/passwd", "plan.json", "/dev/zero", "nowhere"])}, Failure.LAYOUT


def fewer_signatures(_: random.Random, content: Content, __: Case) -> Any:
    envelope = json.loads(content[files.STATEMENT])
    envelope["signatures"] = envelope["signatures"][1:]  # the owner's stays
    return {**content, files.STATEMENT: canonical_json(envelope)}, Failure.SIGNER


def other_statement(_: random.Random, content: Content, case: Case) -> Any:
    other = content_of(honest(leaves=not isinstance(json.loads(content[files.OPENING]).get("claims"), dict)))
    return {**content, files.STATEMENT: other[files.STATEMENT]}, Failure.DIGEST


# ---- who signs with a key of his own --------------------------------------------------------------------------------


def signed_by_another(chance: random.Random, content: Content, case: Case) -> Any:
    changed = chance.choice([_results, _raw_alone, _same])(chance, content, case)
    return signed(changed, THIEF), Failure.SIGNER


def signed_and_planned_by_another(_: random.Random, content: Content, __: Case) -> Any:
    plan = json.loads(content[files.PLAN])
    plan["signer"] = public_key(THIEF)
    return signed({**content, files.PLAN: canonical_json(plan)}, THIEF), Failure.SIGNER


def _same(_: random.Random, content: Content, __: Case) -> Content:
    return content


# ---- who has the real keys ------------------------------------------------------------------------------------------


def respelled(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice([name for name in sorted(content) if name.endswith(".json") and name != files.STATEMENT])
    if name == files.RESULTS:
        return None  # the statement is made of them
    data = json.dumps(json.loads(content[name]), indent=1).encode()
    said = {files.PLAN: Failure.PLAN, files.OPENING: Failure.OPENING}
    return signed({**content, name: data}), Failure.LAYOUT, said.get(name, Failure.LAYOUT)


def too_deep(chance: random.Random, content: Content, _: Case) -> Any:
    name = chance.choice(["manifests/keys.json", "marked_rows.json", "ledger/plan.json"])
    return signed({**content, name: b"[" * 5000 + b"]" * 5000}), Failure.LAYOUT


def answers_edited(chance: random.Random, content: Content, case: Case) -> Any:
    name = chance.choice([name for name in sorted(content) if name.startswith("answers/")])
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines) - 1)
    kind = chance.choice(["dropped", "doubled", "reordered", "renamed", "of another", "all gone"])
    if kind == "dropped":
        del lines[place]
    elif kind == "doubled":
        lines.insert(place, lines[place])
    elif kind == "reordered":
        lines[place], lines[place + 1] = lines[place + 1], lines[place]
    elif kind == "all gone":
        lines = []
    elif kind == "of another":
        other = name.replace("/suspect.", "/x.").replace("/twin.", "/suspect.").replace("/x.", "/twin.")
        lines = content[other].splitlines(keepends=True)
        if b"".join(lines) == content[name]:
            return None
    else:
        lines[place] = _with(lines[place], id="keyed-99-0")
    if b"".join(lines) == content[name]:
        return None
    prefix = case.bundle.plan.sequential is not None and kind == "dropped"
    also = (Failure.TRANSCRIPT,) if prefix or kind == "of another" else ()
    return signed({**content, name: b"".join(lines)}), Failure.ANSWERS, *also


def read_otherwise(chance: random.Random, content: Content, case: Case) -> Any:
    return signed(_raw_alone(chance, content, case)), Failure.ANSWERS


def _raw_alone(chance: random.Random, content: Content, _: Case) -> Content:
    name = chance.choice([name for name in sorted(content) if name.startswith("answers/") and "canaries" not in name])
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines))
    changed = [*lines]
    changed[place] = _with(lines[place], raw="I would rather not say.")
    if json.loads(lines[place])["parsed"] is None:
        changed[place] = _with(lines[place], parsed="Yes")
    return {**content, name: b"".join(changed)}


def answers_invented(chance: random.Random, content: Content, case: Case) -> Any:
    """Raw and read alike: the suspect knew less, or the twin as much; with or without the transcript."""
    claim = chance.choice([claim for claim in case.bundle.plan.claims if claim.probes])
    who, name, most = chance.choice(["suspect", "twin"]), str(claim.claim), chance.choice([3, 12])
    first, *_, last = claim.answers
    of_suspect = {
        body["id"]: body["raw"] for body in map(json.loads, content[f"answers/{name}/suspect.jsonl"].splitlines())
    }

    def lie(line: bytes) -> bytes:
        body = json.loads(line)
        arm, _, rest = body["id"].partition("-")
        if arm != "keyed" or body.get("claim", name) != name or (who == "suspect" and int(rest.split("-")[0]) >= most):
            return line + b"\n"
        flipped = last if body["raw"] != last else first
        said = {"raw": flipped if who == "suspect" else of_suspect.get(body["id"], flipped)}
        return _with(line, **said, **({"parsed": said["raw"]} if "parsed" in body else {}))

    path, received = f"answers/{name}/{who}.jsonl", f"transcripts/{who}.jsonl"
    changed = {**content, path: b"".join(map(lie, content[path].splitlines()))}
    if received not in content:
        return signed(changed), Failure.RESULTS
    if chance.random() < 0.5:
        return signed(changed), Failure.TRANSCRIPT
    changed[received] = b"".join(map(lie, content[received].splitlines()))
    return signed(changed), Failure.RESULTS


def transcript_edited(chance: random.Random, content: Content, _: Case) -> Any:
    name = "transcripts/suspect.jsonl"
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines) - 1)
    kind = chance.choice(["dropped", "raw", "failed", "moved", "gone", "field"])
    if kind == "gone":
        return signed({n: d for n, d in content.items() if n != name}), Failure.TRANSCRIPT
    if kind == "dropped":
        del lines[place]
    elif kind == "moved":
        lines[place], lines[place + 1] = lines[place + 1], lines[place]
    else:
        changes = {"raw": {"raw": "other"}, "failed": {"status": "failed"}, "field": {"more": 1}}
        lines[place] = _with(lines[place], **changes[kind])
    return signed({**content, name: b"".join(lines)}), Failure.TRANSCRIPT


def results_edited(chance: random.Random, content: Content, case: Case) -> Any:
    return signed(_results(chance, content, case)), Failure.RESULTS


def _results(chance: random.Random, content: Content, _: Case) -> Content:
    body = json.loads(content[files.RESULTS])
    one = chance.choice(body)
    name = chance.choice(["decision", "log10_p", "log10_p_holm", "successes", "trials", "sentence", "assumptions",
                          "reasons", "exploratory", "alpha", "control", "suspect", "queries", "effect", "drift",
                          "gone"])  # fmt: skip
    others = {"supported": "not_supported", "not_supported": "supported", "inconclusive": "supported"}
    if name == "gone":
        body.remove(one)
    elif name == "decision":
        one[name] = others[one[name]]
    elif name in {"assumptions", "reasons", "exploratory"}:
        one[name] = one[name][1:] if one[name] else ["something"]
    elif name in {"effect", "drift"}:
        one[name] = {**(one[name] or {}), "value": 0.75}
    elif isinstance(one[name], bool):
        one[name] = not one[name]
    elif isinstance(one[name], str):
        one[name] += "!"
    else:
        one[name] = one[name] * (1 + chance.choice([1e-6, 1e-3, 1])) + chance.choice([1e-6, -1.0, 1.0])
    return {**content, files.RESULTS: canonical_json(body)}


def statement_lies(chance: random.Random, content: Content, _: Case) -> Any:
    lies: list[dict[str, Any]] = [
        {"decisions": {"double_i/suspect": "supported"}}, {"plan_sha256": "0" * 64}, {"results_sha256": "0" * 64},
        {"format": 2}, {"more": 1},
    ]  # fmt: skip
    return signed(content, **chance.choice(lies)), Failure.SIGNATURE


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
        lines[place] = _with(lines[place], **{kind: "other"})
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


def canaries_edited(chance: random.Random, content: Content, _: Case) -> Any:
    who = chance.choice(["suspect", "twin"])
    name = f"answers/canaries/{who}.jsonl"
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines))
    lines[place] = _with(lines[place], raw="Three.")
    said = Failure.TRANSCRIPT if who == "suspect" else Failure.RESULTS
    return signed({**content, name: b"".join(lines)}), said


def corpus_edited(chance: random.Random, content: Content, _: Case) -> Any:
    name = "corpora/dataset.jsonl"
    if name not in content:
        return None
    lines = content[name].splitlines(keepends=True)
    kept = chance.choice([lines[: len(lines) // 2], lines[10:], [_with(line, masked=[0]) for line in lines]])
    return signed({**content, name: b"".join(kept)}), Failure.RESULTS, Failure.ANSWERS


def stopped_early(chance: random.Random, content: Content, case: Case) -> Any:
    """Where the plan allows looks, the asking stops when its rule says so, and not when its owner likes it."""
    if case.bundle.plan.sequential is None:
        return None
    name = "double_i"
    lines = content[f"answers/{name}/suspect.jsonl"].splitlines(keepends=True)
    probes = case.bundle.evidence.probes[Claim.DOUBLE_I]
    kept = chance.choice([end for end in boundaries(probes) if end < len(lines)])
    gone = {json.loads(line)["id"] for line in lines[kept:]}
    received = [
        line
        for line in content["transcripts/suspect.jsonl"].splitlines(keepends=True)
        if not ((body := json.loads(line))["claim"] == name and body["id"] in gone)
    ]
    changed = {f"answers/{name}/suspect.jsonl": b"".join(lines[:kept]), "transcripts/suspect.jsonl": b"".join(received)}
    # a stop too early, or, where alpha had been reached before, other numbers
    return signed({**content, **changed}), Failure.ANSWERS, Failure.RESULTS


def _with(line: bytes, **changes: Any) -> bytes:
    return canonical_json({**json.loads(line), **changes}) + b"\n"


MUTATIONS: dict[str, Callable[[random.Random, Content, Case], Any]] = {
    each.__name__: each
    for each in (
        bit_flip, cut, grown, exchanged, dropped, added, unknown, linked, fewer_signatures, other_statement,
        signed_by_another, signed_and_planned_by_another, respelled, too_deep, answers_edited, read_otherwise,
        answers_invented, transcript_edited, results_edited, statement_lies, plan_edited, plan_that_is_none,
        other_commitment, opening_edited, probes_edited, release_exchanged, ledger_edited, stamp_edited,
        canaries_edited, corpus_edited, stopped_early,
    )
}  # fmt: skip
CASES: tuple[dict[str, Any], ...] = ({}, {"leaves": True}, {"token": True}, {"sequential": True}, {"stamped": True})
