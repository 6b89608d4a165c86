"""The stages of a dataset release: marking alone, or the whole job with suspects trained, measured and audited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines import keystage
from pipelines.asked import Asked
from pipelines.audited import AuditRequest
from pipelines.dataset import marking, measuring, training
from pipelines.dataset.auditing import DatasetRelease
from pipelines.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.dataset.config import DatasetConfig

MARKING = (
    Stage(name="keys", inputs=(), run=keystage.run, settings=keystage.settings),
    Stage(name="release", inputs=("keys",), run=marking.run, settings=marking.settings),
)
RUN_AUDIT = "run"
"""The name of the audit that a whole job makes of its own suspects."""


def train_stages(config: DatasetConfig) -> tuple[Stage, ...]:
    """A suspect and a twin of every kind that the config trains, then what the mark costs them."""
    made = [
        Stage(
            name=kind + (training.TWIN if twin else ""), inputs=("release",), run=training.suspect(kind, twin=twin),
            settings=training.settings(kind),
        )
        for kind in training.kinds(config)
        for twin in (False, True)
    ]  # fmt: skip
    read = (*(stage.name for stage in made), *(("release",) if measuring.one_trigger_marks(config) else ()))
    measure = Stage(name="measure", inputs=read, run=measuring.run, settings=measuring.settings)
    return (*made, measure)


def audit_request(config: DatasetConfig, root: Path) -> AuditRequest:
    """The audit of the run's own suspects; their twins, and the base of a LoRA, are controls."""
    base = config.train.lora.model if config.train.lora else None
    kinds = training.kinds(config)

    def asked(name: str) -> Asked:
        return Asked(name=name, model=str(root / "artifacts" / name), base=base, shown=f"artifacts/{name}")

    controls = [asked(kind + training.TWIN) for kind in kinds]
    if base:
        controls.append(Asked(name="base", model=base))
    return AuditRequest(
        kind=DatasetRelease(), name=RUN_AUDIT, suspects=tuple(map(asked, kinds)), controls=tuple(controls),
        system=(config.train.lora.system_prompt or None) if config.train.lora else None,
    )  # fmt: skip
