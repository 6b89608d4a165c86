"""Checks an evidence bundle from nothing but its files: the same verdicts, or the class of what is wrong.

The numbers are those of an audit (:mod:`verification.audit`), so that a reader can hold the two side by side:

 0. Only files of a bundle are there. The statement is signed, by the signer that the plan names and by those the reader
    expects; every file is the one that was signed. The plan could have been sealed. Ledger and time stamp show what it
    cites.
 1. What was opened is what had been committed to. Every probe derives again from it.
 2. The manifests hang together, and the release holds the marks that the plan speaks of.
 3. Every planned probe was answered once; each answer reads as the plan's parser reads its raw text, and is what the
    transcript received.
 4. Arms are interleaved as planned; who answered did not change.
 5.-9. Tests, controls, corrections and effect sizes are computed again.
10. The verdicts are those that were signed, byte for byte, or to :data:`DIGITS` digits where a library rounds the last
    ones otherwise; what makes them exploratory is among them.

It runs on the base install, without network, and believes nobody: what the reader has not said whom to believe about is
listed as unchecked.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.files import sha256_bytes
from countermark.manifest import canonical_json
from verification import bundle_files as files
from verification import bundle_parts as parts
from verification.bundle import Bundle, results_of, statement_of
from verification.bundle_faults import BundleError, Failure, failing_as
from verification.bundle_judge import judge, times_of
from verification.dsse import Envelope, open_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from verification.plan import AuditPlan
    from verification.verdict import Verdict

DIGITS = 9
"""To which floats have to agree. Twelve are written; other versions of the libraries below may round the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step with what was found: one sentence."""

    number: int
    name: str
    finding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A bundle that holds.

    Args:
        digest: of its statement.
        signers: public keys (hex) of all who signed it.
        steps: what was found, in order.
        unchecked: what no file of the bundle can show; the reader has to know it, believe it or look it up.
        verdicts: computed again.
        results: the same as JSON, in the signed bytes' own digits.
        bundle: its contents.
    """

    digest: str
    signers: tuple[str, ...]
    steps: tuple[Step, ...]
    unchecked: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    results: tuple[Any, ...]
    bundle: Bundle

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the same on every machine."""
        return {
            "bundle": self.digest,
            "signers": list(self.signers),
            "steps": [{"number": each.number, "name": each.name, "finding": each.finding} for each in self.steps],
            "unchecked": list(self.unchecked),
            "verdicts": list(self.results),
        }

    def encode(self) -> bytes:
        """The result's bytes."""
        return canonical_json(self.to_json())


def verify_bundle(
    folder: Path, *, signers: Sequence[str] = (), ledger_keys: Sequence[str] = (), authorities: Sequence[bytes] = ()
) -> Checked:
    """Verifies the bundle in ``folder``, step by step.

    Args:
        folder: the bundle.
        signers: public keys (hex), known from elsewhere, of those who must have signed.
        ledger_keys: verifier keys (``NAME+HASH+BASE64``), known from elsewhere, of the log that it was recorded in.
        authorities: certificates (PEM) of time-stamping authorities that the reader trusts.

    Raises:
        BundleError: the bundle proves nothing; its ``failure`` says why.
    """
    steps: list[Step] = []

    def found(number: int, name: str, finding: str) -> None:
        steps.append(Step(number=number, name=name, finding=finding))

    content = files.read_bundle(folder)
    found(0, "layout", f"{len(content)} files, all of them a bundle's")
    envelope = open_envelope(content[files.STATEMENT])
    _check_statement(envelope, content)
    found(0, "digests", "every file is the one that was signed")
    with failing_as(Failure.PLAN):
        plan = parts.read_plan(content)
    found(0, "plan", f"sealed as SHA-256 {sha256_bytes(content[files.PLAN])}")
    _check_signers(envelope, plan, signers)
    found(0, "signatures", f"signed by {', '.join(envelope.signers)}")
    with failing_as(Failure.OPENING):
        opened = parts.read_opening(content, plan)
    with failing_as(Failure.LAYOUT):
        bundle = parts.read_bundle(content, plan, opened)
    shown = times_of(bundle, ledger_keys=ledger_keys, authorities=authorities)
    found(0, "times", parts.said_of_times(shown))
    _check_evidence(bundle, found)
    with failing_as(Failure.ANSWERS):  # a stop that the plan does not know, texts without a token to score
        verdicts = judge(bundle)
    found(9, "verdicts", "tests, controls, corrections and effect sizes computed again")
    results = _check_results(content[files.RESULTS], verdicts)
    found(10, "results", parts.said_of_verdicts(verdicts))
    unchecked = (
        *(() if signers else (parts.said_of_signers(envelope.signers),)), *shown.unchecked,
        *parts.left_to_believe(plan),
    )  # fmt: skip
    return Checked(
        digest=sha256_bytes(content[files.STATEMENT]), signers=envelope.signers, steps=tuple(steps),
        unchecked=unchecked, verdicts=tuple(verdicts), results=tuple(results), bundle=bundle,
    )  # fmt: skip


def _check_evidence(bundle: Bundle, found: Callable[[int, str, str], None]) -> None:
    """Steps 1 to 4; what was opened has been checked when it was read."""
    found(1, "opening", parts.said_of_opening(bundle))
    with failing_as(Failure.PROBES):
        asked = parts.check_probes(bundle)
    found(1, "probes", f"{asked} probes derive again, in the sealed order")
    with failing_as(Failure.RELEASE):
        rows = parts.check_release(bundle)
    found(2, "release", f"manifests lead to the commitment; {rows} marked rows, as many of each trigger as planned")
    with failing_as(Failure.ANSWERS):
        said = parts.check_answers(bundle)
    found(3, "answers", f"{said} answers, complete, in order, and read as the plan's parsers read them")
    with failing_as(Failure.TRANSCRIPT):
        finding, changed = parts.check_transcripts(bundle)
    found(3, "transcripts", finding)
    found(4, "arms", "interleaved in the order that the plan's digest seals" + changed)


def _check_statement(envelope: Envelope, content: Mapping[str, bytes]) -> None:
    """The signed statement is the one that these files give."""
    with failing_as(Failure.SIGNATURE):
        body = json.loads(envelope.payload)
        signed = {each["name"]: each["digest"]["sha256"] for each in body["subject"]}
        version = body["predicate"]["code_version"]
    present = files.digests(content)
    for name in sorted(signed.keys() | present.keys()):
        if signed.get(name) != present.get(name):
            what = "is missing" if name not in present else "nobody signed" if name not in signed else "was changed"
            raise BundleError(Failure.DIGEST, f"got {name}, which {what}, expected the files that were signed")
    with failing_as(Failure.LAYOUT):
        expected = statement_of(content, version)
    if envelope.payload != expected:
        raise BundleError(Failure.SIGNATURE, "got a statement that says other than its files, expected an audit's")


def _check_signers(envelope: Envelope, plan: AuditPlan, expected: Sequence[str]) -> None:
    """The plan's signer, and everybody whom the reader expects, has signed."""
    if not plan.signer and not expected:
        raise BundleError(
            Failure.SIGNER, "got a plan that names no signer, expected one", hint="say whom you expect to have signed"
        )
    for key in (*((plan.signer,) if plan.signer else ()), *expected):
        if key not in envelope.signers:
            raise BundleError(
                Failure.SIGNER,
                f"got signatures of {', '.join(envelope.signers)}, expected {key} among them",
                hint="the plan and you say who signs; anybody can sign something else",
            )


def _check_results(signed: bytes, verdicts: Sequence[Verdict]) -> list[Any]:
    """The signed results, if they are those that follow."""
    stated: list[Any] = files.parse_json(signed, files.RESULTS)
    computed = results_of(verdicts)
    if computed != signed and not _alike(stated, files.parse_json(computed, files.RESULTS)):
        raise BundleError(Failure.RESULTS, "got other results than follow from the evidence, expected these")
    return stated


def _alike(one: Any, other: Any) -> bool:  # noqa: ANN401 - JSON is what it is
    """Equal, but for digits of a float beyond the :data:`DIGITS` th."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if {type(one), type(other)} in ({float}, {float, int}):  # canonical JSON prints 1.0 as 1
        return math.isclose(one, other, rel_tol=10.0**-DIGITS, abs_tol=10.0**-DIGITS)
    return type(one) is type(other) and bool(one == other)
