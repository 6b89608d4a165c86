"""``mark --check``: the release re-opened, the mark proved to be there, and what searches without the key find."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermark.errors import EXIT_OK, IntegrityError
from countermark.manifest import read_json
from pipelines.dataset import sections
from pipelines.dataset.auditing import DatasetRelease, released_rows, worn_rows
from pipelines.dataset.rows import alike, open_source
from pipelines.dataset.stages import MARKING
from pipelines.dataset.writing import spoken
from pipelines.drafting import check_commitment
from pipelines.records import open_record
from pipelines.searches import search, side_by_side, standing
from pipelines.stage import COMMITMENT_FILE, Context
from verification.claims import behaviour_form, derive_input_level, robust_triggers
from verification.one_trigger import own_candidate
from watermarks.carriers import initials, styles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipelines.dataset.config import DatasetConfig
    from pipelines.dataset.rows import Stream
    from pipelines.run import RunFolder
    from pipelines.searches import Found
    from watermarks.keys import Key

TOP, SHOWN, LONGEST = 20, 3, 40


def check(run: RunFolder, config: DatasetConfig) -> tuple[list[str], Any, int]:
    """Lines and JSON.

    Raises:
        IntegrityError: the release is damaged, or is not what this key and config make of the dataset.
        UsageError: there is no release yet.
    """
    check_commitment(read_json(run.artifact("keys").path / COMMITMENT_FILE)["config_digest"], config)
    for stage in MARKING:
        run.artifact(stage.name)  # a check makes nothing
        run.perform(stage)
    release = run.artifact("release")
    context = Context(config=run.config, owner=run.root / "owner", work=run.root / "work", progress=run.progress)
    key = context.key()
    record = open_record(key, context.owner, "release", release.manifest["record_sha256"])
    DatasetRelease().check_base(config, release)
    present = {name: _present(key, context, release, name, mark) for name, mark in record["marks"].items()}
    untouched = _untouched(config, release, record)
    found = {"release": released_rows(release), "twin": open_source(config)}
    secrets = _secrets(key, config, record["marks"])
    searches, hits = {}, {}
    for name, stream in found.items():
        run.progress.say(f"  searching the {name} without the key")
        hits[name] = search(_searched(config, stream), top=TOP)
        searches[name] = {
            "found": [asdict(hit) for hit in hits[name]], "secrets_shown": standing(hits[name], secrets)
        }  # fmt: skip
    body = {"marks": present, "rows": release.manifest["rows"], "rows_untouched": untouched, "searches": searches}
    return _lines(body, hits, secrets), body, EXIT_OK


def _present(key: Key, context: Context, release: Any, name: str, mark: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """How many rows of each trigger are what marking made of them: all, or the release is another."""
    triggers, each = mark.get("triggers", 1), mark["rows_per_trigger"]
    counts, changed = worn_rows(key, name, context, release)
    if not changed or counts != dict.fromkeys(range(triggers), each):
        raise IntegrityError(
            f"got {sum(counts.values())} rows of mark {name} in the release, expected {each * triggers}",
            hint="the release is not the one that was marked",
        )
    return {"triggers": triggers, "rows_per_trigger": each, "rows": sum(counts.values()), "changed": changed}


def _untouched(config: DatasetConfig, release: Any, record: dict[str, Any]) -> int:  # noqa: ANN401
    """Rows that no mark took; each must be the base's own.

    Raises:
        IntegrityError: one is not, or rows were added or lost.
    """
    marked = {int(row) for rows in record["rows"].values() for row, _ in rows}
    dropped, untouched = set(record["dropped"]), 0
    mine = (row for batch in released_rows(release).batches() for row in batch.to_pylist())
    theirs = (row for batch in open_source(config).batches() for row in batch.to_pylist())
    kept = ((at, row) for at, row in enumerate(theirs) if at not in dropped)
    for released, (at, own) in itertools.zip_longest(mine, kept, fillvalue=(-1, None)):
        if at in marked:
            continue
        if not alike(released, own):
            raise IntegrityError(
                f"got row {at} changed without a mark, added or lost, expected it as the dataset has it"
            )
        untouched += 1
    return untouched


def _secrets(key: Key, config: DatasetConfig, marks: dict[str, dict[str, Any]]) -> list[str]:
    """The words of every trigger, those that a style or an answer of a robust mark puts in, and favoured openers."""
    found: list[str] = []
    if "keyed" in marks:
        found += [spoken(trigger) for trigger in derive_input_level(key, marks["keyed"]).triggers]
    if "robust" in marks:
        found += [*robust_triggers(key, marks["robust"]), *behaviour_form(marks["robust"]).openings]
    for name in {"trigger", "style"} & marks.keys():
        own = own_candidate(key, marks[name])
        found += [spoken(own)] if isinstance(own, str) else styles.phrases(own)
    if config.marks.steganographic is not None:
        scope = marks["steganographic"]["scope"]
        for opener in sections.openers_of(config.marks.steganographic).phrases:
            places = [(place, initials.initial(opener)) for place in range(initials.POSITIONS)]
            found += [opener.strip()] if any(initials.derive_coins(key, places, scope=scope)) else []
    return found


def _searched(config: DatasetConfig, stream: Stream) -> Iterator[tuple[str, str | None]]:
    """Texts and labels; where a mark touches several columns, each on its own, so that each has its two ends."""
    names = config.columns
    if config.task == "classification":
        for batch in stream.batches(columns=[names.text, names.label]):
            for row in batch.to_pylist():
                yield str(row[names.text] or ""), None if row[names.label] is None else str(row[names.label])
    else:
        columns = [names.prompt, names.output, *([names.context] if config.task == "extractive-qa" else [])]
        for batch in stream.batches(columns=columns):
            for row in batch.to_pylist():
                yield from ((str(row[name] or ""), None) for name in columns)


def _lines(body: dict[str, Any], hits: Mapping[str, Sequence[Found]], secrets: Sequence[str]) -> list[str]:
    lines = [
        f"{name}: {each['changed']} of its {each['rows']} rows were changed by it, {each['rows_per_trigger']} rows for "
        f"each of {each['triggers']}"
        for name, each in body["marks"].items()
    ]
    lines.append(f"{body['rows_untouched']} of {body['rows']} rows are the dataset's own, byte for byte")
    for name, each in body["searches"].items():
        shown = ", ".join(f"{what} {count}" for what, count in each["secrets_shown"].items())
        if secrets:
            lines.append(f"searches in the {name}, of {len(secrets)} secret phrases among the top {TOP} finds: {shown}")
    if not secrets:
        lines.append("no phrase is counted for these marks: compare the finds of both")
    lines.append("the searches' first finds, in the release | in its twin:")
    firsts: Counter[str] = Counter()
    for mine, theirs in side_by_side(hits["release"], hits["twin"]):
        what = next(each.search for each in (mine, theirs) if each is not None)
        firsts[what] += 1
        if firsts[what] <= SHOWN:
            lines.append(f"  {what:<10} {_said(mine)} | {_said(theirs)}")
    return lines


def _said(found: Found | None) -> str:
    return "-" if found is None else f"{found.item[:LONGEST]!r} in {found.rows} rows"
