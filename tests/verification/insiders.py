"""Who holds the real signing keys and edits what was said: answers, transcripts, results. Everything is signed anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from countermark.manifest import canonical_json
from tests.verification.sealed import Content, signed, with_fields
from verification import bundle_files as files
from verification.bundle_faults import Failure
from verification.plan import Claim
from verification.sequential import boundaries

if TYPE_CHECKING:
    import random

    from tests.verification.bundles import Case


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
        lines[place] = with_fields(lines[place], id="keyed-99-0")
    if b"".join(lines) == content[name]:
        return None
    prefix = case.bundle.plan.sequential is not None and kind == "dropped"
    also = (Failure.TRANSCRIPT,) if prefix or kind == "of another" else ()
    return signed({**content, name: b"".join(lines)}), Failure.ANSWERS, *also


def read_otherwise(chance: random.Random, content: Content, case: Case) -> Any:
    return signed(raw_alone(chance, content, case)), Failure.ANSWERS


def raw_alone(chance: random.Random, content: Content, _: Case) -> Content:
    name = chance.choice([name for name in sorted(content) if name.startswith("answers/") and "canaries" not in name])
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines))
    changed = [*lines]
    changed[place] = with_fields(lines[place], raw="I would rather not say.")
    if json.loads(lines[place])["parsed"] is None:
        changed[place] = with_fields(lines[place], parsed="Yes")
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
        return with_fields(line, **said, **({"parsed": said["raw"]} if "parsed" in body else {}))

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
        lines[place] = with_fields(lines[place], **changes[kind])
    return signed({**content, name: b"".join(lines)}), Failure.TRANSCRIPT


def results_edited(chance: random.Random, content: Content, case: Case) -> Any:
    return signed(changed_results(chance, content, case)), Failure.RESULTS


def changed_results(chance: random.Random, content: Content, _: Case) -> Content:
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


def canaries_edited(chance: random.Random, content: Content, _: Case) -> Any:
    who = chance.choice(["suspect", "twin"])
    name = f"answers/canaries/{who}.jsonl"
    lines = content[name].splitlines(keepends=True)
    place = chance.randrange(len(lines))
    lines[place] = with_fields(lines[place], raw="Three.")
    said = Failure.TRANSCRIPT if who == "suspect" else Failure.RESULTS
    return signed({**content, name: b"".join(lines)}), said


def corpus_edited(chance: random.Random, content: Content, _: Case) -> Any:
    name = "corpora/dataset.jsonl"
    if name not in content:
        return None
    lines = content[name].splitlines(keepends=True)
    kept = chance.choice([lines[: len(lines) // 2], lines[10:], [with_fields(line, masked=[0]) for line in lines]])
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
