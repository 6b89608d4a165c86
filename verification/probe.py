"""Asks a suspect what a sealed plan lists, and journals every raw answer before it is used.

A probe is asked once. The journal holds one file a batch, written atomically; an interrupted probe continues at the
first batch that has no file and asks nothing twice. Refusals and rambling are answers, and count against the claim.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from countermark.errors import IntegrityError, SuspectUnreachableError, UsageError
from countermark.files import make_dir, sha256_bytes
from countermark.manifest import read_checked_json, write_checked_json

if TYPE_CHECKING:
    from pathlib import Path

    from verification.suspects import Suspect

_FIRST_WORD = re.compile(r"[^\w]*([^\W\d_]+)")
MAX_RAW_CHARACTERS = 4096

Parser = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One planned query.

    Args:
        id: unique within the plan.
        arm: which part of the plan it serves (``keyed``, ``wrong_key``, ``paper_trigger``, ``paper_reference``, …).
        index: the trigger's index within its arm, or -1.
        carrier: the carrier's index, or -1.
        prompt: the text that is sent.
    """

    id: str
    arm: str
    index: int
    carrier: int
    prompt: str

    @property
    def prompt_digest(self) -> str:
        """SHA-256 of the prompt's UTF-8 bytes."""
        return sha256_bytes(self.prompt.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one probe. ``parsed`` is None where the parser could not read an allowed answer."""

    id: str
    suspect: str
    arm: str
    prompt_digest: str
    raw: str
    parsed: str | None
    attempt: int


def parse_first_word(raw: str, allowed: Sequence[str]) -> str | None:
    """The published parser ``first_word/1``: the first run of letters, case folded, if it is an allowed answer."""
    match = _FIRST_WORD.match(raw)
    if match is None:
        return None
    word = match.group(1).casefold()
    return next((answer for answer in allowed if answer.casefold() == word), None)


def parse_first_word_marks(raw: str, allowed: Sequence[str]) -> str | None:
    """The published parser ``first_word/2``: as ``first_word/1``, for scripts whose letters carry combining marks.

    Composed (NFC), a word is a letter and the letters and marks that follow; equal to version 1 where there are none.
    """
    text = unicodedata.normalize("NFC", raw)
    start = next((i for i, c in enumerate(text) if c == "_" or c.isalnum()), len(text))
    if start == len(text) or not text[start].isalpha():
        return None
    end = start + 1
    while end < len(text) and (text[end].isalpha() or unicodedata.category(text[end]).startswith("M")):
        end += 1
    word = text[start:end].casefold()
    return next((a for a in allowed if unicodedata.normalize("NFC", a).casefold() == word), None)


def parse_exact(raw: str, allowed: Sequence[str]) -> str | None:
    """The published parser ``exact/1``: the whole answer without surrounding space, for suspects that give labels."""
    return next((answer for answer in allowed if answer == raw.strip()), None)


def parse_phrase(raw: str, allowed: Sequence[str]) -> str | None:
    """The published parser ``phrase/1``: the one allowed phrase that occurs in the answer; None for none or several.

    Composed (NFC) and case folded, any run of white space as one space.
    """
    text = _plain(raw)
    found = [phrase for phrase in allowed if _plain(phrase) in text]
    return found[0] if len(found) == 1 else None


def parse_text(raw: str, allowed: Sequence[str]) -> str | None:
    """The published parser ``text/1``: whether there is any answer; what is weighed is the raw text."""
    del allowed
    return "text" if raw.strip() else None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


PARSERS = {
    "first_word/1": parse_first_word,
    "first_word/2": parse_first_word_marks,
    "exact/1": parse_exact,
    "phrase/1": parse_phrase,
    "text/1": parse_text,
}


def ask_all(
    suspect: Suspect,
    probes: Sequence[Probe],
    *,
    allowed: Sequence[str],
    parser: str,
    journal: Path,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Every planned probe's answer, in the plan's order; batches found in ``journal`` are not asked again.

    Raises:
        UsageError: nothing to ask. IntegrityError: the journal belongs to other probes.
        SuspectUnreachableError: the suspect stopped answering; what it said before is kept.
    """
    if not probes:
        raise UsageError("got no probes, expected at least one", hint="an empty plan proves nothing")
    make_dir(journal)
    answers: list[Answer] = []
    for number, start in enumerate(range(0, len(probes), batch_size)):
        batch = probes[start : start + batch_size]
        path = journal / f"batch-{number:05d}.json"
        if path.exists():
            answers += _read_batch(path, batch, suspect.name)
        else:
            raw = suspect.ask([probe.prompt for probe in batch])
            if len(raw) != len(batch):
                raise SuspectUnreachableError(
                    f"got {len(raw)} answers of {suspect.name} to {len(batch)} prompts, expected one each",
                    hint="what it said before is journaled; mend the suspect and run the same command again",
                )
            fresh = [
                _answer(suspect.name, probe, text, PARSERS[parser], allowed)
                for probe, text in zip(batch, raw, strict=True)
            ]
            write_checked_json(path, [asdict(answer) for answer in fresh])
            answers += fresh
        advance(len(batch))
    return answers


def majority(votes: Sequence[str | None]) -> str | None:
    """The answer that most carriers gave; a tie, or a majority of unreadable answers, is None: a miss."""
    counts: dict[str | None, int] = {}
    for vote in votes:
        counts[vote] = counts.get(vote, 0) + 1
    best = max(counts.values(), default=0)
    leaders = [vote for vote, count in counts.items() if count == best]
    return leaders[0] if len(leaders) == 1 else None


def _answer(suspect: str, probe: Probe, raw: str, parse: Parser, allowed: Sequence[str]) -> Answer:
    kept = raw[:MAX_RAW_CHARACTERS].encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8
    return Answer(
        id=probe.id,
        suspect=suspect,
        arm=probe.arm,
        prompt_digest=probe.prompt_digest,
        raw=kept,
        parsed=parse(kept, allowed),
        attempt=1,
    )


def _read_batch(path: Path, batch: Sequence[Probe], suspect: str) -> list[Answer]:
    try:
        answers = [Answer(**entry) for entry in read_checked_json(path)]
    except TypeError as error:
        raise IntegrityError(f"got {path} of another shape, expected journaled answers") from error
    expected = [(probe.id, suspect, probe.prompt_digest) for probe in batch]
    if [(a.id, a.suspect, a.prompt_digest) for a in answers] != expected:
        raise IntegrityError(
            f"got answers to other probes in {path}, expected those of the sealed plan",
            hint="the plan changed after probing began; start over with --fresh",
        )
    return answers
