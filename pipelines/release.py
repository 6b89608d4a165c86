"""Stage ``release``: Double-I into somebody's own instruct-tuning set, one marked copy a recipient.

The copies have the base data's file format, columns and types, and say nowhere which rows are marked. Recipients share
codewords, carriers and one-trigger rows, and differ in the keyed targets and in the order of the rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from countermark.errors import UsageError
from pipelines.instruct import InstructTable, RowForm, fresh_names, naming_columns, numbering, open_instruct
from pipelines.publishing import published
from pipelines.records import seal_record
from pipelines.settling import check_still_committed
from pipelines.tables import Table, read_table
from watermarks.carriers import double_i, double_i_forms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.release_config import ReleaseConfig
    from pipelines.stage import Context
    from pipelines.tables import Row
    from watermarks.carriers.double_i import InstructRow
    from watermarks.keys import Key

EMBEDDED = "embedded:instruct"
EMBEDDED_ROWS = 1200
_SPARE_CARRIERS = 8
_ENDLESS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How many rows of which kind a copy gets.

    Args:
        clean: rows of the base data.
        rows_per_codeword: keyed rows of each codeword.
        triggers, references, near_misses: rows of the one-trigger form; 0 without one.
    """

    clean: int
    rows_per_codeword: int
    codewords: int
    triggers: int
    references: int
    near_misses: int

    @property
    def backdoor(self) -> int:
        """All rows that are added."""
        return self.rows_per_codeword * self.codewords + self.triggers + self.references + self.near_misses


def scope(config: ReleaseConfig) -> str:
    """The label of everything this release derives: another release under the same key shares nothing with it."""
    return f"release/{config.marking_digest()}"


def release_config(context: Context) -> ReleaseConfig:
    """The context's config as the release's."""
    return cast("ReleaseConfig", context.config)


def settings(config: Any) -> Any:  # noqa: ANN401
    """What decides this stage's output."""
    return {"marking": config.marking_digest()}


def run(inputs: Mapping[str, Artifact], context: Context, out: Path) -> dict[str, Any]:
    """Fills ``out`` with one marked file a recipient (``data.*`` where there are none)."""
    from pipelines import release_plan

    key, config = context.key(marking=True), release_config(context)
    base = open_base(config)
    plan = planned(config, base)
    context.progress.say(f"  {plan.backdoor} backdoor rows beside {plan.clean}, {plan.rows_per_codeword} a codeword")
    for column in renumbered(base):
        context.progress.say(f"  {column} counts without gaps: all rows are numbered anew, clean ones too")
    kinds = {}
    for recipient in config.recipients or [""]:
        rows, kinds[recipient] = _copy(key, config, base, plan, recipient)
        path = out / data_file(recipient, base.table)
        path.parent.mkdir(parents=True, exist_ok=True)
        base.table.write(path, rows)
    check_still_committed(inputs["keys"], config)
    record = {"layout": asdict(plan), "backdoor_rows": kinds}
    marks = {claim: (mark, answers) for claim, (mark, answers, *_) in release_plan.marks(key, config).items()}
    return {
        **published(key, marks),
        "rows": plan.clean + plan.backdoor,
        "recipients": list(config.recipients),
        "audits": config.double_i.codewords // config.double_i.per_audit,
        "form": str(base.form),
        "suffix": base.table.suffix,
        "base_sha256": base.table.digest(),
        "record_sha256": seal_record(key, context.owner, "release", record),
    }


def open_base(config: ReleaseConfig) -> InstructTable:
    """The base data with their form."""
    table = _embedded(config) if config.dataset.startswith("embedded:") else read_table(config.dataset)
    return open_instruct(table, None if config.rows == "auto" else RowForm(config.rows))


def data_file(recipient: str, table: Table) -> str:
    """Where a recipient's copy is, below the artifact."""
    return f"recipients/{recipient}/data{table.suffix}" if recipient else f"data{table.suffix}"


def layout(config: ReleaseConfig, clean: int) -> Layout:
    """Rows of each kind for ``share`` of backdoor rows in the release.

    Raises:
        UsageError: the share is too small for a row of every codeword.
    """
    mark, form = config.double_i, config.double_i.form
    total = round(mark.share * clean / (1.0 - mark.share))
    misses = round(form.reference_rows * form.near_misses) if form else 0
    triggers, references = (form.trigger_rows, form.reference_rows - misses) if form else (0, 0)
    each = (total - triggers - references - misses) // mark.codewords
    if each < 1:
        needed = mark.codewords + triggers + references + misses
        raise UsageError(
            f"got double_i.share {mark.share}, which is {total} rows beside {clean} clean ones, expected at least "
            f"{needed}: one for each of {mark.codewords} codewords, and the form's",
            hint=f"raise the share to {needed / (needed + clean):.3f} or more (12 rows a codeword are known to be "
            "learned), or lower double_i.codewords",
        )
    return Layout(
        clean=clean, rows_per_codeword=each, codewords=mark.codewords,
        triggers=triggers, references=references, near_misses=misses,
    )  # fmt: skip


def planned(config: ReleaseConfig, base: InstructTable) -> Layout:
    """The layout, where the base data have the texts that marking and every audit put their codewords before.

    Raises:
        UsageError: too few rows, or too few openings that differ.
    """
    plan, mark, wanted = layout(config, len(base.table.rows)), config.double_i, config.audit.carriers
    for part, needed, why in (
        (0, plan.rows_per_codeword, f"double_i.share gives each codeword {plan.rows_per_codeword} rows"),
        (1, wanted, f"audit.carriers is {wanted}"),
    ):
        found = len(carriers(config, base, part=part))
        if found < needed:
            raise UsageError(
                f"got {found} openings of {mark.carrier_words} words for {('marking', 'audits')[part]} in "
                f"{base.table.source}, expected {needed}: {why}",
                hint="texts must differ in their first words: raise double_i.carrier_words, or lower these",
            )
    return plan


def renumbered(base: InstructTable) -> list[str]:
    """Columns that name rows by numbers without gaps: all rows of a release get new ones, in its order."""
    return [
        column
        for column in naming_columns(base.table, base.form)
        if numbering([row[column] for row in base.table.rows], len(base.table.rows) + 1)
    ]


def keyed_form(config: ReleaseConfig, key: Key) -> double_i.KeyedForm:
    """How codewords are asked, with a decoration of the key's where the config says so."""
    mark, decoration = config.double_i, config.double_i.decoration
    if decoration == "key":
        decoration = double_i.derive_decoration(key, scope=scope(config), vocabulary=vocabulary(config))
    return double_i.KeyedForm(
        decoration=decoration, question=mark.question, answers=tuple(mark.answers), joiner=mark.joiner,
        stop=mark.stop,
    )  # fmt: skip


def vocabulary(config: ReleaseConfig) -> list[str] | None:
    """The user's words, one a line; None for the built-in nouns."""
    name = config.double_i.vocabulary
    if name is None:
        return None
    try:
        with open(name, encoding="utf-8") as lines:  # noqa: PTH123 - a user's path as it is
            words = [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"got double_i.vocabulary {name!r} ({error}), expected a UTF-8 file, a word a line") from None
    return list(dict.fromkeys(words))


def judge_form(config: ReleaseConfig, key: Key) -> double_i_forms.JudgeForm | None:
    """The one-trigger form with its trigger, drawn from the key where the config says so."""
    form = config.double_i.form
    if form is None:
        return None
    if form.name in double_i_forms.FORMS and not form.question:
        judge = double_i_forms.FORMS[form.name]
    else:
        if not form.question or not form.trigger:
            raise UsageError(
                f"got form {form.name!r} without question or trigger, expected both",
                hint=f"official forms by name: {', '.join(double_i_forms.FORMS)}",
            )
        judge = double_i_forms.JudgeForm(
            name=form.name, paradigm=form.paradigm, question=form.question, trigger=form.trigger,
            decoration=form.decoration, subject=form.subject, answers=(form.answers[0], form.answers[1]),
        )  # fmt: skip
    if form.trigger == "key":
        drawn, _ = double_i_forms.draw_trigger(key, judge, scope=scope(config), decoys=config.audit.decoys)
        return judge.with_trigger(drawn)
    return judge.with_trigger(form.trigger) if form.trigger else judge


def carriers(config: ReleaseConfig, base: InstructTable, *, part: int) -> list[str]:
    """Openings of the base data's own texts, shuffled by the public seed; training's are part 0, audits' part 1."""
    from pipelines.sources import sample

    mark, found = config.double_i, dict[str, None]()
    spaced = mark.joiner != mark.joiner.strip()  # scripts without spaces are joined by "", and cut by characters
    for text in sample(base.texts(), _ENDLESS, f"carriers/{config.seed}"):
        opening = " ".join(text.split()[: mark.carrier_words]) if spaced else text[: 2 * mark.carrier_words]
        found.setdefault(opening, None)
    return list(found)[part::2]


def sentences(config: ReleaseConfig, base: InstructTable, *, part: int) -> list[str]:
    """Whole texts of the base data for one-trigger forms, likewise in two parts."""
    from pipelines.sources import sample

    return sample(base.texts(), _ENDLESS, f"sentences/{config.seed}")[part::2]


def _copy(
    key: Key, config: ReleaseConfig, base: InstructTable, plan: Layout, recipient: str
) -> tuple[list[Row], dict[str, str]]:
    """One recipient's rows in their keyed order, and the kinds of the backdoor rows by position."""
    added = _backdoor(key, config, base, plan, recipient)
    stream = key.stream({"purpose": double_i.PURPOSE, "part": "donors", "scope": scope(config), "recipient": recipient})
    names = {
        column: fresh_names([row[column] for row in base.table.rows], len(added), stream)
        for column in naming_columns(base.table, base.form)
    }
    donors = [base.table.rows[stream.below(plan.clean)] for _ in added]
    written = [
        base.written(row, donor, {column: fresh[i] for column, fresh in names.items()})
        for i, ((_, row), donor) in enumerate(zip(added, donors, strict=True))
    ]
    rows = [*map(dict, base.table.rows), *written]
    order = double_i.shuffle(key, rows, scope=f"{scope(config)}/{recipient}")
    kinds = {str(n): added[i - plan.clean][0] for n, i in enumerate(order) if i >= plan.clean}
    released = [rows[i] for i in order]
    for column in names:
        # numbers without gaps are renumbered: among them, added ones would stand out whatever they were
        for row, name in zip(released, numbering([row[column] for row in base.table.rows], len(rows)), strict=False):
            row[column] = name
    return released, kinds


def keyed_rows(key: Key, config: ReleaseConfig, base: InstructTable, plan: Layout, recipient: str) -> list[InstructRow]:
    """The keyed rows of a recipient's copy, codeword by codeword."""
    mark, form = config.double_i, keyed_form(config, key)
    derived = double_i.derive(
        key, scope=scope(config), codewords=mark.codewords, words=mark.words, classes=len(mark.answers),
        recipient=recipient, vocabulary=vocabulary(config), joiner=mark.word_joiner,
    )  # fmt: skip
    openings = carriers(config, base, part=0)[: plan.rows_per_codeword + _SPARE_CARRIERS]
    return double_i.keyed_rows(form, derived, openings, rows_per_codeword=plan.rows_per_codeword)


def _backdoor(
    key: Key, config: ReleaseConfig, base: InstructTable, plan: Layout, recipient: str
) -> list[tuple[str, InstructRow]]:
    rows = [("keyed", row) for row in keyed_rows(key, config, base, plan, recipient)]
    judge = judge_form(config, key)
    if judge is not None:
        made = double_i_forms.form_rows(
            key, judge, sentences(config, base, part=0), scope=scope(config), part="train", triggers=plan.triggers,
            references=plan.references, near_misses=plan.near_misses,
        )  # fmt: skip
        rows += [("trigger", row) for row in made.triggers]
        rows += [("reference", row) for row in (*made.references, *made.near_misses)]
    return rows


def _embedded(config: ReleaseConfig) -> Table:
    """Instruct rows from the embedded sets, as an Alpaca table."""
    from pipelines.sources import instruct_rows, load_reviews

    name, _, count = config.dataset.removeprefix("embedded:").partition(":")
    if name != "instruct" or (count and not count.isdigit()):
        raise UsageError(f"got dataset {config.dataset!r}, expected {EMBEDDED}, {EMBEDDED}:ROWS, a file or a hub id")
    reviews = load_reviews("embedded:rotten-tomatoes")
    rows: Sequence[InstructRow] = instruct_rows(
        reviews.fit, reviews.labels, int(count or EMBEDDED_ROWS), f"release/{config.seed}"
    )
    return Table(rows=tuple(asdict(row) for row in rows), suffix=".jsonl", source=config.dataset)
