"""The parts of a bundle, read and checked one by one: what :func:`verification.bundle_check.verify_bundle` calls.

Data that are not of the expected shape raise whatever they raise; the caller names the class of the failure.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from countermark.manifest import digest
from verification import bundle_files as files
from verification import checks
from verification.audit import Evidence
from verification.bundle import Bundle, bundle_files, said_in
from verification.canaries import drift_of
from verification.claims import PROBES
from verification.corpus import Corpus
from verification.leafing import opening_from_json
from verification.opening import LeafOpening, check_opening, needs_key
from verification.plan import DATASET, AuditPlan, Claim, probes_digest
from verification.probe import Answer, Probe
from verification.transcripts import ANSWERED, FAILED, models_reported
from verification.verdict import Decision
from watermarks.leaves import KEYED, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verification.bundle_time import TimeEvidence
    from verification.opening import Opened
    from verification.verdict import Verdict

MOST = 100_000
MOST_WORK = 100_000_000
"""Counts of a plan, and wrong keys times triggers: more would only keep its reader busy."""
WITNESSED = (
    "that the named suspects gave these answers, and that the marked rows were counted in the release: the signers say "
    "so"
)
BLIND = (
    "that the plan was sealed before anybody asked the suspect: carriers, range and parser chosen by its answers would "
    "look the same"
)
_ROW = ("claim", "id", "model", "prompt_digest", "raw", "status")


def read_plan(content: Mapping[str, bytes]) -> AuditPlan:
    """The plan, if it is one that could have been sealed."""
    body = files.parse_json(content[files.PLAN], files.PLAN)
    plan = AuditPlan.from_json(body)
    if digest(plan.to_json()) != digest(body):
        raise IntegrityError("got a plan with fields that no plan has, expected format 1")
    names = [claim.claim for claim in plan.claims]
    if not names or len(set(names)) != len(names):
        raise IntegrityError(f"got a plan with claims {', '.join(names)}, expected some, each once")
    for claim in plan.claims:
        suspects = [suspect.name for suspect in claim.suspects]
        if len(set(suspects)) != len(suspects):
            raise IntegrityError(f"got suspects {', '.join(suspects)}, expected each once")
        counts = [1, *(value for value in claim.mark.values() if type(value) is int)]
        if max(plan.wrong_keys, *counts) > MOST or plan.wrong_keys * max(counts) > MOST_WORK:
            raise IntegrityError(f"got a plan that counts beyond {MOST}, expected less")
        if claim.claim in KEYED:
            _check_slice(plan, claim.claim, claim.mark)
    return plan


def _check_slice(plan: AuditPlan, claim: Claim, mark: Mapping[str, Any]) -> None:
    """Who may choose among several ranges of triggers has several tries, and pays for them all."""
    units = units_of(claim, mark)
    room = units // mark.get("count", units)
    if plan.audits_admitted < room:
        raise IntegrityError(
            f"got a plan that pays for {plan.audits_admitted} audits of {claim}, expected the {room} that there is "
            "room for"
        )


def read_bundle(content: Mapping[str, bytes], plan: AuditPlan, opened: Opened) -> Bundle:
    """Everything that the plan asks for, if it is there, and nothing besides."""
    asking, asked = list(_asking(plan)), _asked(plan)
    evidence = Evidence(
        corpora={
            suspect.name: _corpus(content, suspect.name)
            for claim in plan.claims
            if claim.claim is Claim.TOKEN
            for suspect in claim.suspects
        },
        answers={
            claim.claim: {suspect.name: _answers(content, claim.claim, suspect.name) for suspect in claim.suspects}
            for claim in asking
        },
        probes={claim.claim: _probes(content, claim.claim) for claim in asking},
        marked_rows={Claim(name): tuple(rows) for name, rows in _json(content, files.MARKED_ROWS).items()},
        canaries={name: _answers(content, files.CANARIES, name) for name in asked if plan.canaries},
    )
    bundle = Bundle(
        plan=plan, opened=opened, evidence=evidence,
        manifests=_folder(content, files.MANIFESTS),
        transcripts={
            name: tuple(files.parse_lines(content[path], path))
            for name in asked
            if (path := f"{files.TRANSCRIPTS}/{files.file_name(name)}.jsonl") in content
        },
        ledger=_folder(content, files.LEDGER),
        timestamp=content.get(files.TIMESTAMP, b""),
    )  # fmt: skip
    known = {*bundle_files(bundle, ()), files.STATEMENT, *files.REPORTS}
    if extra := sorted(set(content) - known):
        raise IntegrityError(f"got {extra[0]}, which the plan knows nothing of, expected only what it asks for")
    return bundle


def read_opening(content: Mapping[str, bytes], plan: AuditPlan) -> Opened:
    """What was opened, if it is what had been committed to, and opens every claim."""
    opened = opening_from_json(files.parse_json(content[files.OPENING], files.OPENING), plan.commitment)
    check_opening(opened, plan.commitment)
    if isinstance(opened, LeafOpening):
        for claim in plan.claims:
            if claim.claim not in opened.claims:
                needs_key(opened, claim.claim)
    return opened


def check_probes(bundle: Bundle) -> int:
    """Every claim's probes are the sealed ones, and derive again from what was opened; returns how many."""
    plan = bundle.plan
    for claim in _asking(plan):
        listed = bundle.evidence.probes[claim.claim]
        derived = PROBES[claim.claim](bundle.opened, claim.mark, claim.carriers, wrong_seed=plan.wrong_key_seed)
        if {probes_digest(listed), probes_digest(checks.planned_order(plan, claim, derived))} != {claim.probes}:
            raise IntegrityError(
                f"got {claim.claim} probes that are not the sealed ones, expected those that the opening re-derives"
            )
    return sum(len(listed) for listed in bundle.evidence.probes.values())


def check_release(bundle: Bundle) -> int:
    """The manifests lead from the release to the commitment, and the release holds the marks; returns marked rows."""
    manifests, committed = bundle.manifests, bundle.plan.commitment["sha256"]
    if not {"release", "keys"} <= set(manifests):
        raise IntegrityError("got no manifest of the release or of its keys, expected both")
    if manifests["keys"]["commitment"] != committed:
        raise IntegrityError("got keys with another commitment than the plan's, expected the same")
    admitted, paid = manifests["release"].get("audits", 1), bundle.plan.audits_admitted
    if type(admitted) is not int or paid < admitted:
        raise IntegrityError(f"got a plan that pays for {paid} audits, expected the {admitted} of the release")
    if "keys" not in set(_ancestors(manifests, "release")):
        raise IntegrityError("got a release that does not come from the committed keys, expected one that does")
    for claim in bundle.plan.claims:
        for suspect in claim.suspects:
            if suspect.name == DATASET and suspect.digest != bundle.release_digest:
                raise IntegrityError("got another release than the one that the plan judges, expected the same")
    for claim in _asking(bundle.plan):
        checks.check_probes(bundle.plan, claim, bundle.opened, bundle.evidence)
    asking = {claim.claim for claim in _asking(bundle.plan)}
    if extra := set(bundle.evidence.marked_rows) - asking:
        raise IntegrityError(f"got marked rows of claim {min(extra)}, expected none")
    return sum(sum(rows) for rows in bundle.evidence.marked_rows.values())


def check_answers(bundle: Bundle) -> int:
    """Every planned probe was answered once, in order, and reads as planned; so were the canaries; returns how many."""
    for claim in _asking(bundle.plan):
        for suspect in claim.suspects:
            checks.check_answers(bundle.plan, claim, suspect, bundle.evidence)
            if bundle.plan.canaries:
                said = bundle.evidence.canaries[suspect.name]
                drift_of(bundle.plan.canaries, claim, suspect.name, said)
    checks.check_budget(bundle.plan, bundle.evidence)
    return sum(len(answers) for _, _, answers in said_in(bundle))


def check_transcripts(bundle: Bundle) -> tuple[str, str]:
    """What was received is what was scored; says for how many suspects, and whose reported model changed.

    Whoever is asked over a network has a transcript; others may have one.
    """
    changed = []
    for name, kind in _asked(bundle.plan).items():
        rows = bundle.transcripts.get(name)
        if rows is None:
            if kind in checks.PAID_KINDS:
                raise IntegrityError(f"got no transcript of {name}, expected one: it was asked over a network")
            continue
        if any(tuple(sorted(row)) != _ROW for row in rows):
            raise IntegrityError(f"got a transcript of {name} with other fields than {', '.join(_ROW)}")
        received = [(row["claim"], row["id"], row["prompt_digest"], row["raw"]) for row in rows]
        scored = [
            (claim, answer.id, answer.prompt_digest, answer.raw)
            for claim, suspect, answers in said_in(bundle)
            if suspect == name
            for answer in answers
        ]
        if received != scored:
            raise IntegrityError(f"got a transcript of {name} that is not what was scored, expected the same answers")
        if any(row["status"] != ANSWERED and (row["status"] != FAILED or row["raw"] or row["model"]) for row in rows):
            raise IntegrityError(f"got a query to {name} that neither was answered nor failed, expected one of the two")
        models = {run["model"] for run in models_reported(rows)}
        if len(models) > 1:
            changed.append(f"; {name} called itself {', '.join(sorted(map(repr, models)))}")
    count = len(bundle.transcripts)
    return f"{count} transcripts, and what they received is what was scored", "".join(changed)


def said_of_opening(bundle: Bundle) -> str:
    """What was opened, in words."""
    if isinstance(bundle.opened, LeafOpening):
        leaves = sum(len(part.leaves) for part in bundle.opened.claims.values())
        return f"{leaves} leaves are under the roots that the plan cites"
    return f"key {bundle.opened.key_id} opens commitment {bundle.plan.commitment['sha256']}"


def said_of_times(shown: TimeEvidence) -> str:
    """What is dated, in words."""
    return "; ".join(f"{each.what} by {each.time} ({each.evidence}: {each.by})" for each in shown.dated) or "none shown"


def said_of_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Decisions on suspects, and whether any is more than exploratory."""
    counts = {word: sum(v.decision is word and not v.control for v in verdicts) for word in Decision}
    reasons = list(dict.fromkeys(reason for verdict in verdicts for reason in verdict.exploratory))
    words = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in counts.items())
    return f"{words}; " + (f"exploratory only: {'; '.join(reasons)}" if reasons else "confirmatory")


def left_to_believe(plan: AuditPlan) -> tuple[str, ...]:
    """What no file of any bundle can show."""
    return (WITNESSED, BLIND, f"that no more than {plan.commitments_made} commitments were made for the release")


def said_of_signers(signers: Sequence[str]) -> str:
    """What remains open where the reader expects nobody in particular."""
    return f"who has the keys that signed: {', '.join(signers)}"


def _ancestors(manifests: Mapping[str, Mapping[str, Any]], name: str) -> Iterator[str]:
    """The stages that a manifest comes from, as far as their manifests are there; each has to be the named one."""
    pending, seen = [name], {name}
    while pending:
        for parent, expected in manifests[pending.pop()].get("parents", {}).items():
            if parent in manifests:
                if digest(manifests[parent]) != expected:
                    raise IntegrityError(
                        f"got another manifest of {parent} than its successor names, expected that one"
                    )
                if parent not in seen:
                    seen.add(parent)
                    pending.append(parent)
                    yield parent


def _asking(plan: AuditPlan) -> Iterator[Any]:
    return (claim for claim in plan.claims if claim.claim is not Claim.TOKEN)


def _asked(plan: AuditPlan) -> dict[str, str]:
    """Everybody who is asked, with how."""
    return {suspect.name: suspect.kind for claim in _asking(plan) for suspect in claim.suspects}


def _json(content: Mapping[str, bytes], name: str) -> Any:  # noqa: ANN401 - JSON is what it is
    return files.parse_json(_present(content, name), name)


def _present(content: Mapping[str, bytes], name: str) -> bytes:
    if name not in content:
        raise IntegrityError(f"got no {name}, expected one")
    return content[name]


def _folder(content: Mapping[str, bytes], folder: str) -> dict[str, Any]:
    names = [name for name in content if name.startswith(f"{folder}/")]
    return {name.removeprefix(f"{folder}/").removesuffix(".json"): _json(content, name) for name in names}


def _lines(content: Mapping[str, bytes], name: str) -> list[Any]:
    return files.parse_lines(_present(content, name), name)


def _probes(content: Mapping[str, bytes], claim: Claim) -> list[Probe]:
    names = {each.name for each in fields(Probe)}
    rows = _lines(content, f"{files.PROBES}/{claim}.jsonl")
    if any(set(row) != names for row in rows):
        raise IntegrityError(f"got {claim} probes with other fields than {', '.join(sorted(names))}")
    return [Probe(**row) for row in rows]


def _answers(content: Mapping[str, bytes], claim: str, suspect: str) -> list[Answer]:
    return [
        Answer(suspect=suspect, attempt=1, **row)
        for row in _lines(content, f"{files.ANSWERS}/{claim}/{files.file_name(suspect)}.jsonl")
    ]


def _corpus(content: Mapping[str, bytes], name: str) -> Corpus:
    rows = _lines(content, f"{files.CORPORA}/{files.file_name(name)}.jsonl")
    masked = [set(row["masked"]) for row in rows]
    masks = [[place not in out for place in range(len(row["tokens"]))] for row, out in zip(rows, masked, strict=True)]
    return Corpus.pack([row["tokens"] for row in rows], masks)
