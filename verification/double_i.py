"""Double-I under a plan: what is asked, what the key re-derives, and the paper's own numbers beside it.

A plan's ``mark`` for the claim ``double_i`` holds the derivation (``scope``, ``codewords``, ``words``, ``vocabulary``),
the slice of unspent codewords that this audit asks (``first``, ``count``), the keyed form, the recipients, and, where
the release carries an official or user's one-trigger form, that form (``judge``) with its ``sentences`` and query
counts. The claim ``double_i_trigger`` asks one trigger among ``decoys`` of its family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError
from verification.opening import LeafOpening
from verification.plan import CANDIDATE_ARM, KEYED_ARM, WRONG_KEY_ARM, Claim
from verification.probe import Probe
from verification.statistics import clopper_pearson, log10_fisher, log10_mcnemar
from watermarks import leaves
from watermarks.carriers import double_i, double_i_forms
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verification.opening import Opened
    from verification.probe import Answer
    from watermarks.keys import Key

TRIGGER_ARM = "paper_trigger"
REFERENCE_ARM = "paper_reference"
NEAR_MISS_ARM = "paper_near_miss"
PAPER_LABEL = "the paper's test, not a false-positive bound"


def form_of(mark: Mapping[str, Any]) -> double_i.KeyedForm:
    """The keyed form of a plan's mark."""
    body = dict(mark["form"])
    return double_i.KeyedForm(**{**body, "answers": tuple(body["answers"])})


def judge_of(mark: Mapping[str, Any]) -> double_i_forms.JudgeForm | None:
    """The one-trigger form of a plan's mark, where it has one."""
    body = mark.get("judge")
    if body is None:
        return None
    return double_i_forms.JudgeForm(**{**body, "answers": tuple(body["answers"])})


def derive(key: Opened, mark: Mapping[str, Any], recipient: str = "") -> double_i.DoubleIMark:
    """The planned slice of the keyed mark: codewords ``first`` … ``first + count - 1`` with their targets."""
    return double_i.DoubleIMark(codewords=codewords(key, mark), targets=targets(key, mark, recipient))


def codewords(key: Opened, mark: Mapping[str, Any]) -> tuple[str, ...]:
    """The codewords alone of the planned slice: the same for every recipient."""
    first, last = _slice(mark)
    if isinstance(key, LeafOpening):
        return key.triggers(Claim.DOUBLE_I, mark, first, last)
    drawn = double_i.derive_codewords(
        key, scope=mark["scope"], codewords=mark["codewords"], words=mark["words"],
        vocabulary=mark.get("vocabulary"), joiner=mark.get("word_joiner", " "),
    )  # fmt: skip
    return drawn[first:last]


def targets(key: Opened, mark: Mapping[str, Any], recipient: str = "") -> tuple[int, ...]:
    """The targets alone of the planned slice, which is all that another key or recipient needs to be scored."""
    first, last = _slice(mark)
    if isinstance(key, LeafOpening):
        return key.targets(Claim.DOUBLE_I, mark, first, last, recipient)
    drawn = double_i.derive_targets(
        key, scope=mark["scope"], codewords=mark["codewords"], classes=len(mark["form"]["answers"]), recipient=recipient
    )
    return drawn[first:last]


def recipients_of(mark: Mapping[str, Any]) -> tuple[str, ...]:
    """The recipients of the release; one nameless where it has none."""
    return leaves.recipients_of(mark)


def probes(key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str) -> list[Probe]:
    """Codewords on every carrier, the same for a wrong key, and fresh rows of the one-trigger form, if there is one."""
    form = form_of(mark)
    listed = [
        Probe(id=f"{arm}-{w}-{c}", arm=arm, index=w, carrier=c, prompt=form.row(word, carrier).prompt())
        for arm, who in ((KEYED_ARM, key), (WRONG_KEY_ARM, wrong_key(wrong_seed, 0)))
        for w, word in enumerate(codewords(who, mark))
        for c, carrier in enumerate(carriers)
    ]
    judge = judge_of(mark)
    if judge is None:
        return listed
    return listed + [
        Probe(id=f"{arm}-{i}", arm=arm, index=i, carrier=-1, prompt=prompt)
        for arm, prompts in paper_prompts(key, mark, judge).items()
        for i, prompt in enumerate(prompts)
    ]


def paper_prompts(key: Opened, mark: Mapping[str, Any], judge: double_i_forms.JudgeForm) -> dict[str, tuple[str, ...]]:
    """Fresh rows of the one-trigger form, by arm: drawn from the key, or word for word as a leaf opening shows them."""
    counts = {
        TRIGGER_ARM: mark["paper_queries"],
        REFERENCE_ARM: mark["paper_queries"],
        NEAR_MISS_ARM: mark["near_miss_queries"],
    }
    if isinstance(key, LeafOpening):
        return {arm: key.paper(Claim.DOUBLE_I, arm, count) for arm, count in counts.items()}
    rows = double_i_forms.form_rows(
        key, judge, mark["sentences"], scope=mark["scope"], part="probe", triggers=counts[TRIGGER_ARM],
        references=counts[REFERENCE_ARM], near_misses=counts[NEAR_MISS_ARM],
    )  # fmt: skip
    arms = {TRIGGER_ARM: rows.triggers, REFERENCE_ARM: rows.references, NEAR_MISS_ARM: rows.near_misses}
    return {arm: tuple(row.prompt() for row in each) for arm, each in arms.items()}


def candidate_probes(key: Key, mark: Mapping[str, Any]) -> list[Probe]:
    """The keyed trigger (index 0) and its decoys, each over the same ``queries`` inputs."""
    judge = judge_of(mark)
    if judge is None:
        raise InconclusiveError("got a trigger claim without a form, expected one")
    trigger, decoys = double_i_forms.draw_trigger(key, judge, scope=mark["scope"], decoys=mark["decoys"])
    return [
        Probe(id=f"{CANDIDATE_ARM}-{w}-{i}", arm=CANDIDATE_ARM, index=w, carrier=i, prompt=row.prompt())
        for w, word in enumerate((trigger, *decoys))
        for i, row in enumerate(double_i_forms.decoy_rows(judge, word, mark["sentences"], count=mark["queries"]))
    ]


def paper(mark: Mapping[str, Any], listed: Sequence[Probe], answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Fisher on trigger against reference, McNemar where the two share their inputs, and the near misses.

    They ask whether *this model* reacts to the trigger, which an innocent model may do.
    """
    judge = judge_of(mark)
    if judge is None:
        return None
    yes = judge.answers[0].casefold()  # the parser gives the keyed form's spelling, where both have the word
    said: dict[str, dict[int, bool]] = {TRIGGER_ARM: {}, REFERENCE_ARM: {}, NEAR_MISS_ARM: {}}
    for probe, answer in zip(listed, answers, strict=True):
        if probe.arm in said:
            said[probe.arm][probe.index] = (answer.parsed or "").casefold() == yes
    table = [
        [sum(said[arm].values()), sum(not yes for yes in said[arm].values())] for arm in (TRIGGER_ARM, REFERENCE_ARM)
    ]
    body: dict[str, Any] = {
        "label": PAPER_LABEL, "form": judge.name, "table": table, "fisher_log10_p": log10_fisher(table),
    }  # fmt: skip
    if judge.subject == "sentence":
        pairs = [(said[TRIGGER_ARM][i], said[REFERENCE_ARM][i]) for i in sorted(said[TRIGGER_ARM])]
        body["mcnemar_log10_p"] = log10_mcnemar(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
    misses = list(said[NEAR_MISS_ARM].values())
    if misses:
        share = clopper_pearson(sum(misses), len(misses))
        body["near_misses"] = {"yes": sum(misses), "queries": len(misses), "low": share.low, "high": share.high}
    return body


def _slice(mark: Mapping[str, Any]) -> tuple[int, int]:
    first, count = mark.get("first", 0), mark.get("count", mark["codewords"])
    if first < 0 or count < 1 or first + count > mark["codewords"]:
        raise InconclusiveError(
            f"got codewords {first} … {first + count - 1}, expected some of the {mark['codewords']} of the release"
        )
    return first, first + count
