"""``countermark radioactivity``: was a suspect trained on text that carries this key's token watermark?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK, UsageError
from countermark.manifest import digest
from verification.radioactivity import Evidence, Windows, closed_windows, reading_windows, weigh
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.config import RunConfig
    from verification.suspects import LocalChatModel
    from watermarks.schemes import Scheme

Mode = Literal["closed", "reading", "reading-marked"]
MODES: tuple[Mode, ...] = ("closed", "reading", "reading-marked")
CLOSED_TEMPERATURE = 1.0


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


def expose(files: Sequence[Path], config: RunConfig, what: Exposure) -> tuple[list[str], Any, int]:
    """Evidence for the suspect and every control; exit code 0 if the suspect's holds at ``audit.alpha``, 1 if it does
    not or a control's does, 5 if there is too little text to say.

    Raises:
        UsageError: no texts, no suspect, or a reading suspect with another tokenizer than the owner's.
    """
    from pipelines.assets import resolve_model
    from pipelines.detection import read_texts
    from pipelines.generate import SCOPE, tokenizer_digest
    from pipelines.progress import QuietProgress
    from pipelines.stage import Context

    scheme, owner = config.generate.watermark.build(), resolve_model(config.generate.model)
    texts = [row["text"] for path in files for row in read_texts(path)]
    key = Context(config=config, owner=Path("owner"), work=Path(), progress=QuietProgress()).key()
    label: dict[str, Any] = {
        "scheme": scheme.name, "params": scheme.params(), "tokenizer": tokenizer_digest(owner.path), "scope": SCOPE,
    }  # fmt: skip
    wrong = [wrong_key(f"radioactivity/{key.key_id}", i).token_subkey(**label) for i in range(what.wrong_keys)]
    models = {"suspect": (what.suspect, what.base), **({"base": (what.base, None)} if what.base else {})}
    models |= {f"control-{i}": (control, None) for i, control in enumerate(what.controls)}
    found: dict[str, tuple[Windows, Evidence]] = {}
    for name, (model, base) in models.items():
        windows = _windows(name, str(model), base, texts, scheme, owner.path, what)
        found[name] = (
            windows,
            weigh(
                windows,
                scheme,
                key.token_subkey(**label),
                statistic=what.statistic,
                wrong=wrong if name == "suspect" else (),
            ),
        )
    return _told(found, what, config.audit.alpha)


def _windows(
    name: str, model: str, base: str | None, texts: Sequence[str], scheme: Scheme, owner: Path, what: Exposure
) -> Windows:
    from pipelines.assets import resolve_model
    from pipelines.engines.hf import special_ids, token_ids

    suspect = _load(name, model, base, what)
    ids, special = token_ids(owner, texts)[0], special_ids(owner)
    if what.mode == "closed":
        answers = _answers(
            suspect, texts, what, [name, *(resolve_model(each).digest for each in (model, base) if each)]
        )
        return closed_windows(token_ids(owner, answers)[0], ids, scheme, special=special)
    if not suspect.reads_like(owner):
        raise UsageError(
            f"got {name} with another tokenizer than the owner's, expected the same in mode {what.mode}",
            hint="use the closed mode, which needs text alone",
        )
    predicted = [suspect.likeliest(row) for row in ids]
    key_free = what.mode == "reading"
    return reading_windows(ids, predicted, [0] * len(ids), scheme, key_free=key_free, special=special)


def _load(name: str, model: str, base: str | None, what: Exposure) -> LocalChatModel:
    from pipelines.assets import resolve_model
    from verification.suspects import LocalChatModel

    folder = resolve_model(model).path
    return LocalChatModel(
        name, resolve_model(base).path if base else folder, adapter=folder if base else None, system=what.system,
        max_new_tokens=what.max_new_tokens, temperature=CLOSED_TEMPERATURE,
    )  # fmt: skip


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
    found: dict[str, tuple[Windows, Evidence]], what: Exposure, alpha: float
) -> tuple[list[str], dict[str, Any], int]:
    log10_alpha = math.log10(alpha)
    lines = [f"{'model':<12} {'positions':>9} {'excluded':>8} {'scored':>7} {'total':>9} {'log10 p':>9}"]
    rows = []
    for name, (windows, evidence) in found.items():
        rows.append({"model": name, "positions": windows.positions, "excluded": windows.excluded, **asdict(evidence)})
        lines.append(
            f"{name:<12} {windows.positions:>9} {windows.excluded:>8} {evidence.scored:>7} {evidence.total:>9} "
            f"{evidence.log10_p:>9.2f}"
        )
    suspect = found["suspect"][1]
    if suspect.rank_p is not None:
        lines.append(f"rank p among {suspect.wrong_keys} wrong keys: {suspect.rank_p:.3g}")
    # the controls share alpha: with many, one may fall below it by chance
    level = log10_alpha - math.log10(max(1, len(found) - 1))
    failed = [name for name, (_, e) in found.items() if name != "suspect" and e.log10_p <= level]
    if suspect.log10_floor > log10_alpha:
        code = EXIT_INCONCLUSIVE
        lines.append("too little text to reach alpha at all")
    else:
        code = EXIT_NOT_SUPPORTED if failed or suspect.log10_p > log10_alpha else EXIT_OK
    if failed:
        lines.append(f"controls that are supported too: {', '.join(failed)}")
    word = {EXIT_OK: "supported", EXIT_NOT_SUPPORTED: "not_supported", EXIT_INCONCLUSIVE: "inconclusive"}[code]
    return [*lines, word], {"mode": what.mode, "alpha": alpha, "decision": word, "evidence": rows}, code
