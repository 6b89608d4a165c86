"""An audit of one suspect against a release of any kind: plan sealed, suspect and controls asked, verdicts given.

Three stages under the audit's name, each an artifact of the release's run folder: ``plan-NAME``, ``answers-NAME``,
``audit-NAME``. The plan takes the next unspent triggers; what was shown to a suspect is spent for good.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from countermark.errors import IntegrityError
from countermark.files import atomic_write
from countermark.manifest import canonical_json, digest, read_json
from pipelines.artifact import write_rows
from pipelines.assets import resolve_model
from pipelines.audit import VERDICTS_FILE
from pipelines.keystage import commitments_paid
from pipelines.plan import PLAN_FILE, PROBE_SCHEMA
from pipelines.probe import ANSWER_SCHEMA, read_answers, read_probes
from pipelines.spending import SPENT_FILE, allocate, next_range
from pipelines.stage import COMMITMENT_FILE, Stage
from verification.audit import Evidence, audit
from verification.plan import AuditPlan, PlannedSuspect, probes_for
from verification.probe import ask_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.stage import Context
    from verification.plan import ClaimPlan
    from verification.probe import Probe
    from verification.suspects import Suspect
    from watermarks.keys import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A model that can be asked: a folder or hub id, an adapter over a base, or ``embedded:NAME``.

    ``shown`` stands for the folder in what identifies the audit, where the folder is the run's own.
    """

    name: str
    model: str
    base: str | None = None
    shown: str = ""

    def body(self) -> dict[str, Any]:
        """Plain JSON without a path of this machine, where there is another way to say it."""
        return {"name": self.name, "model": self.shown or self.model, "base": self.base}

    def digest(self) -> str:
        """What the plan seals of it: the bytes of model and base."""
        parts = [resolve_model(each).digest for each in (self.model, self.base) if each]
        return parts[0] if len(parts) == 1 else digest(parts)

    def chat_model(self, system: str | None, config: Any) -> Suspect:  # noqa: ANN401 - a release's config
        """The causal language model, ready to answer."""
        from verification.suspects import LocalChatModel

        folder = resolve_model(self.model).path
        base = resolve_model(self.base).path if self.base else None
        return LocalChatModel(
            self.name,
            base or folder,
            adapter=folder if base else None,
            system=system,
            max_new_tokens=config.audit.max_new_tokens,
            temperature=config.audit.temperature,
            seed=config.seed,
        )


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
class Asking:
    """How one audit asks.

    Args:
        first: the first unspent trigger, or audit: whatever the release counts.
        seed: of the order of asking and of wrong keys; public.
        system: system prompt of every query, or None.
    """

    first: int
    seed: str
    system: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """One audit of one suspect, or of several that are shown the same triggers.

    Args:
        kind: the kind of release that is audited.
        name: names the audit's artifacts.
        suspects: who is accused.
        controls: models that never saw the release; the base is one.
        system: system prompt of every query, or None for the template's own.
    """

    kind: Audited
    name: str
    suspects: tuple[Asked, ...]
    controls: tuple[Asked, ...]
    system: str | None

    def body(self) -> dict[str, Any]:
        """Plain JSON: who is asked, under which name."""
        return {
            "name": self.name, "suspects": [s.body() for s in self.suspects],
            "controls": [c.body() for c in self.controls], "system": self.system,
        }  # fmt: skip

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
        for asked in (*self.suspects, *self.controls):
            if asked.digest() != planned[asked.name]:
                raise IntegrityError(
                    f"got {asked.name} with another digest than the planned {planned[asked.name][:16]}…",
                    hint="the model changed after the plan was sealed; audit it under a new --name",
                )

    def _plan(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        key, config = context.key(), context.config
        commitment = read_json(inputs["keys"].path / COMMITMENT_FILE)
        seed = digest({"wrong_keys_of": commitment["sha256"]})
        suspects = tuple(
            PlannedSuspect(name=asked.name, control=asked not in self.suspects, digest=asked.digest())
            for asked in (*self.suspects, *self.controls)
        )
        _check_commitment(commitment["config_digest"], config)
        self.kind.check_base(config, inputs["release"])
        total, each = self.kind.room(config)

        def claims(first: int) -> list[tuple[ClaimPlan, list[Probe]]]:
            asking = Asking(first=first, seed=seed, system=self.system)
            return self.kind.claims(key, context, inputs["release"], suspects, asking)

        spent = context.owner / SPENT_FILE
        request = digest([*(asdict(suspect) for suspect in suspects), self.system, config.audit.model_dump()])
        room = {"total": total, "each": each, "unit": self.kind.unit, "release": commitment["sha256"]}
        first = next_range(spent, self.name, request, **room)
        asked = claims(first)  # what cannot be asked must not spend triggers
        allocate(spent, self.name, request, **room)
        plan = AuditPlan(
            alpha=config.audit.alpha,
            commitment=commitment,
            commitments_made=commitments_paid(context),
            wrong_key_seed=seed,
            wrong_keys=config.audit.wrong_keys,
            claims=tuple(claim for claim, _ in asked),
            audits_admitted=total // each,
        )
        for claim, probes in asked:
            rows = [{**asdict(probe), "prompt_digest": probe.prompt_digest} for probe in probes]
            write_rows(out / f"{claim.claim}.parquet", rows, PROBE_SCHEMA)
        atomic_write(out / PLAN_FILE, canonical_json(plan.to_json()))
        return {"plan_digest": digest(plan.to_json()), "first": first, "count": each}

    def _ask(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        plan_artifact, config = inputs[f"plan-{self.name}"], context.config
        plan = AuditPlan.from_json(read_json(plan_artifact.path / PLAN_FILE))
        models, total = {asked.name: asked for asked in (*self.suspects, *self.controls)}, 0
        self.check(plan)
        journal = context.work / digest(plan.to_json())[:16]
        for name, asked in models.items():
            suspect = _Lazy(asked, self, config)
            for claim in plan.claims:
                planned = next(s for s in claim.suspects if s.name == name)
                probes = probes_for(read_probes(plan_artifact, claim.claim), planned)
                with context.progress.bar(f"ask {name}, {claim.claim}", len(probes)) as advance:
                    answers = ask_all(
                        suspect, probes, allowed=claim.allowed, parser=claim.parser,
                        journal=journal / f"{claim.claim}-{name}",
                        batch_size=config.audit.batch_size, advance=advance,
                    )  # fmt: skip
                rows = [asdict(answer) for answer in answers]
                write_rows(out / "answers" / claim.claim / f"{name}.parquet", rows, ANSWER_SCHEMA)
                total += len(rows)
        return {"queries": total}

    def _decide(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        key, config = context.key(), context.config
        plan_artifact, release = inputs[f"plan-{self.name}"], inputs["release"]
        body = read_json(plan_artifact.path / PLAN_FILE)
        if digest(body) != plan_artifact.manifest["plan_digest"]:
            raise IntegrityError("got a plan that is not the sealed one", hint="restore it; edited plans prove nothing")
        plan = AuditPlan.from_json(body)
        _check_commitment(plan.commitment["config_digest"], config)
        evidence = Evidence(
            corpora={},
            answers={c.claim: read_answers(inputs[f"answers-{self.name}"], c) for c in plan.claims},
            probes={c.claim: read_probes(plan_artifact, c.claim) for c in plan.claims},
            marked_rows={c.claim: self.kind.marked_rows(key, c, context, release) for c in plan.claims},
        )
        context.progress.say("  exact tests, wrong keys, controls")
        verdicts = audit(plan, key, evidence)
        atomic_write(out / VERDICTS_FILE, canonical_json([verdict.to_json() for verdict in verdicts]))
        return {"decisions": {f"{v.claim}/{v.suspect}": str(v.decision) for v in verdicts}}


def _check_commitment(committed: str, config: Any) -> None:  # noqa: ANN401
    """The config and the dataset must be those of the marking: carriers and sentences come from them."""
    if committed != config.marking_digest():
        raise IntegrityError(
            "got a commitment to another marking config or dataset, expected one to this release's",
            hint="audit with the config and the data file that the release was made with",
        )


class _Lazy:
    """Loads its model at the first question: a resumed audit whose journal is full loads nothing."""

    def __init__(self, asked: Asked, request: AuditRequest, config: Any) -> None:  # noqa: ANN401
        self.name = asked.name
        self._asked, self._request, self._config = asked, request, config
        self._model: Suspect | None = None

    def ask(self, prompts: Sequence[str]) -> list[str]:
        if self._model is None:
            self._model = self._request.kind.load(self._asked, self._request.system, self._config)
        return self._model.ask(prompts)
