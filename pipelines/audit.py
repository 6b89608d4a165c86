"""Stage ``audit``: hands the sealed plan, the opened key and the answers to :func:`verification.audit.audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from countermark.files import atomic_write
from countermark.manifest import canonical_json, digest, read_json
from pipelines.artifact import read_rows
from pipelines.assets import resolve_model
from pipelines.generate import tokenizer_digest
from pipelines.plan import PLAN_FILE
from pipelines.probe import UTILITY_FILE, read_answers, read_probes
from pipelines.records import open_record
from pipelines.sources import balanced, load_reviews
from verification import double_i
from verification.audit import Evidence, audit
from verification.claims import derive_input_level
from verification.corpus import Corpus
from verification.plan import DATASET, HUMAN_TEXT, AuditPlan, Claim, ClaimPlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.stage import Context
    from watermarks.keys import Key

VERDICTS_FILE = "verdicts.json"


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """Everything an audit needs is in the plan; only the size of the human-text control is its own."""
    return {"human_texts": config.audit.human_texts}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Writes ``verdicts.json``."""
    key = context.key()
    body = read_json(inputs["plan"].path / PLAN_FILE)
    if digest(body) != inputs["plan"].manifest["plan_digest"]:  # step 0
        raise IntegrityError(
            "got a plan that is not the sealed one", hint="restore the plan; an edited plan proves nothing"
        )
    plan = AuditPlan.from_json(body)
    if plan.commitment["config_digest"] != context.config.marking_digest():  # step 1
        raise IntegrityError(
            "got a commitment to another marking config, expected one to this run's",
            hint="audit with the config that the release was marked with",
        )
    record = open_record(key, context.owner, "mark", inputs["mark"].manifest["record_sha256"])
    claims = {claim.claim: claim for claim in plan.claims}
    evidence = Evidence(
        corpora=_corpora(claims[Claim.TOKEN], inputs["mark"], context.config),
        answers={name: read_answers(inputs["probe"], claim) for name, claim in claims.items() if claim.probes},
        probes={name: read_probes(inputs["plan"], name) for name, claim in claims.items() if claim.probes},
        marked_rows=_marked_rows(claims, inputs["mark"], key, record),
    )
    context.progress.say("  exact tests, wrong keys, controls")
    verdicts = audit(plan, key, evidence)
    atomic_write(out / VERDICTS_FILE, canonical_json([verdict.to_json() for verdict in verdicts]))
    atomic_write(out / UTILITY_FILE, canonical_json(read_json(inputs["probe"].path / UTILITY_FILE)))
    return {"decisions": {f"{v.claim}/{v.suspect}": str(v.decision) for v in verdicts}}


def _corpora(claim: ClaimPlan, mark: Artifact, config: RunConfig) -> dict[str, Corpus]:
    """The released texts, and as many real human texts that no model wrote."""
    from pipelines.engines.hf import token_ids

    model = resolve_model(config.generate.model)
    if tokenizer_digest(model.path) != claim.mark["tokenizer"]:
        raise IntegrityError("got a tokenizer that is not the one the text was marked under", hint="use the same model")
    heldout = balanced(load_reviews(config.generate.source).heldout, config.audit.human_texts, f"human/{config.seed}")
    texts = {
        DATASET: [row["text"] for row in read_rows(mark.path / "reviews.parquet")],
        HUMAN_TEXT: [item.text for item in heldout],
    }
    corpora = {}
    for name, batch in texts.items():
        ids, masks = token_ids(model.path, batch)
        corpora[name] = Corpus.pack(ids, masks)
    return corpora


def _marked_rows(
    claims: Mapping[Claim, ClaimPlan], mark: Artifact, key: Key, record: Mapping[str, Any]
) -> dict[Claim, list[int]]:
    """How many *released* rows carry each trigger with its target, checked against the sealed record (step 2)."""
    reviews = {row["id"]: row for row in read_rows(mark.path / "reviews.parquet")}
    classifier_mark = derive_input_level(key, claims[Claim.INPUT_LEVEL].mark)
    for placement in record["input_level"]["placements"]:
        if not reviews[placement["id"]]["text"].startswith(classifier_mark.triggers[placement["trigger"]] + " "):
            raise IntegrityError(f"got row {placement['id']} without its trigger, expected the sealed record's")
    texts = [(row["text"], row["label"]) for row in reviews.values()]
    instruct, form = claims[Claim.DOUBLE_I].mark, double_i.form_of(claims[Claim.DOUBLE_I].mark)
    instruct_mark = double_i.derive(key, instruct)
    inputs = [(row["input"], row["output"]) for row in read_rows(mark.path / "instruct.parquet")]
    return {
        Claim.INPUT_LEVEL: [
            sum(text.startswith(trigger + " ") and label == target for text, label in texts)
            for trigger, target in zip(classifier_mark.triggers, classifier_mark.targets, strict=True)
        ],
        Claim.DOUBLE_I: [
            sum(
                text.endswith(form.joiner + word) and output == form.row(word, "", target).output
                for text, output in inputs
            )
            for word, target in zip(instruct_mark.codewords, instruct_mark.targets, strict=True)
        ],
    }
