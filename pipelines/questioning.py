"""Asks everybody what a sealed plan lists: folders in batches, endpoints one query at a time, canaries in between.

What was said to an endpoint and what came back is journaled under ``journals/`` of the run folder, and stays there.
The artifact holds answers and clock-free transcripts, the same in every run that got the same answers.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermark.files import atomic_write, make_dir
from countermark.manifest import canonical_json, digest
from pipelines.artifact import read_rows, write_rows
from pipelines.probe import ANSWER_SCHEMA, read_probes
from verification.asking import ask_endpoint
from verification.bundle import transcripts_of
from verification.bundle_files import CANARIES, file_name
from verification.canaries import CANARY_ARM, ROUNDS, canary_probes
from verification.checks import PAID_KINDS
from verification.plan import FOLDER, probes_for
from verification.probe import Answer, ask_all
from verification.sequential import boundaries, whole_prefix
from verification.spending import Spending
from verification.stopping import stop_rule
from verification.transcripts import transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.asked import Asked
    from pipelines.audited import AuditRequest
    from pipelines.stage import Context
    from verification.asking import Endpoint
    from verification.plan import AuditPlan, ClaimPlan
    from verification.probe import Probe
    from verification.suspects import Suspect

    Rows = list[dict[str, Any]]

TRANSCRIPTS = "transcripts"
JOURNALS = "journals"


def ask_everybody(
    request: AuditRequest, plan: AuditPlan, planned: Artifact, context: Context, out: Path
) -> dict[str, Any]:
    """Fills ``out`` with ``answers/CLAIM/NAME.parquet``, canaries among them, and transcripts of endpoints."""
    spending = _spending(plan)
    received: dict[str, dict[str, Rows]] = {}
    total = 0
    for asked in request.everybody:
        one = _Questioned(request, plan, planned, context, asked, spending)
        for claim, answers in one.run().items():
            write_rows(out / "answers" / claim / f"{asked.name}.parquet", list(map(asdict, answers)), ANSWER_SCHEMA)
            total += len(answers)
        for claim, rows in one.transcripts().items():
            received.setdefault(claim, {})[asked.name] = rows
    for name, rows in transcripts_of(plan, received).items():
        path = make_dir(out / TRANSCRIPTS) / f"{file_name(name)}.jsonl"
        atomic_write(path, b"".join(canonical_json(row) + b"\n" for row in rows))
    return {"queries": total}


def read_canaries(answers: Artifact, plan: AuditPlan) -> dict[str, list[Answer]]:
    """What everybody said to the canaries; empty where the plan has none."""
    if not plan.canaries:
        return {}
    folder = answers.path / "answers" / CANARIES
    return {
        suspect.name: [Answer(**row) for row in read_rows(folder / f"{suspect.name}.parquet")]
        for suspect in plan.claims[0].suspects
    }


def read_transcripts(answers: Artifact, plan: AuditPlan) -> dict[str, list[dict[str, Any]]]:
    """The clock-free transcripts of those who were asked as endpoints."""
    from verification.bundle_files import parse_lines

    found = {}
    for suspect in plan.claims[0].suspects:
        path = answers.path / TRANSCRIPTS / f"{file_name(suspect.name)}.jsonl"
        if path.exists():
            found[suspect.name] = parse_lines(path.read_bytes(), path.name)
    return found


class _Questioned:
    """One suspect or control, asked claim by claim; canaries at the start, in the middle and at the end."""

    def __init__(
        self, request: AuditRequest, plan: AuditPlan, planned: Artifact, context: Context, asked: Asked,
        spending: Spending,
    ) -> None:  # fmt: skip
        self._request, self._plan, self._planned, self._context = request, plan, planned, context
        self._asked = asked
        self._spending = spending if asked.kind in PAID_KINDS else Spending()
        self._digest = digest(plan.to_json())
        self._folder = _Lazy(asked, request, context.config)
        self._endpoint: Endpoint | None = None
        self._journals: dict[str, list[Path]] = {}
        self._used: dict[str, int] = {}

    def run(self) -> dict[str, list[Answer]]:
        """Answers by claim, and under ``canaries`` where the plan has some."""
        answers: dict[str, list[Answer]] = {}
        halfway = len(self._plan.claims) // 2
        self._canaries(0, answers)
        for number, claim in enumerate(self._plan.claims):
            answers[claim.claim] = self._claim(claim, answers if number == halfway else None)
        self._canaries(2, answers)
        return answers

    def transcripts(self) -> dict[str, Rows]:
        """What the endpoint received and said, by claim; nothing of folders."""
        return {
            claim: [row for path in paths for row in transcript(path)][: self._used.get(claim)]
            for claim, paths in self._journals.items()
            if self._asked.kind != FOLDER
        }

    def _claim(self, claim: ClaimPlan, middle: dict[str, list[Answer]] | None) -> list[Answer]:
        """One claim's answers; the middle canaries come after the whole triggers of its first half."""
        suspect = next(s for s in claim.suspects if s.name == self._asked.name)
        listed = read_probes(self._planned, claim.claim)
        probes = probes_for(listed, suspect)
        stop = stop_rule(self._plan, claim, self._context.key(), listed, suspect)
        cut = len(probes) if middle is None or not self._plan.canaries else self._half(claim, probes)
        found = self._ask(claim.claim, claim, probes[:cut], stop)
        if middle is not None:
            self._canaries(1, middle)
        if cut < len(probes) and len(found) == cut and not (found and stop(found)):
            first = found
            found = found + self._ask(claim.claim, claim, probes[cut:], lambda answers: stop([*first, *answers]))
        if self._plan.is_sequential(claim):
            found = found[: whole_prefix(probes, len(found))]
        self._used[claim.claim] = len(found)
        return found

    def _half(self, claim: ClaimPlan, probes: Sequence[Probe]) -> int:
        if not self._plan.is_sequential(claim):
            return len(probes) // 2
        return next((at for at in boundaries(probes) if at >= len(probes) // 2), len(probes))

    def _canaries(self, when: int, answers: dict[str, list[Answer]]) -> None:
        if self._plan.canaries:
            probes = canary_probes(self._plan.canaries, ROUNDS[when])
            said = self._ask(CANARIES, self._plan.claims[0], probes, lambda _: False)
            answers.setdefault(CANARIES, []).extend(said)

    def _ask(
        self, what: str, claim: ClaimPlan, probes: Sequence[Probe], stop: Callable[[Sequence[Answer]], bool]
    ) -> list[Answer]:
        if not probes:
            return []
        title = f"ask {self._asked.name}, {what}"
        with self._context.progress.bar(title, len(probes)) as advance:
            paths = self._journals.setdefault(what, [])
            place = f"{what}-{self._asked.name}-{len(paths)}"
            if self._asked.kind == FOLDER:
                paths.append(self._context.work / self._digest[:16] / place)
                return self._in_batches(paths[-1], claim, probes, stop, advance)
            paths.append(_journals(self._context, self._plan) / f"{place}.jsonl")
            audit: Any = self._context.config.audit
            self._endpoint = self._endpoint or self._asked.endpoint(
                self._request.system, max_tokens=audit.max_new_tokens, temperature=audit.temperature,
                seed=self._context.config.seed,
            )  # fmt: skip
            return ask_endpoint(
                self._endpoint, probes, suspect=self._asked.name, allowed=claim.allowed, parser=claim.parser,
                journal=paths[-1], policy=self._asked.access.policy(audit.max_new_tokens),
                budget=Spending() if what == CANARIES else self._spending, advance=advance, stop=stop,
                plan=self._digest,
            )  # fmt: skip

    def _in_batches(
        self, journal: Path, claim: ClaimPlan, probes: Sequence[Probe], stop: Callable[[Sequence[Answer]], bool],
        advance: Callable[[int], None],
    ) -> list[Answer]:  # fmt: skip
        """A folder is asked everything, since that costs nothing, and its answers are cut where the plan stops."""
        answers = ask_all(
            self._folder, probes, allowed=claim.allowed, parser=claim.parser, journal=journal,
            batch_size=self._context.config.audit.batch_size, advance=advance,
        )  # fmt: skip
        early = self._plan.is_sequential(claim) and probes[0].arm != CANARY_ARM
        ends = boundaries(probes) if early else ()
        return next((answers[:at] for at in ends if stop(answers[:at])), answers)


class _Lazy:
    """Loads its model at the first question: a resumed audit whose journal is full loads nothing.

    A batch that several claims ask is answered once: a folder says the same to the same batch, greedy or sampled.
    """

    def __init__(self, asked: Asked, request: AuditRequest, config: Any) -> None:  # noqa: ANN401
        self.name = asked.name
        self._asked, self._request, self._config = asked, request, config
        self._model: Suspect | None = None
        self._said: dict[tuple[str, ...], list[str]] = {}

    def ask(self, prompts: Sequence[str]) -> list[str]:
        if self._model is None:
            self._model = self._request.kind.load(self._asked, self._request.system, self._config)
        batch = tuple(prompts)
        if batch not in self._said:
            self._said[batch] = self._model.ask(prompts)
        return self._said[batch]


def _spending(plan: AuditPlan) -> Spending:
    """What the budget leaves for claims: canaries are set aside, or a spent budget could not show who changed."""
    if plan.budget is None:
        return Spending()
    return Spending(queries=plan.budget.queries - canary_queries(plan), tokens=plan.budget.tokens)


def canary_queries(plan: AuditPlan) -> int:
    """How many of a budget's queries are canaries."""
    paid = {s.name for claim in plan.claims for s in claim.suspects if s.kind in PAID_KINDS}
    return len(paid) * len(ROUNDS) * len(plan.canaries)


def _journals(context: Context, plan: AuditPlan) -> Path:
    return context.owner.parent / JOURNALS / digest(plan.to_json())[:16]
