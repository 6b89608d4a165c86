"""What an audit asks of a dataset release: one claim a mark, over carriers and questions that no mark touches."""

from __future__ import annotations

import bisect
import json
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError, IntegrityError, MissingAssetError, UsageError
from pipelines.assets import resolve_model
from pipelines.dataset.carriers import carriers as carriers_of
from pipelines.dataset.carriers import shortfall
from pipelines.dataset.config import PARSERS
from pipelines.dataset.marking import DATA, dataset_config
from pipelines.dataset.marks import CLAIMS, answers_of, parameters
from pipelines.dataset.rows import alike, heldout_digest, open_source, read_labels, rows_of
from pipelines.dataset.wearing import Wear
from pipelines.plan import KEYED_STATISTIC
from pipelines.records import open_record
from verification.claims import PROBES, TEXTS
from verification.plan import Claim, ClaimPlan, PlannedSuspect, probes_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.artifact import Artifact
    from pipelines.asked import Asked
    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Labels, Stream
    from pipelines.drafting import Asking
    from pipelines.stage import Context
    from verification.probe import Probe
    from verification.suspects import Suspect
    from watermarks.keys import Key

RANK_STATISTIC = "rank of the keyed trigger or style among decoys of its family"
FLIP_STATISTIC = "sign-flip test over keyed units: exact law of a weighted sum of fair signs"
TEXT_PARSER = "text/1"


class DatasetRelease:
    """A dataset release, for :class:`pipelines.audited.AuditRequest`."""

    unit = "audits"

    def room(self, config: Any) -> tuple[int, int]:  # noqa: ANN401
        """Audits are counted: each finds triggers of its own in every keyed mark."""
        return config.audit.audits, 1

    def check_base(self, config: Any, release: Artifact) -> None:  # noqa: ANN401
        """Carriers, questions and baselines come from the data: refuses others than those that were marked and named.

        Raises:
            IntegrityError: they are others.
        """
        if heldout_digest(config) != release.manifest["heldout_sha256"]:
            raise IntegrityError(
                f"got other held-out rows in {config.heldout or config.dataset} than at marking, expected the same",
                hint="audit with the held-out rows that the release was made with",
            )
        if open_source(config).digest() != release.manifest["base_sha256"]:
            raise IntegrityError(
                f"got other rows in {config.dataset} than those that were marked, expected the same",
                hint="audit with the dataset that the release was made of",
            )

    def claims(
        self, key: Key, context: Context, release: Artifact, suspects: tuple[PlannedSuspect, ...], asked: Asking
    ) -> list[tuple[ClaimPlan, list[Probe]]]:
        """One claim a mark that can be decided; a trigger's rank can be asked for once, so by the first audit alone."""
        config = dataset_config(context)
        marks = _record(key, context, release)["marks"]
        found = []
        for name, mark in marks.items():
            claim = CLAIMS[name]
            body = _sliced(config, name, mark, asked.first)
            if body is None:
                continue
            carriers, labels, names = carriers_of(config, name)
            if short := shortfall(config, name, carriers):
                context.progress.say(f"  {short}")
            probes = PROBES[claim](key, body, carriers, wrong_seed=asked.seed)
            planned = ClaimPlan(
                claim=claim, statistic=_statistic(claim), mark=body, suspects=suspects,
                answers=answers_of(name, mark, names), carriers=tuple(carriers), carrier_labels=tuple(labels),
                parser=TEXT_PARSER if claim in TEXTS else PARSERS[config.task],
                decoding=_decoding(config, asked.system), probes=probes_digest(probes),
            )  # fmt: skip
            found.append((planned, probes))
        if not found:
            raise InconclusiveError(
                "got a release without a claim that can still be decided, expected one",
                hint="a single trigger or style is asked for by the first audit only; `keyed` marks carry several",
            )
        return found

    def marked_rows(self, key: Key, claim: ClaimPlan, context: Context, release: Artifact) -> list[int]:
        """Rows of the release that are what marking made of the base's rows, by planned trigger."""
        marks = _record(key, context, release)["marks"]
        name = next(n for n, mark in marks.items() if mark["scope"] == claim.mark["scope"])
        counts, _ = worn_rows(key, name, context, release)
        first = claim.mark.get("first", 0)
        return [counts.get(index, 0) for index in range(first, first + claim.mark.get("count", 1))]

    def load(self, asked: Asked, system: str | None, config: Any) -> Suspect:  # noqa: ANN401
        """A classifier, linear or encoder; an extractive reader; or a causal language model."""
        if config.task == "generation":
            return asked.chat_model(system, config)
        suspect = load_suspect(asked.name, resolve_model(asked.model).path, config)
        if config.task == "classification":
            _refuse_strangers(suspect, asked.model, read_labels(config, open_source(config)).names)
        return suspect


def worn_rows(key: Key, name: str, context: Context, release: Artifact) -> tuple[dict[int, int], int]:
    """By trigger index, how many rows of a mark stand in the release as marking makes them; and how many it changes."""
    config, record = dataset_config(context), _record(key, context, release)
    stream = open_source(config)
    labels = read_labels(config, stream) if config.task == "classification" else None
    rows = {n: {int(row): int(index) for row, index in each} for n, each in record["rows"].items()}
    written = {int(row): text for row, text in record["written"]}
    wear = Wear.of(key, config, record["marks"], rows, labels, written=written)
    _recounted(key, config, stream, labels, record["marks"][name], name)
    mine = rows[name]
    originals = rows_of(stream, mine)
    places = {row: row - bisect.bisect_left(record["dropped"], row) for row in mine}
    released = rows_of(released_rows(release), list(places.values()))
    counts: dict[int, int] = {}
    for row, index in mine.items():
        wanted = wear.row(dict(originals[row]), row)
        counts[index] = counts.get(index, 0) + alike(wanted, released.get(places[row]))
    return counts, wear.changes[name]


def _recounted(
    key: Key, config: DatasetConfig, stream: Stream, labels: Labels | None, mark: dict[str, Any], name: str
) -> None:
    """Baselines, word lists and classes must be what the dataset gives: fitted ones would fit the coins.

    Raises:
        IntegrityError: the record says otherwise.
    """
    given = {field: value for field, value in mark.items() if field != "rows_per_trigger"}
    if given != json.loads(json.dumps(parameters(key, config, stream, labels)[name])):
        raise IntegrityError(
            f"got a record of mark {name} that the dataset and the key do not give, expected the same parameters",
            hint="the record is not that of this release; restore it",
        )


def _refuse_strangers(suspect: Any, model: str, names: Sequence[str]) -> None:  # noqa: ANN401 - a classifier
    """A classifier that knows none of the dataset's labels by name would miss every trigger, marked or not."""
    if not set(suspect.labels) & set(names):
        raise UsageError(
            f"got classifier {model} with labels {', '.join(suspect.labels[:4])}, expected some of the dataset's: "
            f"{', '.join(names[:4])}",
            hint="name them in id2label of its config.json, in the order that the model was trained with",
        )


def load_suspect(name: str, folder: Any, config: DatasetConfig) -> Suspect:  # noqa: ANN401 - a Path
    """A model folder by what is in it."""
    from verification.readers import LinearClassifier, LocalReader
    from verification.suspects import LocalClassifier

    length = config.audit.max_length
    if (folder / "linear.json").exists():
        return LinearClassifier(name, folder)
    if not (folder / "config.json").exists():
        raise MissingAssetError(f"got {folder} without config.json or linear.json, expected a model folder")
    if config.task == "extractive-qa":
        return LocalReader(name, folder, max_length=length)
    return LocalClassifier(name, folder, max_length=length)


def released_rows(release: Artifact) -> Any:  # noqa: ANN401 - a Stream
    """The release's shards as a stream."""
    from pipelines.datastream import open_stream

    return open_stream(str(release.path / DATA))


def _record(key: Key, context: Context, release: Artifact) -> dict[str, Any]:
    return open_record(key, context.owner, "release", release.manifest["record_sha256"])


def _sliced(config: DatasetConfig, name: str, mark: dict[str, Any], audit: int) -> dict[str, Any] | None:
    """The mark as this audit asks it: its own range of triggers, or None where nothing of it is left to ask."""
    if name in {"keyed", "robust"}:
        each = mark["triggers"] // config.audit.audits
        return {**mark, "first": audit * each, "count": each}
    if name == "steganographic":
        return {field: value for field, value in mark.items() if field != "lowered"}  # how it was written, not read
    if name in {"trigger", "style"} and audit:
        return None
    return mark


def _statistic(claim: Claim) -> str:
    if claim is Claim.INPUT_TRIGGER:
        return RANK_STATISTIC
    return FLIP_STATISTIC if claim in TEXTS else KEYED_STATISTIC


def _decoding(config: DatasetConfig, system: str | None) -> str:
    if config.task == "classification":
        return f"arg max over labels, texts cut at {config.audit.max_length} tokens"
    if config.task == "extractive-qa":
        return f"best span, contexts cut at {config.audit.max_length} tokens"
    how = "greedy" if not config.audit.temperature else f"sampled at temperature {config.audit.temperature}"
    return f"{how}, at most {config.audit.max_new_tokens} tokens" + (f", system prompt {system!r}" if system else "")
