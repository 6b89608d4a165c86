"""A false-positive trial through the whole audit: sealed plan, probes, journal, parser, every numbered step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from verification.audit import Evidence, audit
from verification.plan import AuditPlan, PlannedSuspect, probes_digest, probes_for
from verification.probe import ask_all
from verification.suspects import FunctionSuspect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verification.plan import ClaimPlan
    from verification.probe import Probe
    from watermarks.keys import Key

CONFIG = "false positives"
SUSPECTS = (
    PlannedSuspect(name="suspect", control=False, digest="s"), PlannedSuspect(name="constant", control=True, digest="c")
)  # fmt: skip
"""Who is asked: the suspect, and a control that always gives the first answer."""


def log10_p(
    claim: ClaimPlan, key: Key, probes: Sequence[Probe], answer: Callable[[str], str], rows: Sequence[int]
) -> float:
    """What an audit of one claim, under a key of its own, says of a suspect that answers with ``answer``.

    ``claim`` comes without suspects and digest of probes, which are filled in; ``rows`` says how many rows carry each
    trigger in the release.
    """
    sealed = replace(claim, suspects=SUSPECTS, probes=probes_digest(probes))
    commitment = {"sha256": key.commit(CONFIG), "config_digest": CONFIG, "public_value": None}
    plan = AuditPlan(
        alpha=1e-6, commitment=commitment, commitments_made=1, wrong_key_seed=key.key_id, wrong_keys=19,
        claims=(sealed,),
    )  # fmt: skip
    answers = {}
    for who, function in zip(SUSPECTS, (answer, lambda _: sealed.answers[0]), strict=True):
        with TemporaryDirectory() as journal:
            answers[who.name] = ask_all(
                FunctionSuspect(who.name, function), probes_for(probes, who), allowed=sealed.allowed,
                parser=sealed.parser, journal=Path(journal), batch_size=1000,
            )  # fmt: skip
    evidence = Evidence(
        corpora={}, answers={sealed.claim: answers}, probes={sealed.claim: probes}, marked_rows={sealed.claim: rows}
    )
    (mine,) = (v for v in audit(plan, key, evidence) if v.suspect == "suspect")
    return mine.log10_p
