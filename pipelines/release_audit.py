"""What an audit asks of a Double-I release: unspent codewords, the paper's rows, and one keyed trigger's rank."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from countermark.errors import IntegrityError
from pipelines.instruct import InstructTable
from pipelines.release import data_file, keyed_rows, layout, open_base, release_config, scope, sentences
from pipelines.release_plan import claims
from pipelines.tables import read_table
from verification import double_i
from verification.plan import Claim, ClaimPlan, PlannedSuspect
from watermarks.carriers.double_i_forms import form_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.artifact import Artifact
    from pipelines.asked import Asked
    from pipelines.drafting import Asking
    from pipelines.release_config import ReleaseConfig
    from pipelines.stage import Context
    from verification.probe import Probe
    from verification.suspects import Suspect
    from watermarks.keys import Key


class DoubleIRelease:
    """A Double-I release, for :class:`pipelines.audited.AuditRequest`."""

    unit = "codewords"

    def room(self, config: Any) -> tuple[int, int]:  # noqa: ANN401
        """Codewords of the release, and of an audit."""
        return config.double_i.codewords, config.double_i.per_audit

    def check_base(self, config: Any, release: Artifact) -> None:  # noqa: ANN401
        """Carriers come from the base data: refuses other rows than those that were marked."""
        if open_base(config).table.digest() != release.manifest["base_sha256"]:
            raise IntegrityError(
                f"got other rows in {config.dataset} than those that were marked, expected the same",
                hint="carriers come from them: audit with the dataset that the release was made of",
            )

    def claims(
        self, key: Key, context: Context, release: Artifact, suspects: tuple[PlannedSuspect, ...], asked: Asking
    ) -> list[tuple[ClaimPlan, list[Probe]]]:
        """The keyed claim, and the rank of a keyed trigger where the release has one."""
        del release
        return claims(key, release_config(context), suspects, asked.first, asked.seed, asked.system)

    def marked_rows(self, key: Key, claim: ClaimPlan, context: Context, release: Artifact) -> list[int]:
        """Rows of each copy that carry each planned codeword with its target, or the trigger with its answer."""
        return _marked_rows(key, claim, release, release_config(context))

    def load(self, asked: Asked, system: str | None, config: Any) -> Suspect:  # noqa: ANN401
        """A causal language model."""
        return asked.chat_model(system, cast("ReleaseConfig", config))


def _marked_rows(key: Key, claim: ClaimPlan, release: Artifact, config: ReleaseConfig) -> list[int]:
    """How many rows of each copy carry each planned codeword with its target, or the trigger with its answer."""
    base = open_base(config)
    found: list[int] = []
    for recipient in config.recipients or [""]:
        path = release.path / data_file(recipient, base.table)
        copy = InstructTable(table=read_table(str(path)), form=base.form)
        turns = [(d[-2]["content"], d[-1]["content"]) for d in copy.dialogues()]
        if claim.claim is Claim.DOUBLE_I_TRIGGER:
            return [_trigger_rows(key, claim, config, turns)]
        counts = Counter(turns)
        planted = keyed_rows(key, config, base, layout(config, len(base.table.rows)), recipient)
        each, first = claim.mark["rows_per_trigger"], claim.mark["first"]
        for word in range(first, first + claim.mark["count"]):
            rows = planted[word * each : (word + 1) * each]
            found.append(sum(counts[row.prompt(), row.output] == 1 for row in rows))
    return found


def _trigger_rows(key: Key, claim: ClaimPlan, config: ReleaseConfig, turns: Sequence[tuple[str, str]]) -> int:
    judge, form = double_i.judge_of(claim.mark), config.double_i.form
    if judge is None or form is None:
        return 0
    made = form_rows(
        key, judge, sentences(config, open_base(config), part=0), scope=scope(config), part="train",
        triggers=form.trigger_rows, references=0, near_misses=0,
    ).triggers  # fmt: skip
    present = set(turns)
    return sum((row.prompt(), row.output) in present for row in made)
