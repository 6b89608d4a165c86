"""An audit of one suspect against a release of any kind: plan sealed, suspect and controls asked, verdicts given.

Three stages under the audit's name, each an artifact of the release's run folder: ``plan-NAME``, ``answers-NAME``,
``audit-NAME``. The plan takes the next unspent triggers; what was shown to a suspect is spent for good.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from countermark.errors import IntegrityError
from countermark.files import atomic_write, sha256_bytes
from countermark.manifest import canonical_json, digest
from pipelines.artifact import write_rows
from pipelines.audit import VERDICTS_FILE
from pipelines.drafting import TIMESTAMP_FILE, Draft, check_commitment, draft, sealed_plan
from pipelines.plan import PLAN_FILE, PROBE_SCHEMA
from pipelines.probe import read_answers, read_probes
from pipelines.questioning import ask_everybody, read_canaries
from pipelines.spending import allocate
from pipelines.stage import Stage
from verification.audit import Evidence, audit
from verification.checks import PAID_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.asked import Asked
    from pipelines.drafting import Asking
    from pipelines.stage import Context
    from verification.plan import AuditPlan, ClaimPlan, PlannedSuspect
    from verification.probe import Probe
    from verification.suspects import Suspect
    from watermarks.keys import Key


class Audited(Protocol):
    """What an audit needs to know of a kind of release."""

    unit: str
    """What audits spend, in the plural."""

    def room(self, config: Any) -> tuple[int, int]:  # noqa: ANN401
        """How many units the release has, and how many of them an audit spends."""

    def check_base(self, config: Any, release: Artifact) -> None:  # noqa: ANN401
        """Refuses another dataset than the marked one."""

    def claims(
        self, key: Key, context: Context, release: Artifact, suspects: tuple[PlannedSuspect, ...], asked: Asking
    ) -> list[tuple[ClaimPlan, list[Probe]]]:
        """Every claim with its probes, in the order of asking."""

    def marked_rows(self, key: Key, claim: ClaimPlan, context: Context, release: Artifact) -> list[int]:
        """How many rows of the release carry each planned trigger as the key wants it."""

    def load(self, asked: Asked, system: str | None, config: Any) -> Suspect:  # noqa: ANN401
        """A suspect, ready to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an audit may spend, and what is known of times; sealed in its plan.

    Args:
        looks: whether keyed claims may be looked at early (an e-process decides); None: where a suspect is paid for.
        queries, tokens: the budget over all paid suspects.
        suspect_released: when the suspect was first to be had (UTC), as far as the auditor knows.
        timestamp: an RFC 3161 time stamp (DER) of the commitment, or empty.
    """

    looks: bool | None = None
    queries: int | None = None
    tokens: int | None = None
    suspect_released: str = ""
    timestamp: bytes = b""

    def body(self) -> dict[str, Any]:
        """Plain JSON, of what was set."""
        said = {**asdict(self), "timestamp": sha256_bytes(self.timestamp) if self.timestamp else ""}
        return {name: value for name, value in said.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """One audit of one suspect, or of several that are shown the same triggers.

    Args:
        kind: the kind of release that is audited.
        name: names the audit's artifacts.
        suspects: who is accused.
        controls: models that never saw the release; the base is one.
        system: system prompt of every query, or None for the template's own.
        terms: budget, looks and times.
    """

    kind: Audited
    name: str
    suspects: tuple[Asked, ...]
    controls: tuple[Asked, ...]
    system: str | None
    terms: Terms = Terms()

    @property
    def everybody(self) -> tuple[Asked, ...]:
        """Suspects, then controls."""
        return (*self.suspects, *self.controls)

    @property
    def paid(self) -> bool:
        """Whether anybody is asked over a network."""
        return any(asked.kind in PAID_KINDS for asked in self.everybody)

    def body(self) -> dict[str, Any]:
        """Plain JSON: who is asked, under which name."""
        body = {
            "name": self.name, "suspects": [s.body() for s in self.suspects],
            "controls": [c.body() for c in self.controls], "system": self.system,
        }  # fmt: skip
        return {**body, "terms": self.terms.body()} if self.terms.body() else body

    def stages(self) -> tuple[Stage, ...]:
        """Plan, ask, decide."""

        def settings(config: Any) -> Any:  # noqa: ANN401
            return {"request": self.body(), "audit": config.audit.model_dump()}

        plan, answers = f"plan-{self.name}", f"answers-{self.name}"
        return (
            Stage(name=plan, inputs=("keys", "release"), run=self._plan, settings=settings),
            Stage(name=answers, inputs=(plan,), run=self._ask, settings=settings),
            Stage(name=f"audit-{self.name}", inputs=("release", plan, answers), run=self._decide, settings=settings),
        )

    def check(self, plan: AuditPlan) -> None:
        """Refuses models that are not the planned ones any more: neither asked, nor spoken of.

        Raises:
            IntegrityError: a suspect or control changed after the plan was sealed.
        """
        planned = {suspect.name: suspect.digest for claim in plan.claims for suspect in claim.suspects}
        for asked in self.everybody:
            if asked.digest() != planned[asked.name]:
                raise IntegrityError(
                    f"got {asked.name} with another digest than the planned {planned[asked.name][:16]}…",
                    hint="the model changed after the plan was sealed; audit it under a new --name",
                )

    def drafted(self, context: Context, keys: Artifact, release: Artifact) -> Draft:
        """The plan as it would be sealed now, with its probes; nothing is written, and no trigger spent."""
        return draft(self, context, keys, release, seal=False)

    def _plan(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        drafted = draft(self, context, inputs["keys"], inputs["release"], seal=True)
        allocate(context.spent_path(), self.name, drafted.request, **drafted.room)
        for claim, probes in drafted.asked:
            rows = [{**asdict(probe), "prompt_digest": probe.prompt_digest} for probe in probes]
            write_rows(out / f"{claim.claim}.parquet", rows, PROBE_SCHEMA)
        if self.terms.timestamp:
            atomic_write(out / TIMESTAMP_FILE, self.terms.timestamp)
        atomic_write(out / PLAN_FILE, canonical_json(drafted.plan.to_json()))
        return {"plan_digest": digest(drafted.plan.to_json()), "first": drafted.first, "count": drafted.room["each"]}

    def _ask(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        plan_artifact = inputs[f"plan-{self.name}"]
        plan = sealed_plan(plan_artifact)
        self.check(plan)
        return ask_everybody(self, plan, plan_artifact, context, out)

    def _decide(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        plan = sealed_plan(inputs[f"plan-{self.name}"])
        check_commitment(plan.commitment["config_digest"], context.config)
        context.progress.say("  exact tests, wrong keys, controls")
        evidence = self.evidence(
            context, inputs["release"], inputs[f"plan-{self.name}"], inputs[f"answers-{self.name}"]
        )
        verdicts = audit(plan, context.key(), evidence)
        atomic_write(out / VERDICTS_FILE, canonical_json([verdict.to_json() for verdict in verdicts]))
        return {"decisions": {f"{v.claim}/{v.suspect}": str(v.decision) for v in verdicts}}

    def evidence(self, context: Context, release: Artifact, planned: Artifact, answers: Artifact) -> Evidence:
        """What was gathered under the sealed plan."""
        key, plan = context.key(), sealed_plan(planned)
        return Evidence(
            corpora={},
            answers={c.claim: read_answers(answers, c) for c in plan.claims},
            probes={c.claim: read_probes(planned, c.claim) for c in plan.claims},
            marked_rows={c.claim: self.kind.marked_rows(key, c, context, release) for c in plan.claims},
            canaries=read_canaries(answers, plan),
        )
