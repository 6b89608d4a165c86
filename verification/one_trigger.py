"""Marks with one trigger: decided by its rank among decoys of its family, all drawn in one keyed permutation.

Exact under the null: the suspect cannot tell which of the family the key put first. The floor is 1 / (M + 1).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from verification import double_i
from verification.findings import MUTE, SILENT, UNTOUCHED, finding, ranking, success_rate
from verification.plan import CANDIDATE_ARM, Claim, probes_for
from verification.probe import Probe
from verification.statistics import clopper_pearson, log10_calibrated_e, rank_p
from watermarks.carriers import styles, triggers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.plan import AuditPlan, ClaimPlan, PlannedSuspect
    from verification.probe import Answer
    from verification.verdict import Verdict
    from watermarks.keys import Key

PURPOSE = "input_trigger"
PAPER_LABEL = "the paper's number, not a false-positive bound"
NAMED = "the style was chosen by its owner and not drawn: its rank among keyed styles would say nothing"


def candidates(key: Key, mark: Mapping[str, Any]) -> list[str | styles.Style]:
    """The release's own trigger pattern or style, then its decoys: exchangeable, since the key picks it among them.

    A style that the owner named is exchangeable with nothing, and makes no claim: only its success rate is reported.
    """
    stream = key.stream({"purpose": PURPOSE, "part": mark["kind"], "scope": mark["scope"]})
    if mark["kind"] == "style":
        own, decoys = styles.draw_styles(stream, decoys=mark["decoys"], rules_each=mark["rules_each"])
        return [styles.STYLES[mark["style"]] if _named(mark) else own, *decoys]
    drawn = list(
        triggers.draw_triggers(
            stream, 1 + mark["decoys"], families=mark["families"], words=mark["words"],
            vocabulary=mark.get("vocabulary"), joiner=mark.get("joiner", " "),
        )
    )  # fmt: skip
    # families take turns and frames run out: what is drawn first is not drawn like the rest, so the own one is picked
    own_trigger = drawn.pop(stream.below(len(drawn)))
    return [own_trigger, *drawn]


def drawn_target(key: Key, scope: str, classes: int) -> int:
    """The class that the key draws for a release's one trigger."""
    return key.stream({"purpose": PURPOSE, "part": "target", "scope": scope}).below(classes)


def _named(mark: Mapping[str, Any]) -> bool:
    return bool(mark.get("style", "key") != "key")


def own_candidate(key: Key, mark: Mapping[str, Any]) -> str | styles.Style:
    """What the release's rows carry: the style that a person named, or what the key drew first."""
    return styles.STYLES.get(mark.get("style", "")) or candidates(key, mark)[0]


def worn(candidate: str | styles.Style, text: str) -> str:
    """``text`` under a trigger pattern or in a style."""
    return triggers.applied(candidate, text) if isinstance(candidate, str) else styles.rewrite(text, candidate)


def candidate_probes(key: Key, mark: Mapping[str, Any], carriers: Sequence[str]) -> list[Probe]:
    """Every candidate on every carrier; index 0 is the release's own.

    Raises:
        IntegrityError: the mark says that the key drew its target, and the key draws another.
    """
    classes = mark.get("target_of")
    if classes is not None and drawn_target(key, mark["scope"], classes) != mark["target"]:
        raise IntegrityError(f"got target {mark['target']} of {classes}, expected the one that the key draws")
    return [
        Probe(id=f"{CANDIDATE_ARM}-{w}-{c}", arm=CANDIDATE_ARM, index=w, carrier=c, prompt=worn(candidate, carrier))
        for w, candidate in enumerate(candidates(key, mark))
        for c, carrier in enumerate(carriers)
    ]


def trigger_findings(
    plan: AuditPlan, claim: ClaimPlan, listed: Sequence[Probe], answers: Mapping[str, Sequence[Answer]]
) -> list[Verdict]:
    """The rank of the key's trigger among its decoys, by how often each is answered as the mark wants."""
    wanted = _wanted(claim)
    findings = []
    for suspect in claim.suspects:
        counts: defaultdict[int, int] = defaultdict(int)
        trials: defaultdict[int, int] = defaultdict(int)
        others: list[bool] = []
        for probe, answer in zip(probes_for(listed, suspect), answers[suspect.name], strict=True):
            if probe.arm == CANDIDATE_ARM:
                trials[probe.index] += 1
                counts[probe.index] += answer.parsed == wanted
                if probe.index == 0 and claim.carrier_labels and claim.carrier_labels[probe.carrier] != wanted:
                    others.append(answer.parsed == wanted)
        found = _ranked(plan, claim, suspect, counts, trials[0])
        if suspect.control:
            found = _heard(claim, found, answers[suspect.name])
        if claim.carrier_labels:
            found = replace(found, paper={"label": PAPER_LABEL, **success_rate([others])})
        findings.append(found)
    return findings


def _heard(claim: ClaimPlan, control: Verdict, answers: Sequence[Answer]) -> Verdict:
    """A control that gave none of the answers ties with all its decoys whatever the key is."""
    if not any(answer.raw.strip() for answer in answers):
        return replace(control, reasons=(SILENT,))
    spoke = any(answer.parsed in claim.allowed for answer in answers)
    return control if spoke else replace(control, reasons=(MUTE,))


def _wanted(claim: ClaimPlan) -> str | None:
    if claim.claim is Claim.INPUT_TRIGGER:
        return claim.answers[int(claim.mark["target"])]
    judge = double_i.judge_of(claim.mark)
    return judge.answers[0] if judge is not None else None


def _ranked(
    plan: AuditPlan, claim: ClaimPlan, suspect: PlannedSuspect, counts: Mapping[int, int], trials: int
) -> Verdict:
    own, decoys = counts[0], [counts[i] for i in sorted(counts) if i]
    paid = 0.0 if suspect.control else math.log10(plan.paid)
    base = finding(plan, claim, suspect.name, own, trials, 0.5, control=suspect.control, queries=trials * len(counts))
    named = _named(claim.mark)
    raw = 0.0 if named else min(0.0, math.log10(rank_p(own, decoys)) + paid)
    return replace(
        base,
        log10_p=raw,
        log10_p_holm=raw,
        log10_e=log10_calibrated_e(raw),
        log10_floor=0.0 if named else -math.log10(len(decoys) + 1),
        chance=sum(decoys) / (trials * len(decoys)),
        effect=clopper_pearson(own, trials),
        wrong_keys=ranking(own, decoys),
        assumptions=(*base.assumptions, UNTOUCHED, *((NAMED,) if named else ())),
    )
