"""An audit of one suspect against a release: plan sealed, suspect and controls asked, verdicts given.

Three stages under the audit's name, each an artifact of the release's run folder: ``plan-NAME``, ``answers-NAME``,
``audit-NAME``. The plan takes the next unspent codewords; what was shown to a suspect is spent for good.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from countermark.files import atomic_write
from countermark.manifest import canonical_json, digest, read_json
from pipelines.artifact import write_rows
from pipelines.assets import resolve_model
from pipelines.audit import VERDICTS_FILE
from pipelines.instruct import InstructTable
from pipelines.plan import PLAN_FILE, PROBE_SCHEMA
from pipelines.probe import ANSWER_SCHEMA, read_answers, read_probes
from pipelines.release import (
    data_file,
    keyed_rows,
    layout,
    open_base,
    release_config,
    scope,
    sentences,
)
from pipelines.release_plan import allocate, claims
from pipelines.stage import Stage
from pipelines.tables import read_table
from verification import double_i
from verification.audit import Evidence, audit
from verification.plan import AuditPlan, Claim, ClaimPlan, PlannedSuspect, probes_for
from verification.probe import ask_all
from watermarks.carriers.double_i_forms import form_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.release_config import ReleaseConfig
    from pipelines.stage import Context
    from verification.suspects import Suspect
    from watermarks.keys import Key

SPENT_FILE = "spent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A model that can be asked: a folder or hub id, an adapter over a base, or ``embedded:NAME``."""

    name: str
    model: str
    base: str | None = None

    def digest(self) -> str:
        """What the plan seals of it: the bytes of model and base."""
        parts = [resolve_model(each).digest for each in (self.model, self.base) if each]
        return parts[0] if len(parts) == 1 else digest(parts)

    def load(self, request: AuditRequest, config: ReleaseConfig) -> Suspect:
        """The model, ready to answer."""
        from verification.suspects import LocalChatModel

        folder = resolve_model(self.model).path
        base = resolve_model(self.base).path if self.base else None
        return LocalChatModel(
            self.name,
            base or folder,
            adapter=folder if base else None,
            system=request.system,
            max_new_tokens=config.audit.max_new_tokens,
            temperature=config.audit.temperature,
            seed=config.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """One audit of one suspect.

    Args:
        name: names the audit's artifacts.
        suspect: who is accused.
        controls: models that never saw the release; the base is one.
        system: system prompt of every query, or None for the template's own.
    """

    name: str
    suspect: Asked
    controls: tuple[Asked, ...]
    system: str | None

    def stages(self) -> tuple[Stage, ...]:
        """Plan, ask, decide."""

        def settings(config: Any) -> Any:  # noqa: ANN401
            return {"request": asdict(self), "audit": config.audit.model_dump()}

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
        for asked in (self.suspect, *self.controls):
            if asked.digest() != planned[asked.name]:
                raise IntegrityError(
                    f"got {asked.name} with another digest than the planned {planned[asked.name][:16]}…",
                    hint="the model changed after the plan was sealed; audit it under a new --name",
                )

    def _plan(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        key, config = context.key(), release_config(context)
        commitment = read_json(inputs["keys"].path / "commitment.json")
        seed = digest({"wrong_keys_of": commitment["sha256"]})
        suspects = tuple(
            PlannedSuspect(name=asked.name, control=asked is not self.suspect, digest=asked.digest())
            for asked in (self.suspect, *self.controls)
        )
        _check_commitment(commitment["config_digest"], config)
        if open_base(config).table.digest() != inputs["release"].manifest["base_sha256"]:
            raise IntegrityError(
                f"got other rows in {config.dataset} than those that were marked, expected the same",
                hint="carriers come from them: audit with the dataset that the release was made of",
            )
        claims(key, config, suspects, 0, seed, self.system)  # what cannot be asked must not spend codewords
        request = digest([*(asdict(suspect) for suspect in suspects), self.system, config.audit.model_dump()])
        first = allocate(context.owner / SPENT_FILE, self.name, request, config)
        asked = claims(key, config, suspects, first, seed, self.system)
        plan = AuditPlan(
            alpha=config.audit.alpha,
            commitment=commitment,
            commitments_made=config.keys.commitments_made,
            wrong_key_seed=seed,
            wrong_keys=config.audit.wrong_keys,
            claims=tuple(claim for claim, _ in asked),
            audits_admitted=config.double_i.codewords // config.double_i.per_audit,
        )
        for claim, probes in asked:
            rows = [{**asdict(probe), "prompt_digest": probe.prompt_digest} for probe in probes]
            write_rows(out / f"{claim.claim}.parquet", rows, PROBE_SCHEMA)
        atomic_write(out / PLAN_FILE, canonical_json(plan.to_json()))
        return {"plan_digest": digest(plan.to_json()), "first": first, "count": config.double_i.per_audit}

    def _ask(self, inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
        plan_artifact, config = inputs[f"plan-{self.name}"], release_config(context)
        plan = AuditPlan.from_json(read_json(plan_artifact.path / PLAN_FILE))
        models, total = {asked.name: asked for asked in (self.suspect, *self.controls)}, 0
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
        key, config = context.key(), release_config(context)
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
            marked_rows={c.claim: _marked_rows(key, c, release, config) for c in plan.claims},
        )
        context.progress.say("  exact tests, wrong keys, controls")
        verdicts = audit(plan, key, evidence)
        atomic_write(out / VERDICTS_FILE, canonical_json([verdict.to_json() for verdict in verdicts]))
        return {"decisions": {f"{v.claim}/{v.suspect}": str(v.decision) for v in verdicts}}


def _check_commitment(committed: str, config: ReleaseConfig) -> None:
    """The config and the dataset must be those of the marking: carriers and sentences come from them."""
    if committed != config.marking_digest():
        raise IntegrityError(
            "got a commitment to another marking config or dataset, expected one to this release's",
            hint="audit with the config and the data file that the release was made with",
        )


class _Lazy:
    """Loads its model at the first question: a resumed audit whose journal is full loads nothing."""

    def __init__(self, asked: Asked, request: AuditRequest, config: ReleaseConfig) -> None:
        self.name = asked.name
        self._asked, self._request, self._config = asked, request, config
        self._model: Suspect | None = None

    def ask(self, prompts: Sequence[str]) -> list[str]:
        if self._model is None:
            self._model = self._asked.load(self._request, self._config)
        return self._model.ask(prompts)


def _marked_rows(key: Key, claim: ClaimPlan, release: Artifact, config: ReleaseConfig) -> list[int]:
    """How many rows of each copy carry each planned codeword with its target, or the trigger with its answer."""
    base = open_base(config)
    found: list[int] = []
    for recipient in config.recipients or [""]:
        path = release.path / data_file(recipient, base.table)
        copy = InstructTable(table=read_table(str(path)), form=base.form)
        turns = [(d[-2]["content"], d[-1]["content"]) for d in copy.dialogues()]
        if claim.claim is Claim.DOUBLE_I_TRIGGER:
            return [_trigger_rows(key, claim, config, turns)]
        counts = Counter(turns)
        planted = keyed_rows(key, config, base, layout(config, len(base.table.rows)), recipient)
        each, first = claim.mark["rows_per_trigger"], claim.mark["first"]
        for word in range(first, first + claim.mark["count"]):
            rows = planted[word * each : (word + 1) * each]
            found.append(sum(counts[row.prompt(), row.output] == 1 for row in rows))
    return found


def _trigger_rows(key: Key, claim: ClaimPlan, config: ReleaseConfig, turns: Sequence[tuple[str, str]]) -> int:
    judge, form = double_i.judge_of(claim.mark), config.double_i.form
    if judge is None or form is None:
        return 0
    made = form_rows(
        key, judge, sentences(config, open_base(config), part=0), scope=scope(config), part="train",
        triggers=form.trigger_rows, references=0, near_misses=0,
    ).triggers  # fmt: skip
    present = set(turns)
    return sum((row.prompt(), row.output) in present for row in made)
