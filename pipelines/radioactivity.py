"""``countermark radioactivity``: was a suspect trained on text that carries this key's token watermark?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK, InconclusiveError, UsageError
from countermark.manifest import digest
from verification.findings import HONEST_DRAW, control_level
from verification.radioactivity import (
    Context,
    Evidence,
    Windows,
    closed_windows,
    contexts_of,
    log10_marked,
    reading_windows,
    weigh,
)
from verification.token_claim import EXPANSION
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.config import RunConfig
    from verification.suspects import LocalChatModel
    from watermarks.schemes import Scheme

Mode = Literal["closed", "reading", "reading-marked"]
MODES: tuple[Mode, ...] = ("closed", "reading", "reading-marked")
CLOSED_TEMPERATURE = 1.0
MARKED = -3.0
"""log10 p from which on texts count as marked."""
LONGEST = 1024
"""Longest piece of a text that is read at once."""
FILTERED = "contexts were chosen by the owner's texts, whatever token followed; another choice would be another test"
NO_PLAN = "evidence and no verdict: prompts, length and mode were sealed in no plan"
ASSUMED: dict[Mode, str] = {
    "closed": "assumes that the prompts were made without the key; what a prompt shows of its own is excluded",
    "reading": "assumes that the texts were made without the key, which their own p-value does not contradict",
    "reading-marked": "each input is a fresh draw by itself; jointly exact up to windows that several texts share",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What is asked of whom.

    Args:
        suspect, base: a model folder or hub id, or an adapter and its base.
        controls: models that never saw the marked text.
        mode: ``closed`` scores answers to the texts of the files; ``reading`` what the suspect expects to follow in
            them, ``reading-marked`` where the files' texts carry this key's own mark.
        statistic: one of the scheme's; empty is its first.
        max_new_tokens: longest answer (closed).
        wrong_keys: how many keys the claim is ranked among.
        journal: where answers are kept, so that an interrupted run goes on.
        contexts: texts of the owner; only contexts that occur in them ``contexts_at_least`` times are scored.
    """

    suspect: str
    base: str | None
    controls: tuple[str, ...]
    mode: Mode
    statistic: str
    max_new_tokens: int
    wrong_keys: int
    journal: Path
    system: str | None = None
    contexts: tuple[Path, ...] = ()
    contexts_at_least: int = 1


def expose(files: Sequence[Path], config: RunConfig, what: Exposure) -> tuple[list[str], Any, int]:
    """Evidence for the suspect and every control; exit code 0 if the suspect's reaches ``audit.alpha``, 1 if it does
    not or a control is below its level, 5 if there is too little text to say, or no control that could have been.

    Raises:
        UsageError: no texts, no suspect, or a reading suspect with another tokenizer than the owner's.
    """
    from pipelines.assets import resolve_model
    from pipelines.detection import read_texts
    from pipelines.generate import SCOPE, tokenizer_digest
    from pipelines.keystage import commitments_paid, standing, standing_line
    from pipelines.progress import QuietProgress
    from pipelines.stage import Context

    scheme, owner = config.generate.watermark.build(), resolve_model(config.generate.model)
    texts = [row["text"] for path in files for row in read_texts(path)]
    context = Context(config=config, owner=Path("owner"), work=Path(), progress=QuietProgress())
    key, life, paid = context.key(), standing(context), commitments_paid(context)
    label: dict[str, Any] = {
        "scheme": scheme.name, "params": scheme.params(), "tokenizer": tokenizer_digest(owner.path), "scope": SCOPE,
    }  # fmt: skip
    subkey = key.token_subkey(**label)
    if what.mode == "reading":
        _refuse_marked(owner.path, texts, scheme, subkey)
    chosen = _contexts(owner.path, what, scheme)
    wrong = [wrong_key(f"radioactivity/{key.key_id}", i).token_subkey(**label) for i in range(what.wrong_keys)]
    models = {"suspect": (what.suspect, what.base), **({"base": (what.base, None)} if what.base else {})}
    models |= {f"control-{i}": (control, None) for i, control in enumerate(what.controls)}
    found: dict[str, tuple[Windows, Evidence] | None] = {}
    for name, (model, base) in models.items():
        try:
            windows = _windows(name, str(model), base, texts, scheme, owner.path, what, chosen)
        except InconclusiveError:
            if name == "suspect":
                raise
            found[name] = None  # a control that says nothing is shown as such
            continue
        ranked = wrong if name == "suspect" else ()
        found[name] = windows, weigh(windows, scheme, subkey, statistic=what.statistic, wrong=ranked)
    lines, body, code = _told(found, what, config, scheme, paid)
    return [*lines, standing_line(life)], {**body, "key": life.to_json()}, code


def _refuse_marked(owner: Path, texts: Sequence[str], scheme: Scheme, subkey: bytes) -> None:
    """Texts that carry this key's mark would show it to any reader: their p-value is no bound in this mode."""
    from pipelines.engines.hf import token_ids

    ids, masks = token_ids(owner, texts)
    own = log10_marked(ids, scheme, subkey, masks=masks)
    if own < MARKED:
        raise UsageError(
            f"got texts that carry this key's mark (log10 p {own:.1f}), expected texts made without it",
            hint="let the suspect read other texts, use --mode reading-marked, or the closed mode",
        )


def _windows(
    name: str,
    model: str,
    base: str | None,
    texts: Sequence[str],
    scheme: Scheme,
    owner: Path,
    what: Exposure,
    contexts: set[Context] | None,
) -> Windows:
    from pipelines.assets import resolve_model
    from pipelines.engines.hf import special_ids, token_ids

    suspect = _load(name, model, base, what)
    ids, special = token_ids(owner, texts)[0], special_ids(owner)
    if what.mode == "closed":
        answers = _answers(
            suspect, texts, what, [name, *(resolve_model(each).digest for each in (model, base) if each)]
        )
        return closed_windows(token_ids(owner, answers)[0], ids, scheme, special=special, contexts=contexts)
    if not suspect.reads_like(owner):
        raise UsageError(
            f"got {name} with another tokenizer than the owner's, expected the same in mode {what.mode}",
            hint="use the closed mode, which needs text alone",
        )
    pieces = [row[start : start + LONGEST] for row in ids for start in range(0, len(row), LONGEST)]
    predicted = [suspect.likeliest(piece) for piece in pieces]
    key_free = what.mode == "reading"
    return reading_windows(
        pieces, predicted, [0] * len(pieces), scheme, key_free=key_free, special=special, contexts=contexts
    )


def _contexts(owner: Path, what: Exposure, scheme: Scheme) -> set[Context] | None:
    from pipelines.detection import read_texts
    from pipelines.engines.hf import token_ids

    if not what.contexts:
        return None
    texts = [row["text"] for path in what.contexts for row in read_texts(path)]
    return contexts_of(token_ids(owner, texts)[0], scheme, at_least=what.contexts_at_least)


def _load(name: str, model: str, base: str | None, what: Exposure) -> LocalChatModel:
    from pipelines.asked import load_chat_model

    return load_chat_model(
        name, model, base, system=what.system, max_new_tokens=what.max_new_tokens, temperature=CLOSED_TEMPERATURE
    )


def _answers(suspect: LocalChatModel, prompts: Sequence[str], what: Exposure, which: Sequence[str]) -> list[str]:
    from pipelines.progress import default_progress
    from verification.probe import Probe, ask_all

    probes = [Probe(id=f"closed-{i}", arm="closed", index=i, carrier=-1, prompt=p) for i, p in enumerate(prompts)]
    plan = digest([list(which), what.max_new_tokens, what.system, list(prompts)])
    with default_progress(quiet=False).bar(f"ask {suspect.name}", len(probes)) as advance:
        answers = ask_all(
            suspect, probes, allowed=(), parser="exact/1", journal=what.journal / plan[:16], batch_size=32,
            advance=advance,
        )  # fmt: skip
    return [answer.raw for answer in answers]


def _told(
    found: dict[str, tuple[Windows, Evidence] | None],
    what: Exposure,
    config: RunConfig,
    scheme: Scheme,
    commitments: int,
) -> tuple[list[str], dict[str, Any], int]:
    """Table, notes and exit code. Every mode and statistic that could have been tried is paid for by the suspect, like
    every commitment made.
    """
    tried, alpha = commitments * len(MODES) * len(scheme.statistics), config.audit.alpha
    lines, rows = _table(found, math.log10(tried))
    floor, p = rows[0]["log10_floor"] + math.log10(tried), rows[0]["log10_p"]
    if rows[0]["rank_p"] is not None:
        lines.append(f"rank p among {rows[0]['wrong_keys']} wrong keys: {rows[0]['rank_p']:.3g}")
    failed, weightless = _controls(found, alpha)
    lines += [*(f"control {name}: below its level too" for name in failed), *weightless]
    reached = p <= math.log10(alpha) and not failed and not weightless
    code = EXIT_OK if reached else EXIT_NOT_SUPPORTED
    if floor > math.log10(alpha):
        lines.append("too little text to reach alpha at all")
        code = EXIT_INCONCLUSIVE
    elif weightless and not failed and p <= math.log10(alpha):
        code = EXIT_INCONCLUSIVE
    honest = [] if config.keys.public_value else [HONEST_DRAW]
    notes = [f"the suspect's p is multiplied by {tried}: modes, statistics and commitments", NO_PLAN]
    notes += [ASSUMED[what.mode], *([FILTERED] if what.contexts else []), EXPANSION, *honest]
    body = {"mode": what.mode, "alpha": alpha, "reaches_alpha": reached, "paid": tried, "evidence": rows}
    return [*lines, "", *notes], {**body, "failed_controls": failed, "no_controls": weightless, "notes": notes}, code


def _table(found: dict[str, tuple[Windows, Evidence] | None], paid: float) -> tuple[list[str], list[dict[str, Any]]]:
    """A line and a row for everybody who said something; the suspect, who did, comes first."""
    lines = [f"{'model':<12} {'positions':>9} {'excluded':>8} {'scored':>7} {'total':>9} {'log10 p':>9}"]
    rows = []
    for name, each in found.items():
        if each is None:
            lines.append(f"{name:<12} nothing to score")
            continue
        windows, evidence = each
        p = min(0.0, evidence.log10_p + (paid if name == "suspect" else 0.0))
        counts = {"model": name, "positions": windows.positions, "excluded": windows.excluded}
        counts |= {"filtered": windows.filtered}
        rows.append({**counts, **asdict(evidence), "log10_p": p})
        lines.append(
            f"{name:<12} {windows.positions:>9} {windows.excluded:>8} {evidence.scored:>7} {evidence.total:>9} "
            f"{p:>9.2f}"
        )
    return lines, rows


def _controls(found: dict[str, tuple[Windows, Evidence] | None], alpha: float) -> tuple[list[str], list[str]]:
    """Controls that are below their level, and why others are no controls (decision 0016); they pay for nothing."""
    controls = {name: each for name, each in found.items() if name != "suspect"}
    if not controls:
        return [], ["no control: name a model that never saw such texts with --control (or --base, of an adapter)"]
    level = math.log10(control_level(alpha) / len(controls))
    failed, weightless = [], []
    for name, each in controls.items():
        if each is None or each[1].log10_floor > level:
            weightless.append(f"control {name}: too little text to be a control")
        elif each[1].log10_p <= level:
            failed.append(name)
    return failed, weightless
