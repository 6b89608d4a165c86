"""The stages of a run, in order. The list is the pipeline."""

from __future__ import annotations

from pipelines import audit, generate, keystage, mark, plan, probe, train
from pipelines.stage import Stage

STAGES: tuple[Stage, ...] = (
    Stage(name="keys", inputs=(), run=keystage.run, settings=keystage.settings),
    Stage(name="generate", inputs=("keys",), run=generate.run, settings=generate.settings),
    Stage(name="mark", inputs=("keys", "generate"), run=mark.run, settings=mark.settings),
    Stage(
        name="classifier",
        inputs=("generate", "mark"),
        run=train.classifier("reviews.parquet"),
        settings=train.classifier_settings,
    ),
    Stage(
        name="classifier-twin",
        inputs=("generate", "mark"),
        run=train.classifier("reviews_twin.parquet"),
        settings=train.classifier_settings,
    ),
    Stage(name="lora", inputs=("mark",), run=train.lora("instruct.parquet"), settings=train.lora_settings),
    Stage(name="lora-twin", inputs=("mark",), run=train.lora("instruct_twin.parquet"), settings=train.lora_settings),
    Stage(
        name="plan",
        inputs=("keys", "generate", "mark", "classifier", "classifier-twin", "lora", "lora-twin"),
        run=plan.run,
        settings=plan.settings,
    ),
    Stage(
        name="probe",
        inputs=("plan", "classifier", "classifier-twin", "lora", "lora-twin"),
        run=probe.run,
        settings=probe.settings,
    ),
    Stage(name="audit", inputs=("plan", "mark", "probe"), run=audit.run, settings=audit.settings),
)

VERBS: dict[str, tuple[str, ...]] = {
    "generate": ("keys", "generate"),
    "mark": ("mark",),
    "train": ("classifier", "classifier-twin", "lora", "lora-twin"),
    "plan": ("plan",),
    "probe": ("probe",),
    "audit": ("audit",),
}
"""What each verb of the command line performs."""


def stage(name: str) -> Stage:
    """The stage called ``name``."""
    return next(s for s in STAGES if s.name == name)
