"""Evidence bundles: a folder that a stranger can check on the base install, without network, secrets or trust.

:func:`write_bundle` writes plan, opening, probes, answers, transcripts, manifests, time evidence and results, and a
signed statement over every file. Nothing in it is a clock, host or path: the same audit gives the same bytes. Its other
half is :func:`verification.bundle_check.verify_bundle`; what that would refuse is never written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError, UsageError
from countermark.files import building, sha256_bytes
from countermark.manifest import canonical_json, digest
from countermark.version import FORMAT_VERSION, __version__
from verification import bundle_files as files
from verification.dsse import public_key, seal, statement
from verification.leafing import opening_to_json
from verification.plan import Claim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from verification.audit import Evidence
    from verification.checkpoint import Signer
    from verification.corpus import Corpus
    from verification.opening import Opened
    from verification.plan import AuditPlan
    from verification.probe import Answer
    from verification.verdict import Verdict

PREDICATE_TYPE = "https://countermark.dev/attestation/audit/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a bundle holds, but for results, reports and statement.

    Args:
        plan, opened, evidence: what :func:`verification.audit.audit` decides from.
        manifests: manifests by stage: ``release``, ``keys``, and those by which the two hang together.
        transcripts: by suspect, what an endpoint said: rows of ``verification.transcripts`` in the order of the plan's
            claims, then of the canaries, each with the ``claim`` (or ``canaries``) that it was asked for.
        ledger: proofs of inclusion by what they show (``commitment``, ``release``, ``plan``), a proof of
            ``consistency`` where these are under two checkpoints, and the log's verifier ``keys``.
        timestamp: an RFC 3161 time stamp of the commitment, the release manifest or the plan; empty without one.
    """

    plan: AuditPlan
    opened: Opened
    evidence: Evidence
    manifests: Mapping[str, Mapping[str, Any]]
    transcripts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict)
    timestamp: bytes = b""

    @property
    def plan_digest(self) -> str:
        """What everything else refers to the plan by."""
        return digest(self.plan.to_json())

    @property
    def release_digest(self) -> str:
        """The release's digest; empty without a manifest of it."""
        release = self.manifests.get("release")
        return digest(release) if release else ""


def write_bundle(
    out: Path,
    bundle: Bundle,
    *,
    verdicts: Sequence[Verdict],
    sign: Sequence[Signer],
    reports: Mapping[str, bytes] | None = None,
) -> str:
    """Writes the bundle as the folder ``out``, complete or not at all; returns its digest, that of its statement.

    Args:
        out: a folder that does not exist yet.
        bundle: what goes into it.
        verdicts: what :func:`verification.bundle_judge.judge` gives for ``bundle``.
        sign: whoever vouches for it; one of them has the key that the plan names as ``signer``.
        reports: ``report.json`` and ``report.html``: signed with the rest, and read by nobody but people.

    Raises:
        UsageError: ``out`` exists, nobody signs, or a report of another name.
        BundleError: the parts do not hold together; nothing is written.
    """
    from verification.bundle_check import verify_bundle

    if out.exists():
        raise UsageError(f"got {out}, which exists, expected a new folder", hint="choose another --out")
    if other := set(reports or {}) - set(files.REPORTS):
        raise UsageError(f"got a report {min(other)!r}, expected {' and '.join(files.REPORTS)}")
    content = {**bundle_files(bundle, verdicts), **(reports or {})}
    envelope = seal(statement_of(content, __version__), sign)
    with building(out) as folder:
        for name, data in {**content, files.STATEMENT: envelope}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        verify_bundle(folder, signers=[public_key(signer) for signer in sign])
    return sha256_bytes(envelope)


def bundle_files(bundle: Bundle, verdicts: Sequence[Verdict]) -> dict[str, bytes]:
    """Every file but reports and statement, by its name.

    Raises:
        IntegrityError: two suspects would share a file.
    """
    content: dict[str, bytes] = {}
    for name, data in _files(bundle, verdicts):
        if name in content:
            raise IntegrityError(f"got {name} twice, expected names of suspects that give different files")
        content[name] = data
    return content


def statement_of(content: Mapping[str, bytes], code_version: str) -> bytes:
    """The in-toto statement over ``content``: every file with its digest, and what the results say."""
    results = files.parse_json(content[files.RESULTS], files.RESULTS)
    predicate = {
        "format": FORMAT_VERSION,
        "code_version": code_version,
        "plan_sha256": sha256_bytes(content[files.PLAN]),
        "results_sha256": sha256_bytes(content[files.RESULTS]),
        "decisions": {f"{each['claim']}/{each['suspect']}": each["decision"] for each in results},
    }
    return statement(files.digests(content), predicate_type=PREDICATE_TYPE, predicate=predicate)


def results_of(verdicts: Sequence[Verdict]) -> bytes:
    """``results.json``: the verdicts, in canonical JSON."""
    return canonical_json([verdict.to_json() for verdict in verdicts])


def said_in(bundle: Bundle) -> Iterator[tuple[str, str, Sequence[Answer]]]:
    """Who said what under which claim, or to the canaries: in the plan's order, everybody who is asked."""
    plan, evidence = bundle.plan, bundle.evidence
    asking = [claim for claim in plan.claims if claim.claim is not Claim.TOKEN]
    for claim in asking:
        for suspect in claim.suspects:
            yield claim.claim, suspect.name, evidence.answers.get(claim.claim, {}).get(suspect.name, ())
    if plan.canaries:
        for name in dict.fromkeys(suspect.name for claim in asking for suspect in claim.suspects):
            yield files.CANARIES, name, evidence.canaries.get(name, ())


def transcripts_of(
    plan: AuditPlan, received: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> dict[str, list[dict[str, Any]]]:
    """Transcripts by suspect, from those of each claim and of the ``canaries``: ``received[claim][suspect]``."""
    order = [*(str(claim.claim) for claim in plan.claims), files.CANARIES]
    found: dict[str, list[dict[str, Any]]] = {}
    for claim in order:
        for suspect, rows in received.get(claim, {}).items():
            found.setdefault(suspect, []).extend({**row, "claim": claim} for row in rows)
    return found


def _files(bundle: Bundle, verdicts: Sequence[Verdict]) -> Iterator[tuple[str, bytes]]:
    evidence = bundle.evidence
    yield files.PLAN, canonical_json(bundle.plan.to_json())
    yield files.OPENING, canonical_json(opening_to_json(bundle.opened))
    yield files.MARKED_ROWS, canonical_json({str(name): list(rows) for name, rows in evidence.marked_rows.items()})
    yield files.RESULTS, results_of(verdicts)
    for claim, probes in evidence.probes.items():
        yield f"{files.PROBES}/{claim}.jsonl", files.json_lines([asdict(probe) for probe in probes])
    for name, suspect, answers in said_in(bundle):
        path = f"{files.ANSWERS}/{name}/{files.file_name(suspect)}.jsonl"
        yield path, files.json_lines([_answer(answer) for answer in answers])
    for suspect, corpus in evidence.corpora.items():
        yield f"{files.CORPORA}/{files.file_name(suspect)}.jsonl", files.json_lines(_texts(corpus))
    for suspect, rows in bundle.transcripts.items():
        yield f"{files.TRANSCRIPTS}/{files.file_name(suspect)}.jsonl", files.json_lines(rows)
    for name, manifest in bundle.manifests.items():
        yield f"{files.MANIFESTS}/{name}.json", canonical_json(manifest)
    for name, body in bundle.ledger.items():
        yield f"{files.LEDGER}/{name}.json", canonical_json(body)
    if bundle.timestamp:
        yield files.TIMESTAMP, bundle.timestamp


def _answer(answer: Answer) -> dict[str, Any]:
    """Without the number of tries, which a bad network changes and nothing depends on."""
    return {
        "id": answer.id, "arm": answer.arm, "prompt_digest": answer.prompt_digest, "raw": answer.raw,
        "parsed": answer.parsed,
    }  # fmt: skip


def _texts(corpus: Corpus) -> list[dict[str, Any]]:
    """Token ids text by text, and which of their places are masked."""
    return [
        {
            "tokens": corpus.tokens[start:stop].tolist(),
            "masked": [place for place, allowed in enumerate(corpus.allowed[start:stop].tolist()) if not allowed],
        }
        for start, stop in zip(corpus.starts[:-1].tolist(), corpus.starts[1:].tolist(), strict=True)
    ]
