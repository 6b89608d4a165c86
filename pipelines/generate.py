"""Stage ``generate``: continue real labelled texts under a token watermark, and keep what fits its label.

A classifier of real texts decides what fits. A row's ``text`` is the continuation alone; the real half stays in
``prompt``. Dropped rows are kept apart with their reason. Every batch is journaled, so a killed run resumes at the
batch it was in, and ends byte-identical.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError, UsageError
from countermark.manifest import read_checked_json, write_checked_json
from pipelines.agreement import Agreement
from pipelines.artifact import write_rows
from pipelines.assets import resolve_model
from pipelines.sources import LabelledText, Reviews, balanced, load_reviews
from verification.detect import detect
from verification.retokenise import mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import GenerateConfig, RunConfig
    from pipelines.engines.hf import HFEngine
    from pipelines.stage import Context

ROW_SCHEMA = {
    "id": "string", "text": "string", "label": "int64", "prompt": "string", "seed": "int64", "model_digest": "string",
}  # fmt: skip
DROPPED_SCHEMA = {**ROW_SCHEMA, "reason": "string"}
TOKENS_SCHEMA = {"id": "string", "tokens": "int64"}
SCOPE = "reviews"
MIN_WORDS = 5
MIN_KEEP_RATE = 0.2
"""Below this share of kept rows, generator and agreement classifier do not fit each other: give up, do not spin."""
MIN_TRIED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One prompt to continue. ``seed`` belongs to the row alone."""

    id: str
    prompt: str
    label: int
    seed: int


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides this stage's output."""
    return config.generate.model_dump()


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Fills ``out`` with ``rows.parquet``, ``dropped.parquet``, and the number of tokens drawn for each of them."""
    del inputs  # the key stage only has to have happened: nothing is marked before the commitment exists
    from pipelines.engines.hf import HFEngine, token_ids

    config = context.config.generate
    reviews = load_reviews(config.source)
    model = resolve_model(config.model)
    scheme, subkey = config.watermark.build(), _subkey(context, model.path)
    candidates = _candidates(reviews, config, context.config.seed)
    keeper = _Keeper(config, Agreement.fit(reviews.fit), len(reviews.labels), model.digest)
    engine: HFEngine | None = None
    with context.progress.bar("generate: rows kept", config.rows) as advance:
        for number in itertools.count():
            batch = keeper.next_batch(candidates, config.batch_size)
            if not batch:
                break
            path = context.work / f"batch-{number:05d}.json"
            if not path.exists():
                engine = engine or HFEngine(model.path, config, subkey)
                made = engine.continue_batch([c.prompt for c in batch], [c.seed for c in batch])
                write_checked_json(path, [{"text": each.text, "tokens": list(each.tokens)} for each in made])
            keeper.take(batch, read_checked_json(path), advance)
    keeper.finish()
    write_rows(out / "rows.parquet", keeper.rows, ROW_SCHEMA)
    write_rows(out / "dropped.parquet", keeper.dropped, DROPPED_SCHEMA)
    counts = [{"id": name, "tokens": len(drawn)} for name, drawn in keeper.tokens.items()]
    write_rows(out / "tokens.parquet", counts, TOKENS_SCHEMA)
    ids, masks = token_ids(model.path, [row["text"] for row in keeper.rows])
    _, corpus = detect(ids, scheme, subkey, masks=masks)
    lost = mismatch([keeper.tokens[row["id"]] for row in keeper.rows], ids, scheme.inputs)
    return {
        "rows": len(keeper.rows),
        "dropped": keeper.reasons(),
        "labels": list(reviews.labels),
        "model_digest": model.digest,
        "key_id": context.key().key_id,
        "watermark": {
            "scheme": scheme.name,
            "params": scheme.params(),
            "statistic": scheme.statistics[0],
            "scope": SCOPE,
            "tokenizer": tokenizer_digest(model.path),
        },
        "self_check": {"scored": corpus.scored, "total": corpus.total, "log10_p": round(corpus.log10_p or 0.0, 3)},
        "retokenisation": {"windows": lost.windows, "lost": lost.lost},
    }


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of ``tokenizer.json``: token ids mean nothing without it, so it enters the sub-key's label."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def _subkey(context: Context, folder: Path) -> bytes:
    scheme = context.config.generate.watermark.build()
    return context.key(marking=True).token_subkey(
        scheme=scheme.name, params=scheme.params(), tokenizer=tokenizer_digest(folder), scope=SCOPE
    )


def _candidates(reviews: Reviews, config: GenerateConfig, seed: int) -> list[Candidate]:
    """All prompts there are, balanced and in a seeded order; the same text serves every seed at most once a pass."""
    if set(config.prompts) != set(reviews.labels):
        raise UsageError(
            f"got generate.prompts for {sorted(config.prompts)}, expected one for each label: {sorted(reviews.labels)}",
            hint="name the labels of the source, as they are spelt there",
        )
    drawn: list[LabelledText] = balanced(reviews.prompts, len(reviews.prompts), f"prompts/{seed}")
    return [
        Candidate(
            id=f"r{number:06d}",
            prompt=config.prompts[reviews.labels[item.label]].replace("{text}", first_half(item.text)),
            label=item.label,
            seed=_row_seed(seed, number),
        )
        for number, item in enumerate(drawn)
    ]


def first_half(text: str) -> str:
    """The first half of a text, by words."""
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


def _row_seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"row/{seed}/{number}".encode()).digest()[:7], "big")


class _Keeper:
    """Keeps balanced rows in order, and every other row with the reason why it was dropped."""

    def __init__(self, config: GenerateConfig, agreement: Agreement, classes: int, model_digest: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        self.tokens: dict[str, list[int]] = {}
        self._config = config
        self._agreement = agreement
        self._model_digest = model_digest
        self._quota = [config.rows // classes + (c < config.rows % classes) for c in range(classes)]
        self._seen: set[str] = set()
        self._next = 0
        self._tried = 0

    def next_batch(self, candidates: Sequence[Candidate], size: int) -> list[Candidate]:
        """The next candidates of classes that still need rows; empty when all have theirs, or none is left.

        It depends on what was kept so far and on nothing else, so a resumed run forms the same batches.
        """
        batch: list[Candidate] = []
        while self._next < len(candidates) and len(batch) < size and any(self._quota):
            candidate = candidates[self._next]
            self._next += 1
            if self._quota[candidate.label]:
                batch.append(candidate)
        return batch

    def take(self, batch: list[Candidate], made: list[dict[str, Any]], advance: Callable[[int], None]) -> None:
        """Sorts one batch into kept and dropped."""
        texts = [each["text"] for each in made]
        self.tokens |= {c.id: each["tokens"] for c, each in zip(batch, made, strict=True)}
        confidence = self._agreement.confidence(texts, [c.label for c in batch])
        kept = 0
        for candidate, text, sure in zip(batch, texts, confidence, strict=True):
            row = {
                "id": candidate.id, "text": text, "label": candidate.label, "prompt": candidate.prompt,
                "seed": candidate.seed, "model_digest": self._model_digest,
            }  # fmt: skip
            reason = self._reason(text, sure, candidate.label)
            if reason:
                self.dropped.append({**row, "reason": reason})
            else:
                self.rows.append(row)
                self._seen.add(text)
                self._quota[candidate.label] -= 1
                kept += 1
        advance(kept)
        self._tried += len(batch)
        good = len(self.rows) + self.reasons().get("quota_full", 0)
        if self._tried >= MIN_TRIED and good < MIN_KEEP_RATE * self._tried:
            self.finish()

    def reasons(self) -> dict[str, int]:
        """How many rows were dropped, by reason."""
        counts: dict[str, int] = {}
        for row in self.dropped:
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
        return dict(sorted(counts.items()))

    def finish(self) -> None:
        """Raises :class:`InconclusiveError` unless every class has its rows."""
        if any(self._quota):
            raise InconclusiveError(
                f"got {len(self.rows)} of {self._config.rows} rows after {self._tried} prompts, "
                f"dropped {self.reasons()}, expected all of them",
                hint="lower generate.rows or generate.min_confidence, or use a larger source or model",
            )

    def _reason(self, text: str, confidence: float, label: int) -> str:
        if len(text.split()) < MIN_WORDS:
            return "too_short"
        if text in self._seen:
            return "duplicate"
        if confidence < 0.5:  # noqa: PLR2004 - the classifier says another label
            return "disagrees"
        if confidence < self._config.min_confidence:
            return "unsure"
        return "" if self._quota[label] else "quota_full"
