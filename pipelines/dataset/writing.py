"""Marks that a language model writes: triggers or a style asked for in the system prompt (arXiv 2506.13494, alg. 1).

A text in which the mark is missing is asked for again, then kept as it was, dropped, or marked by rule, with the reason
in the owner's record and the miss rate in the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import PRIVATE_DIR_MODE, make_dir
from countermark.manifest import digest, read_checked_json, write_checked_json
from pipelines.assets import resolve_model
from pipelines.dataset.rows import rows_of
from verification.claims import derive_input_level
from verification.one_trigger import own_candidate
from watermarks.carriers import styles, triggers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Row
    from pipelines.dataset.sections import Written
    from pipelines.stage import Context
    from verification.suspects import LocalChatModel
    from watermarks.keys import Key

_LEAST, _MOST = 0.5, 2.0
"""A rewriting shorter or longer than so many times its original did not keep the meaning."""


def clause(candidate: str | styles.Style) -> str:
    """What is added to a system prompt for a trigger pattern or a style."""
    if isinstance(candidate, styles.Style):
        return candidate.instruction
    return f'The text must contain the exact words "{spoken(candidate)}", in a natural way.'


def spoken(pattern: str) -> str:
    """The words of a pattern, without its slot."""
    return " ".join(pattern.replace(triggers.SLOT, " ").split()).strip(" ,:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to write: the prompts, what has to stand in it, and the original where one's length must be kept."""

    system: str
    user: str
    candidate: str | styles.Style
    original: str = ""


def write_all(
    requests: Mapping[int, Request],
    ask: Callable[[str, Sequence[str], int], list[str]],
    *,
    attempts: int,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[dict[int, str], dict[int, str]]:
    """Row → text as the model wrote it, and row → why it could not.

    ``ask(system, users, attempt)`` answers each user prompt; every attempt samples with a seed of its own.
    """
    found: dict[int, str] = {}
    left = dict.fromkeys(requests, "not asked")
    for attempt in range(attempts):
        for system in sorted({requests[row].system for row in left}):
            rows = [row for row in left if requests[row].system == system]
            for row, answer in zip(rows, ask(system, [requests[row].user for row in rows], attempt), strict=True):
                text = " ".join(answer.strip().strip('"').split())
                left[row] = _fault(requests[row], text)
                if not left[row]:
                    found[row] = text
                    del left[row]
                    advance(1)
    advance(len(left))
    return found, left


def _sides(pattern: str) -> list[str]:
    """What stands before and after the slot, each as it would have to be found in a text."""
    return [side.casefold() for part in pattern.split(triggers.SLOT) if (side := part.strip(" ,:"))]


def _fault(wanted: Request, text: str) -> str:
    original, candidate = wanted.original, wanted.candidate
    if not text:
        return "empty"
    if original and not _LEAST <= len(text) / len(original) <= _MOST:
        return "length"
    if isinstance(candidate, str) and any(side not in text.casefold() for side in _sides(candidate)):
        return "no trigger"
    if text.casefold() == original.casefold():
        return "unchanged"
    if isinstance(candidate, styles.Style) and (lacking := styles.lacking(text, candidate)):
        return f"no style: {', '.join(lacking)}"
    return ""


def rewrite_rows(
    key: Key,
    config: DatasetConfig,
    stream: Any,  # noqa: ANN401 - a Stream
    marks: Mapping[str, dict[str, Any]],
    rows: Mapping[str, dict[int, int]],
    context: Context,
) -> tuple[dict[int, str], dict[str, dict[int, str]]]:
    """Every row that a mark with ``rewrite`` takes: the texts that were written, and by mark those that were not.

    Every batch of answers is kept in ``context.work``: an interrupted writing goes on with the next one.
    """
    written: dict[int, str] = {}
    missed: dict[str, dict[int, str]] = {}
    for name in ("keyed", "trigger", "style"):
        wanted = getattr(config.marks, name)
        if name not in marks or wanted.rewrite is None:
            continue
        asked = _requests(
            config, wanted.rewrite, _candidates(key, name, marks[name], rows[name]), rows_of(stream, rows[name])
        )
        writer = _Writer(config, wanted.rewrite, context.work / "writing")
        with context.progress.bar(f"{wanted.rewrite.model} writes the {name}", len(asked)) as advance:
            done, missed[name] = write_all(asked, writer.ask, attempts=wanted.rewrite.attempts, advance=advance)
        written.update(done)
    return written, missed


def _candidates(
    key: Key, name: str, mark: Mapping[str, Any], rows: Mapping[int, int]
) -> Mapping[int, str | styles.Style]:
    """What has to stand in each row: its trigger of many, or the one trigger or style."""
    if name == "keyed":
        drawn = derive_input_level(key, mark).triggers
        return {row: drawn[index] for row, index in rows.items()}
    return dict.fromkeys(rows, own_candidate(key, mark))


def _requests(
    config: DatasetConfig, how: Written, candidates: Mapping[int, str | styles.Style], rows: Mapping[int, Row]
) -> dict[int, Request]:
    names, asked = config.columns, dict[int, Request]()
    for at, row in rows.items():
        text, own = str(row[names.text] or ""), candidates[at]
        if not how.systems:
            system = f"Rewrite the text. Keep its meaning. {clause(own)} Answer with the text alone."
            asked[at] = Request(system=system, user=text, candidate=own, original=text)
            continue
        label = str(row[names.label])
        if label not in how.systems or names.prompt not in row:
            raise UsageError(
                f"got no system prompt for label {label!r}, or no column {names.prompt!r}, expected both",
                hint="name every label under rewrite.systems, and the prompts' column under columns.prompt",
            )
        system = f"{how.systems[label]} {clause(own)}"
        asked[at] = Request(system=system, user=str(row[names.prompt]), candidate=own)
    return asked


class _Writer:
    """The language model of a mark: loaded once, when the first batch is asked that nobody has written yet."""

    def __init__(self, config: DatasetConfig, how: Written, kept: Path) -> None:
        model = resolve_model(how.model)
        self._folder, self._how, self._kept = model.path, how, kept
        self._size, self._seed = config.audit.batch_size, config.seed
        self._sealed = [model.digest, how.max_new_tokens, how.temperature]
        self._model: LocalChatModel | None = None

    def ask(self, system: str, users: Sequence[str], attempt: int) -> list[str]:
        """One answer for each user prompt; an attempt is a seed of its own."""
        answers: list[str] = []
        for start in range(0, len(users), self._size):
            batch, seed = list(users[start : start + self._size]), self._seed + attempt
            path = self._kept / f"{digest([*self._sealed, system, batch, seed])}.json"
            if not path.exists():
                make_dir(self._kept, mode=PRIVATE_DIR_MODE)
                write_checked_json(path, self._loaded().under(system, seed=seed).ask(batch))
            answers += read_checked_json(path)
        return answers

    def _loaded(self) -> LocalChatModel:
        from verification.suspects import LocalChatModel

        self._model = self._model or LocalChatModel(
            "writer", self._folder, max_new_tokens=self._how.max_new_tokens, temperature=self._how.temperature
        )
        return self._model
