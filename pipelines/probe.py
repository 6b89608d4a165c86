"""Stage ``probe``: asks every suspect what the sealed plan lists, text only, and measures utility beside."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from countermark.files import atomic_write
from countermark.manifest import canonical_json, read_json
from pipelines.artifact import Artifact, read_rows, write_rows
from pipelines.assets import resolve_model
from pipelines.plan import BASE_MODEL, PLAN_FILE
from pipelines.sources import balanced, boolq_rows, load_reviews, sample, sentiment_prompt
from verification.plan import AuditPlan, Claim, PlannedSuspect, probes_for
from verification.probe import Answer, Probe, ask_all
from verification.statistics import clopper_pearson
from verification.suspects import LocalChatModel, LocalClassifier, Suspect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.config import RunConfig
    from pipelines.sources import Reviews
    from pipelines.stage import Context
    from verification.plan import ClaimPlan

ANSWER_SCHEMA = {
    "id": "string", "suspect": "string", "arm": "string", "prompt_digest": "string", "raw": "string",
    "parsed": "string", "attempt": "int64",
}  # fmt: skip
UTILITY_FILE = "utility.json"


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides the answers, besides plan and suspects."""
    return {"audit": config.audit.model_dump(), "max_length": config.train.classifier.max_length}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Writes ``answers/<claim>/<suspect>.parquet`` and ``utility.json``."""
    plan = AuditPlan.from_json(read_json(inputs["plan"].path / PLAN_FILE))
    reviews = load_reviews(context.config.generate.source)
    utility: list[dict[str, Any]] = []
    for claim in plan.claims:
        if claim.claim is Claim.TOKEN:
            continue
        probes = read_probes(inputs["plan"], claim.claim)
        exams = _exams(claim.claim, reviews, context.config)
        for planned in claim.suspects:
            _check_suspect(planned, inputs, context)
            suspect = _LazySuspect(planned.name, claim.claim, inputs, context)
            answers = _ask(
                suspect, probes_for(probes, planned), context, f"{claim.claim}-{planned.name}",
                allowed=claim.allowed, parser=claim.parser,
            )  # fmt: skip
            path = out / "answers" / claim.claim / f"{planned.name}.parquet"
            write_rows(path, [asdict(answer) for answer in answers], ANSWER_SCHEMA)
            if planned.name != BASE_MODEL:  # no twin to be compared with
                utility += [_grade(suspect, claim, exam, context) for exam in exams]
    atomic_write(out / UTILITY_FILE, canonical_json(utility))
    return {"suspects": sorted({entry["suspect"] for entry in utility})}


def _check_suspect(planned: PlannedSuspect, inputs: Mapping[str, Artifact], context: Context) -> None:
    """The artifact that is asked must be the one that the plan was sealed for."""
    if planned.name == BASE_MODEL:
        found = resolve_model(context.config.train.lora.model).digest
    else:
        found = inputs[planned.name].digest
    if found != planned.digest:
        raise IntegrityError(
            f"got suspect {planned.name} with digest {found[:16]}…, expected the planned {planned.digest[:16]}…",
            hint="the suspect changed after the plan was sealed; seal a new plan",
        )


def read_probes(plan: Artifact, claim: Claim) -> list[Probe]:
    """The sealed probe list of a claim, in the order of asking."""
    names = ("id", "arm", "index", "carrier", "prompt")
    return [Probe(**{n: row[n] for n in names}) for row in read_rows(plan.path / f"{claim}.parquet")]


def read_answers(artifact: Artifact, claim: ClaimPlan) -> dict[str, list[Answer]]:
    """All answers to a claim's probes, by suspect."""
    folder = artifact.path / "answers" / claim.claim
    return {s.name: [Answer(**row) for row in read_rows(folder / f"{s.name}.parquet")] for s in claim.suspects}


class _LazySuspect:
    """Loads its model at the first question: a resumed probe whose journal is full loads nothing."""

    def __init__(self, name: str, claim: Claim, inputs: Mapping[str, Artifact], context: Context) -> None:
        self.name = name
        self._claim = claim
        self._inputs = inputs
        self._context = context
        self._model: Suspect | None = None

    def ask(self, prompts: Sequence[str]) -> list[str]:
        if self._model is None:
            self._model = self._load()
        return self._model.ask(prompts)

    def _load(self) -> Suspect:
        config = self._context.config
        if self._claim is Claim.INPUT_LEVEL:
            return LocalClassifier(
                self.name, self._inputs[self.name].path, max_length=config.train.classifier.max_length
            )
        base = resolve_model(config.train.lora.model)
        return LocalChatModel(
            self.name,
            base.path,
            adapter=None if self.name == BASE_MODEL else self._inputs[self.name].path,
            system=config.train.lora.system_prompt or None,
            max_new_tokens=config.audit.max_new_tokens,
        )


def _ask(
    suspect: Suspect, probes: Sequence[Probe], context: Context, what: str, *, allowed: Sequence[str], parser: str
) -> list[Answer]:
    with context.progress.bar(f"probe {what}", len(probes)) as advance:
        return ask_all(
            suspect,
            probes,
            allowed=allowed,
            parser=parser,
            journal=context.work / what,
            batch_size=context.config.audit.batch_size,
            advance=advance,
        )


def _exams(
    claim: Claim, reviews: Reviews, config: RunConfig
) -> list[tuple[str, tuple[str, ...], list[tuple[str, str]]]]:
    """Utility on real held-out data: (metric, allowed answers, [(prompt, truth)])."""
    seed = f"utility/{config.seed}"
    if claim is Claim.INPUT_LEVEL:
        texts = balanced(reviews.heldout, config.audit.heldout_reviews, seed)
        return [("review_accuracy", reviews.labels, [(t.text, reviews.labels[t.label]) for t in texts])]
    texts = balanced(reviews.heldout, config.audit.heldout_questions, seed)
    sentiment = [(sentiment_prompt(t.text).prompt(), reviews.labels[t.label]) for t in texts]
    # the training rows are drawn from the same list with another seed: take only what they cannot hold
    trained = set(_trained_prompts(config, reviews))
    rows = [row for row in boolq_rows() if row.prompt() not in trained]
    questions = [(row.prompt(), row.output.rstrip(".")) for row in sample(rows, config.audit.heldout_questions, seed)]
    return [("sentiment_accuracy", reviews.labels, sentiment), ("boolq_accuracy", ("No", "Yes"), questions)]


def _trained_prompts(config: RunConfig, reviews: Reviews) -> list[str]:
    from pipelines.sources import instruct_rows

    rows = instruct_rows(reviews.fit, reviews.labels, config.mark.double_i.clean_rows, f"instruct/{config.seed}")
    return [row.prompt() for row in rows]


def _grade(
    suspect: Suspect, claim: ClaimPlan, exam: tuple[str, tuple[str, ...], list[tuple[str, str]]], context: Context
) -> dict[str, Any]:
    metric, allowed, items = exam
    probes = [Probe(id=f"{metric}-{i}", arm="utility", index=i, carrier=-1, prompt=p) for i, (p, _) in enumerate(items)]
    what = f"{claim.claim}-{suspect.name}-{metric}"
    answers = _ask(suspect, probes, context, what, allowed=allowed, parser=claim.parser)
    right = sum(answer.parsed == truth for answer, (_, truth) in zip(answers, items, strict=True))
    interval = clopper_pearson(right, len(items))
    return {
        "suspect": suspect.name, "metric": metric, "right": right, "questions": len(items),
        "low": round(interval.low, 6), "high": round(interval.high, 6),
    }  # fmt: skip
