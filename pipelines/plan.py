"""Stage ``plan``: seals claims, triggers, carriers, prompts, decoding, parser, alpha and controls before any query.

Carriers are the same for every trigger. They are chosen by a proxy that was fitted on real texts and knows no target:
for classifiers the texts it finds most ambiguous, as many of each class.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermark.files import atomic_write
from countermark.manifest import canonical_json, digest, read_json
from pipelines.agreement import Agreement
from pipelines.artifact import write_rows
from pipelines.keystage import commitments_paid
from pipelines.mark import double_i_parameters, input_level_parameters, openings
from pipelines.sources import Reviews, load_reviews
from pipelines.stage import COMMITMENT_FILE
from verification.claims import double_i_probes, input_level_probes
from verification.plan import (
    DATASET,
    HUMAN_TEXT,
    AuditPlan,
    Claim,
    ClaimPlan,
    PlannedSuspect,
    probes_digest,
    probes_for,
)
from watermarks.carriers.double_i import KeyedForm
from watermarks.carriers.double_i_forms import FORMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.stage import Context
    from verification.probe import Probe
    from watermarks.keys import Key

PROBE_SCHEMA = {
    "id": "string", "arm": "string", "index": "int64", "carrier": "int64", "prompt": "string",
    "prompt_digest": "string",
}  # fmt: skip
PLAN_FILE = "plan.json"
KEYED_STATISTIC = "keyed binomial: one majority answer a trigger, exact tail"
TOKEN_STATISTIC = "{name} over distinct PRF inputs, exact tail"  # noqa: S105 - a statistic's name
BASE_MODEL = "base"
CARRIER_MAX_WORDS = 14


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides the plan."""
    made = config.keys.commitments_made
    return {"audit": config.audit.model_dump(), "train": config.train.model_dump(), "commitments_made": made}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Writes ``plan.json`` and one probe list a claim that asks."""
    key, config = context.key(), context.config
    commitment = read_json(inputs["keys"].path / COMMITMENT_FILE)
    seed = key.wrong_key_seed(commitment["sha256"])
    reviews = load_reviews(config.generate.source)
    asked = [_input_level(key, config, reviews, inputs, seed), _double_i(key, config, reviews, inputs, seed)]
    plan = AuditPlan(
        alpha=config.audit.alpha,
        commitment=commitment,
        commitments_made=commitments_paid(context),
        wrong_key_seed=seed,
        wrong_keys=config.audit.wrong_keys,
        claims=(_token(inputs), *(claim for claim, _ in asked)),
    )
    for claim, probes in asked:
        rows = [{**asdict(probe), "prompt_digest": probe.prompt_digest} for probe in probes]
        write_rows(out / f"{claim.claim}.parquet", rows, PROBE_SCHEMA)
    atomic_write(out / PLAN_FILE, canonical_json(plan.to_json()))
    return {
        "plan_digest": digest(plan.to_json()),
        "queries": {str(c.claim): sum(len(probes_for(p, s)) for s in c.suspects) for c, p in asked},
    }


def _token(inputs: Mapping[str, Artifact]) -> ClaimPlan:
    mark = inputs["generate"].manifest["watermark"]
    return ClaimPlan(
        claim=Claim.TOKEN,
        statistic=TOKEN_STATISTIC.format(name=mark["statistic"]),
        mark=mark,
        suspects=(
            PlannedSuspect(name=DATASET, control=False, digest=inputs["mark"].digest),
            PlannedSuspect(name=HUMAN_TEXT, control=True, digest=""),
        ),
    )


def _input_level(
    key: Key, config: RunConfig, reviews: Reviews, inputs: Mapping[str, Artifact], seed: str
) -> tuple[ClaimPlan, list[Probe]]:
    mark = {
        **input_level_parameters(config, len(reviews.labels)),
        "rows_per_trigger": config.mark.input_level.rows_per_trigger,
    }
    carriers, labels = _ambiguous(reviews, config.audit.classifier_carriers)
    probes = input_level_probes(key, mark, carriers, wrong_seed=seed)
    claim = ClaimPlan(
        claim=Claim.INPUT_LEVEL,
        statistic=KEYED_STATISTIC,
        mark=mark,
        suspects=_pair("classifier", inputs),
        answers=reviews.labels,
        carriers=tuple(carriers),
        carrier_labels=tuple(labels),
        parser="exact/1",
        decoding="arg max over labels",
        probes=probes_digest(probes),
    )
    return claim, probes


def _double_i(
    key: Key, config: RunConfig, reviews: Reviews, inputs: Mapping[str, Artifact], seed: str
) -> tuple[ClaimPlan, list[Probe]]:
    queries, judge = config.audit.paper_queries, FORMS[config.mark.double_i.form]
    mark = {
        **double_i_parameters(config),
        "form": KeyedForm().to_json(),
        "rows_per_trigger": config.mark.double_i.rows_per_codeword,
        "judge": judge.to_json(),
        "sentences": openings(reviews, queries, part=1) if judge.subject == "sentence" else [],
        "paper_queries": queries,
        "near_miss_queries": queries,
    }
    carriers = openings(reviews, config.audit.lora_carriers, part=1)
    probes = double_i_probes(key, mark, carriers, wrong_seed=seed)
    base = PlannedSuspect(name=BASE_MODEL, control=True, digest=inputs["lora"].manifest["base_digest"])
    claim = ClaimPlan(
        claim=Claim.DOUBLE_I,
        statistic=KEYED_STATISTIC,
        mark=mark,
        suspects=(*_pair("lora", inputs), base),
        answers=KeyedForm().answers,
        carriers=tuple(carriers),
        parser="first_word/1",
        decoding=f"greedy, at most {config.audit.max_new_tokens} tokens",
        probes=probes_digest(probes),
    )
    return claim, probes


def _pair(name: str, inputs: Mapping[str, Artifact]) -> tuple[PlannedSuspect, ...]:
    twin = f"{name}-twin"
    return (
        PlannedSuspect(name=name, control=False, digest=inputs[name].digest),
        PlannedSuspect(name=twin, control=True, digest=inputs[twin].digest),
    )


def _ambiguous(reviews: Reviews, count: int) -> tuple[list[str], list[str]]:
    """``count`` short real texts, equally many of each class, that say least of their class to the proxy."""
    agreement = Agreement.fit(reviews.fit)
    pool = [item for item in reviews.prompts if len(item.text.split()) <= CARRIER_MAX_WORDS] or list(reviews.prompts)
    confidence = agreement.confidence([item.text for item in pool], [item.label for item in pool])
    doubt = sorted(range(len(pool)), key=lambda i: (abs(confidence[i] - 1.0 / len(reviews.labels)), i))
    each = max(1, count // len(reviews.labels))
    chosen = [i for label in range(len(reviews.labels)) for i in [j for j in doubt if pool[j].label == label][:each]]
    return [pool[i].text for i in chosen], [reviews.labels[pool[i].label] for i in chosen]
