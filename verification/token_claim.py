"""The token claim: is the text marked under this key? Exact over the draw of the key, for the text as it is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from countermark.errors import InconclusiveError
from verification.detect import detect
from verification.findings import finding, ranking
from verification.plan import DATASET, WRONG_KEY_ARM
from verification.statistics import log10_calibrated_e
from verification.tally import tally
from watermarks.keys import Key, wrong_key
from watermarks.schemes import BinomialLaw, Scheme, make_scheme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verification.corpus import Corpus
    from verification.detect import TokenEvidence
    from verification.plan import AuditPlan, ClaimPlan
    from verification.verdict import Verdict

EXPANSION = "assumes that the token PRF's vocabulary expansion behaves like independent draws (tested, not proved)"


def token_findings(plan: AuditPlan, claim: ClaimPlan, key: Key, corpora: Mapping[str, Corpus]) -> list[Verdict]:
    """The scheme's deciding statistic gives p; its count statistic, which is binomial, gives the effect (5, 6, 9)."""
    scheme = make_scheme(claim.mark["scheme"], claim.mark["params"])
    label = {name: claim.mark[name] for name in ("scheme", "params", "tokenizer", "scope")}
    statistic = claim.mark["statistic"]
    findings = []
    for suspect in claim.suspects:
        corpus = corpora[suspect.name]
        arms = [(suspect.name, suspect.control, key)]
        if suspect.name == DATASET:
            arms.append((f"{suspect.name}/{WRONG_KEY_ARM}", True, wrong_key(plan.wrong_key_seed, 0)))
        for name, control, who in arms:
            subkey = who.token_subkey(**label)
            _, found = detect(corpus, scheme, subkey, statistic=statistic)
            if found.log10_p is None:
                raise InconclusiveError(f"got a corpus {name!r} with no scorable token, expected at least one")
            verdict = _finding(plan, claim, name, corpus, scheme, subkey, found, control=control)
            if not control:
                wrong = [wrong_key(plan.wrong_key_seed, i).token_subkey(**label) for i in range(1, plan.wrong_keys + 1)]
                sums = tally(corpus, scheme, wrong, statistic=statistic, each_text=False)
                verdict = replace(verdict, wrong_keys=ranking(found.total, sums.corpus_totals.tolist()))
            findings.append(replace(verdict, assumptions=(*verdict.assumptions, EXPANSION)))
    return findings


def _finding(
    plan: AuditPlan,
    claim: ClaimPlan,
    name: str,
    corpus: Corpus,
    scheme: Scheme,
    subkey: bytes,
    found: TokenEvidence,
    *,
    control: bool,
) -> Verdict:
    law = scheme.law(scheme.count_statistic)
    if not isinstance(law, BinomialLaw):
        raise TypeError(f"got a count statistic of {scheme.name} that is not binomial")
    _, counts = detect(corpus, scheme, subkey, statistic=scheme.count_statistic)
    verdict = replace(
        finding(plan, claim, name, counts.total, counts.scored * law.trials, law.p, control=control, queries=0),
        log10_floor=found.log10_floor,
    )
    if found.statistic == scheme.count_statistic or found.log10_p is None:
        return verdict
    paid = 0.0 if control else math.log10(plan.paid)
    raw = min(0.0, found.log10_p + paid)
    e = log10_calibrated_e(found.log10_p) - paid
    return replace(verdict, log10_p=raw, log10_p_holm=raw, log10_e=e)
