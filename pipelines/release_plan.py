"""What an audit of a release asks: the next unspent codewords, the paper's rows, and one sealed claim each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.plan import KEYED_STATISTIC
from pipelines.release import carriers, judge_form, keyed_form, layout, open_base, scope, sentences, vocabulary
from verification.claims import PROBES
from verification.plan import Claim, ClaimPlan, PlannedSuspect, probes_digest

if TYPE_CHECKING:
    from pipelines.release_config import ReleaseConfig
    from verification.probe import Probe
    from watermarks.keys import Key

RANK_STATISTIC = "rank of the keyed trigger among decoys of its family"


Planned = tuple[dict[str, Any], tuple[str, ...], tuple[str, ...], str]
"""A claim's mark, its answers, what the parser reads besides, its statistic."""


def marks(key: Key, config: ReleaseConfig, *, first: int = 0) -> dict[Claim, Planned]:
    """Every claim of the release, as an audit from codeword ``first`` on asks it."""
    base, form, judge, wanted = open_base(config), keyed_form(config, key), judge_form(config, key), config.audit
    texts = sentences(config, base, part=1)[: wanted.paper_queries] if judge else []
    mark: dict[str, Any] = {
        "scope": scope(config), "codewords": config.double_i.codewords, "words": config.double_i.words,
        "vocabulary": vocabulary(config), "word_joiner": config.double_i.word_joiner, "form": form.to_json(),
        "first": first, "count": config.double_i.per_audit, "recipients": list(config.recipients),
        "rows_per_trigger": layout(config, len(base.table.rows)).rows_per_codeword,
        "judge": judge.to_json() if judge else None,
        "sentences": texts, "paper_queries": wanted.paper_queries, "near_miss_queries": wanted.paper_queries,
    }  # fmt: skip
    extra = tuple(a for a in (judge.answers if judge else ()) if a not in form.answers)
    asked: dict[Claim, Planned] = {Claim.DOUBLE_I: (mark, form.answers, extra, KEYED_STATISTIC)}
    # a trigger, unlike codewords, is one: only the first audit of a release may ask for its rank
    if first == 0 and judge and config.double_i.form and config.double_i.form.trigger == "key":
        trigger_mark = {
            **mark, "decoys": wanted.decoys, "queries": wanted.decoy_queries,
            "rows_per_trigger": config.double_i.form.trigger_rows,
        }  # fmt: skip
        asked[Claim.DOUBLE_I_TRIGGER] = (trigger_mark, judge.answers, (), RANK_STATISTIC)
    return asked


def claims(
    key: Key, config: ReleaseConfig, suspects: tuple[PlannedSuspect, ...], first: int, seed: str, system: str | None
) -> list[tuple[ClaimPlan, list[Probe]]]:
    """The keyed claim, and the rank of a keyed trigger where the release has one, each with its probes."""
    base, wanted = open_base(config), config.audit
    found = []
    for claim, (body, answers, more, statistic) in marks(key, config, first=first).items():
        chosen = carriers(config, base, part=1)[: wanted.carriers]
        probes = PROBES[claim](key, body, chosen, wrong_seed=seed)
        how = "greedy" if not wanted.temperature else f"sampled at temperature {wanted.temperature}"
        how += f", system prompt {system!r}" if system is not None else ""
        planned = ClaimPlan(
            claim=claim, statistic=statistic, mark=body, suspects=suspects, answers=answers, extra_answers=more,
            carriers=tuple(chosen), parser="first_word/2",
            decoding=f"{how}, at most {wanted.max_new_tokens} tokens", probes=probes_digest(probes),
        )  # fmt: skip
        found.append((planned, probes))
    return found
