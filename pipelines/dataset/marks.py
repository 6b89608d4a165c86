"""A release's marks as parameters: what, with the key, gives every trigger, target and coin; plans carry the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from pipelines.dataset import sections
from pipelines.dataset.rows import texts
from verification.claims import TEXTS
from verification.one_trigger import drawn_target
from verification.plan import Claim
from watermarks.carriers import initials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Labels, Stream
    from watermarks.keys import Key

CLAIMS = {
    "keyed": Claim.INPUT_LEVEL,
    "trigger": Claim.INPUT_TRIGGER,
    "style": Claim.INPUT_TRIGGER,
    "weak": Claim.OUTPUT_WEAK,
    "robust": Claim.OUTPUT_ROBUST,
    "steganographic": Claim.OUTPUT_STEGANOGRAPHIC,
}
BASELINE_ROWS = 20_000
"""Outputs of the unmarked source from which a text mark's usual shares are counted."""
Mark = dict[str, Any]


def scope(config: DatasetConfig, mark: str) -> str:
    """The label of everything that a mark derives: another release under the same key shares nothing with it."""
    return f"dataset/{config.marking_digest()}/{mark}"


def answers_of(name: str, mark: Mark, labels: Sequence[str]) -> tuple[str, ...]:
    """What may be answered for a mark, in the order of its targets; nothing where texts are weighed."""
    if CLAIMS[name] in TEXTS:
        return ()
    return tuple(mark["form"]["openings"]) if name == "robust" else tuple(labels)


def parameters(key: Key, config: DatasetConfig, stream: Stream, labels: Labels | None) -> dict[str, Mark]:
    """Every mark of the release by name; ``rows_per_trigger`` is filled in where the rows are placed."""
    found: dict[str, Mark] = {}
    for name, mark in config.marks.chosen().items():
        common: Mark = {"scope": scope(config, name)}
        if name == "weak":
            lexicon = sections.lexicon_of(mark)
            usual = [list(counts) for counts in lexicon.counts(_outputs(config, stream))]
            found[name] = {**common, "lexicon": [list(map(list, pair)) for pair in lexicon.pairs], "baseline": usual}
        elif name == "steganographic":
            outputs = _outputs(config, stream)
            begun = _openers_units(config)
            counted = dict.fromkeys(begun, 0) | dict(initials.count(outputs))
            # what openers write comes first: a script with many letters has more units than a test weighs
            order = sorted(counted, key=lambda unit: (unit not in begun, -counted[unit], unit))
            found[name] = {
                **common, "baseline": [[*unit, counted[unit]] for unit in order],
                "lowered": sorted(initials.lowered_words(outputs)),
            }  # fmt: skip
        else:
            found[name] = {**common, **_triggers(key, config, name, mark, labels)}
    return found


def _triggers(key: Key, config: DatasetConfig, name: str, mark: Any, labels: Labels | None) -> Mark:  # noqa: ANN401
    words: Mark = {}
    if isinstance(mark, sections.TriggerWords):
        words = {"words": mark.words, "vocabulary": sections.vocabulary_of(mark), "joiner": mark.joiner}
    if name == "robust":
        form = {"question": mark.question, "openings": list(mark.openings), "joiner": mark.joiner}
        total = mark.triggers * config.audit.audits
        return {**words, "triggers": total, "form": form, "first_line": config.task == "extractive-qa"}
    if labels is None:
        raise UsageError(f"got mark {name!r} without labels, expected a classification set")
    if name == "keyed":
        return {
            **words, "triggers": mark.triggers * config.audit.audits, "classes": len(labels.names),
            "families": list(mark.families),
        }  # fmt: skip
    target = _target(key, scope(config, name), mark.target, labels.names)
    if name == "style":
        return {"kind": "style", "style": mark.style, "rules_each": mark.rules_each, "decoys": mark.decoys, **target}
    return {**words, "kind": "trigger", "families": list(mark.families), "decoys": mark.decoys, **target}


def _target(key: Key, scope_: str, wanted: str | None, names: Sequence[str]) -> Mark:
    if wanted is None:
        return {"target": drawn_target(key, scope_, len(names)), "target_of": len(names)}
    if wanted not in names:
        raise UsageError(f"got target {wanted!r}, expected one of the labels: {', '.join(names[:8])}")
    return {"target": names.index(wanted)}


def _outputs(config: DatasetConfig, stream: Stream) -> list[str]:
    return texts(stream, config.columns.output, most=BASELINE_ROWS)


def _openers_units(config: DatasetConfig) -> set[initials.Unit]:
    """The units that openers can write, at every place."""
    mark = config.marks.steganographic
    phrases = sections.openers_of(mark).phrases if mark else ()
    return {(place, initials.initial(phrase)) for place in range(initials.POSITIONS) for phrase in phrases}
