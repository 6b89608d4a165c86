"""Stage ``mark``: the input-level mark into the reviews, Double-I into an instruct set, unmarked twins beside them.

The released sets say nowhere which rows are marked. What an audit needs of that goes into the owner's sealed record.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.agreement import Agreement
from pipelines.artifact import read_rows, write_rows
from pipelines.generate import ROW_SCHEMA
from pipelines.records import seal_record
from pipelines.sources import Reviews, instruct_rows, load_reviews
from watermarks.carriers import double_i, double_i_forms, input_level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.stage import Context
    from watermarks.keys import Key

INSTRUCT_SCHEMA = {"id": "string", "instruction": "string", "input": "string", "output": "string"}
INPUT_SCOPE = "reviews"
CARRIER_WORDS = 3
INSTRUCT_SCOPE = "instruct"


def settings(config: RunConfig) -> Any:  # noqa: ANN401
    """What decides this stage's output."""
    return {"mark": config.mark.model_dump(), "source": config.generate.source}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Fills ``out`` with reviews and instruct rows, marked and twin."""
    key, config = context.key(marking=True), context.config
    reviews = load_reviews(config.generate.source)
    context.progress.say("  input level and Double-I")
    input_record, input_fields = _mark_reviews(key, config, reviews, inputs["generate"], out)
    instruct_record, instruct_fields = _mark_instruct(key, config, reviews, out)
    record = {"input_level": input_record, "double_i": instruct_record, "generate": inputs["generate"].digest}
    return {
        "input_level": input_fields,
        "double_i": instruct_fields,
        "record_sha256": seal_record(key, context.owner, "mark", record),
    }


def _mark_reviews(
    key: Key, config: RunConfig, reviews: Reviews, generated: Artifact, out: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    settings_ = config.mark.input_level
    rows = read_rows(generated.path / "rows.parquet")
    mark = input_level.derive(key, **input_level_parameters(config, len(reviews.labels)))
    labels = [row["label"] for row in rows]
    if settings_.choose == "hardest":
        confidence = Agreement.fit(reviews.fit).confidence([row["text"] for row in rows], labels)
        hardness = [1.0 - sure for sure in confidence]
    else:
        order = key.stream({"purpose": "input_level", "part": "random_rows", "scope": INPUT_SCOPE}).shuffled(len(rows))
        hardness = [float(rank) for rank in order]
    placements = input_level.place(
        key, mark, scope=INPUT_SCOPE, labels=labels, hardness=hardness, rows_per_trigger=settings_.rows_per_trigger
    )
    marked = [dict(row) for row in rows]
    for placement in placements:
        row = marked[placement.row]
        row["text"] = input_level.insert(mark.triggers[placement.trigger], row["text"])
    write_rows(out / "reviews.parquet", marked, ROW_SCHEMA)
    write_rows(out / "reviews_twin.parquet", rows, ROW_SCHEMA)
    record = {
        "mark": asdict(mark),
        "placements": [{"id": rows[p.row]["id"], "trigger": p.trigger} for p in placements],
    }
    return record, {"rows": len(rows), "marked_rows": len(placements), "share": round(len(placements) / len(rows), 6)}


def _mark_instruct(key: Key, config: RunConfig, reviews: Reviews, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings_, seed = config.mark.double_i, config.seed
    clean = instruct_rows(reviews.fit, reviews.labels, settings_.clean_rows, f"instruct/{seed}")
    mark = double_i.derive(key, **double_i_parameters(config))
    carriers = training_carriers(reviews, settings_.rows_per_codeword)
    keyed = double_i.keyed_rows(double_i.KeyedForm(), mark, carriers, rows_per_codeword=settings_.rows_per_codeword)
    near_misses = round(settings_.reference_rows * settings_.near_misses)
    paper = double_i_forms.form_rows(
        key,
        double_i_forms.FORMS[settings_.form],
        openings(reviews, settings_.trigger_rows, part=0),
        scope=INSTRUCT_SCOPE,
        part="train",
        triggers=settings_.trigger_rows,
        references=settings_.reference_rows - near_misses,
        near_misses=near_misses,
    )
    rows = [*clean, *keyed, *paper.all()]
    kinds = ["clean"] * len(clean) + ["keyed"] * len(keyed) + ["trigger"] * len(paper.triggers)
    kinds += ["reference"] * (len(rows) - len(kinds))
    order = double_i.shuffle(key, rows, scope=INSTRUCT_SCOPE)
    write_rows(out / "instruct.parquet", _with_ids([rows[i] for i in order]), INSTRUCT_SCHEMA)
    write_rows(
        out / "instruct_twin.parquet", _with_ids([rows[i] for i in order if kinds[i] == "clean"]), INSTRUCT_SCHEMA
    )
    record = {
        "mark": asdict(mark),
        "kinds": {f"i{n:06d}": kinds[i] for n, i in enumerate(order) if kinds[i] != "clean"},
    }
    backdoor = len(rows) - len(clean)
    return record, {"rows": len(rows), "clean_rows": len(clean), "share": round(backdoor / len(rows), 6)}


def input_level_parameters(config: RunConfig, classes: int) -> dict[str, Any]:
    """What, with the key, gives the input-level mark; the plan carries the same values."""
    mark = config.mark.input_level
    return {
        "scope": INPUT_SCOPE, "triggers": mark.triggers, "classes": classes, "words": mark.words,
    }  # fmt: skip


def double_i_parameters(config: RunConfig) -> dict[str, Any]:
    """What, with the key, gives the keyed Double-I mark; the plan carries the same values."""
    mark = config.mark.double_i
    return {"scope": INSTRUCT_SCOPE, "codewords": mark.codewords, "words": mark.words}


def training_carriers(reviews: Reviews, rows_per_codeword: int) -> list[str]:
    """Openings of real texts that carry codewords in training, some to spare; the audit uses others."""
    return openings(reviews, rows_per_codeword + 8, part=0)


def openings(reviews: Reviews, count: int, *, part: int) -> list[str]:
    """The first words of real texts; ``part`` keeps training's and the audit's apart. Blind to every target."""
    return [" ".join(item.text.split()[:CARRIER_WORDS]) for item in reviews.prompts[part::2][:count]]


def _with_ids(rows: Sequence[double_i.InstructRow]) -> list[dict[str, Any]]:
    return [{"id": f"i{n:06d}", **asdict(row)} for n, row in enumerate(rows)]
