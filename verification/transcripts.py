"""What a journal says: which queries have their answer, what was spent, and the transcript that evidence digests.

The transcript is free of clocks, tries, the texts of failures and the order of arrival: an audit that was killed, or
met other faults, gives the same bytes as one that was not. What varies goes to :func:`requests_made`, a side file that
nothing digests. Answers that were paid for and not used (asked ahead of a sequential stop) are in the side file only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countermark.errors import IntegrityError
from verification.journal import read_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

ANSWERED = "answered"
FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class Kept:
    """The state that a journal's lines lead to.

    Args:
        answers: the answer's line, by probe.
        lost: the line that declares a query failed for good, by probe.
        requests: how often each probe was sent.
        exhausted: probes whose tries were used up in some run, without having been declared lost.
        tokens: charged, requests of unknown outcome included.
        late: answers to queries that had one already.
        used: how many probes the result spans, as the last finished run found; None if none finished.
        ended: why it ended there: "complete", "stop" or "budget".
    """

    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    lost: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    exhausted: set[str] = field(default_factory=set)
    tokens: int = 0
    late: Counter[str] = field(default_factory=Counter)
    used: int | None = None
    ended: str = ""

    def final(self, probe: str) -> bool:
        """Whether the query will not be sent again."""
        return probe in self.answers or probe in self.lost


def replay(bodies: Iterable[Mapping[str, Any]], probes: Sequence[str]) -> Kept:
    """The state after these lines; every probe that they name must be among ``probes``.

    Raises:
        IntegrityError: a line of another shape, or about another probe.
    """
    kept, known = Kept(), set(probes)
    under_way: dict[tuple[str, int], int] = {}
    try:
        for body in bodies:
            if body["kind"] == "end":
                kept.used, kept.ended = body["used"], body["reason"]
            elif body["kind"] != "header":
                if body["probe"] not in known:
                    raise IntegrityError(f"got a journal line about probe {body['probe']!r}, expected a planned one")
                _replay(kept, body, under_way)
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"got a journal line of another shape ({error}), expected format 1") from error
    kept.tokens += sum(under_way.values())  # killed before they were answered: they may have been billed
    return kept


def _replay(kept: Kept, body: Mapping[str, Any], under_way: dict[tuple[str, int], int]) -> None:
    kind, probe = body["kind"], body["probe"]
    if kind == "sent":
        kept.requests[probe] += 1
        under_way[probe, body["request"]] = body["reserved"]
    elif kind in {"answer", "late"}:
        under_way.pop((probe, body["request"]), None)
        kept.tokens += body["tokens"]
        if kind == "late":
            kept.late[probe] += 1
        elif probe in kept.answers:
            raise IntegrityError(f"got two answers to probe {probe!r} in a journal, expected one")
        else:
            kept.answers[probe] = body
    elif kind == "failure":
        under_way.pop((probe, body["request"]), None)
        kept.tokens += body["tokens"]
    elif kind == "exhausted":
        kept.exhausted.add(probe)
    elif kind == "lost":
        kept.lost[probe] = body
    else:
        raise IntegrityError(f"got a journal line of kind {kind!r}, expected format 1")


def transcript(journal: Path) -> list[dict[str, Any]]:
    """Every query that the result uses, in the plan's order: id, prompt digest, status, raw answer, model reported.

    Of a journal whose audit has not ended it is the longest run of finished queries from the first on.

    Raises:
        IntegrityError: the journal is damaged.
    """
    probes, kept = _read(journal)
    rows = []
    for probe, prompt_digest in probes[: len(probes) if kept.used is None else kept.used]:
        if not kept.final(probe):
            break
        body = kept.answers.get(probe)
        rows.append(
            {
                "id": probe, "prompt_digest": prompt_digest, "status": ANSWERED if body else FAILED,
                "raw": body["raw"] if body else "", "model": body["model"] if body else "",
            }
        )  # fmt: skip
    return rows


def requests_made(journal: Path) -> dict[str, Any]:
    """What differs from run to run: requests by probe, late answers, tokens, answers paid for and not used.

    Raises:
        IntegrityError: the journal is damaged.
    """
    probes, kept = _read(journal)
    used = {probe for probe, _ in probes[: len(probes) if kept.used is None else kept.used]}
    return {
        "queries": len(kept.requests),
        "requests": dict(sorted(kept.requests.items())),
        "late": dict(sorted(kept.late.items())),
        "tokens": kept.tokens,
        "unused": [probe for probe, _ in probes if probe in kept.requests and probe not in used],
        "ended": kept.ended,
    }


def models_reported(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The models that answered, as runs in the plan's order: ``[{"model", "first", "count"}]``; one if nothing changed.

    ``rows`` is a transcript; failed queries report no model and are passed over.
    """
    runs: list[dict[str, Any]] = []
    for row in rows:
        if row["status"] != ANSWERED:
            continue
        if runs and runs[-1]["model"] == row["model"]:
            runs[-1]["count"] += 1
        else:
            runs.append({"model": row["model"], "first": row["id"], "count": 1})
    return runs


def _read(journal: Path) -> tuple[list[tuple[str, str]], Kept]:
    bodies = [line.body for line in read_journal(journal)]
    try:
        probes = [(probe, prompt_digest) for probe, prompt_digest in bodies[0]["probes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"got a journal {journal} without its probes, expected a header first") from error
    return probes, replay(bodies, [probe for probe, _ in probes])
