"""What each claim asks, and what its key re-derives: one entry a claim.

A claim's ``mark`` is plain JSON that the plan seals; with the key it gives the probes, and the targets that answers are
compared with. Nothing here looks at an answer.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from countermark.errors import InconclusiveError, UsageError
from verification import double_i, one_trigger, output_level
from verification.opening import LeafOpening, needs_key
from verification.plan import KEYED_ARM, WRONG_KEY_ARM, Claim
from verification.probe import Probe
from watermarks import leaves
from watermarks.carriers import behaviours, input_level
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verification.opening import Opened


def input_level_probes(
    key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str
) -> list[Probe]:
    """Every trigger on every carrier, under the owner's key and under a wrong one, in an order that knows no target."""

    def prompts(who: Opened) -> list[list[str]]:
        return [[input_level.insert(t, c) for c in carriers] for t in derive_input_level(who, mark).triggers]

    return _keyed_probes(prompts, key, wrong_seed)


def double_i_probes(key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str) -> list[Probe]:
    """Codewords on every carrier, the same for a wrong key, and the paper's fresh rows, interleaved."""
    return _interleaved(double_i.probes(key, mark, carriers, wrong_seed=wrong_seed), wrong_seed)


def double_i_trigger_probes(
    key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str
) -> list[Probe]:
    """One keyed trigger among its decoys, interleaved; the carriers are the mark's own sentences."""
    del carriers
    own = needs_key(key, Claim.DOUBLE_I_TRIGGER)
    return _interleaved(double_i.candidate_probes(own, mark), wrong_seed)


def input_trigger_probes(
    key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str
) -> list[Probe]:
    """The release's one trigger or style among its decoys, every one on every carrier, interleaved."""
    own = needs_key(key, Claim.INPUT_TRIGGER)
    return _interleaved(one_trigger.candidate_probes(own, mark, carriers), wrong_seed)


def robust_probes(key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str) -> list[Probe]:
    """Every trigger in every question, under the owner's key and under a wrong one.

    With ``first_line`` the question is a carrier's first line, and what follows is the context it is asked about.
    """
    form, first_line = behaviour_form(mark), mark.get("first_line", False)

    def asked(carrier: str, trigger: str) -> str:
        if not first_line:
            return form.asked(carrier, trigger)
        question, newline, context = carrier.partition("\n")
        return f"{form.asked(question, trigger)}{newline}{context}"

    def prompts(who: Opened) -> list[list[str]]:
        return [[asked(carrier, trigger) for carrier in carriers] for trigger in robust_triggers(who, mark)]

    return _keyed_probes(prompts, key, wrong_seed)


def text_probes(key: Opened, mark: Mapping[str, Any], carriers: Sequence[str], *, wrong_seed: str) -> list[Probe]:
    """Every question once: no key is in what is asked."""
    del key, wrong_seed
    return output_level.text_probes(mark, carriers)


PROBES: dict[Claim, Callable[..., list[Probe]]] = {
    Claim.INPUT_LEVEL: input_level_probes,
    Claim.INPUT_TRIGGER: input_trigger_probes,
    Claim.DOUBLE_I: double_i_probes,
    Claim.DOUBLE_I_TRIGGER: double_i_trigger_probes,
    Claim.OUTPUT_WEAK: text_probes,
    Claim.OUTPUT_ROBUST: robust_probes,
    Claim.OUTPUT_STEGANOGRAPHIC: text_probes,
}
"""How each claim that asks derives its probes."""

ONE_TRIGGER = (Claim.DOUBLE_I_TRIGGER, Claim.INPUT_TRIGGER)
"""Claims of one trigger, decided by a rank among decoys."""
TEXTS = (Claim.OUTPUT_WEAK, Claim.OUTPUT_STEGANOGRAPHIC)
"""Claims about free texts, decided by a sign-flip test."""


def derive_input_level(key: Opened, mark: Mapping[str, Any]) -> input_level.InputLevelMark:
    """The input-level mark that a plan's parameters and a key give; the planned slice of it where there is one."""
    first, last = slice_of(mark)
    if isinstance(key, LeafOpening):
        triggers = key.triggers(Claim.INPUT_LEVEL, mark, first, last)
        targets = key.targets(Claim.INPUT_LEVEL, mark, first, last)
        return input_level.InputLevelMark(triggers=triggers, targets=targets, classes=int(mark["classes"]))
    names = ("scope", "triggers", "classes", "words", "families", "vocabulary", "joiner")
    whole = input_level.derive(key, **{name: mark[name] for name in names if name in mark})
    return input_level.InputLevelMark(
        triggers=whole.triggers[first:last], targets=whole.targets[first:last], classes=whole.classes
    )


def derive_targets(key: Opened, claim: Claim, mark: Mapping[str, Any], recipient: str = "") -> tuple[int, ...]:
    """The targets alone, which is all a wrong key needs to be scored on answers already given."""
    if claim is Claim.DOUBLE_I:
        return double_i.targets(key, mark, recipient)
    first, last = slice_of(mark)
    if isinstance(key, LeafOpening):
        return key.targets(claim, mark, first, last, recipient)
    names = {name: mark[name] for name in ("scope", "triggers")}
    if claim is Claim.INPUT_LEVEL:
        return input_level.derive_targets(key, **names, classes=mark["classes"])[first:last]
    if claim is Claim.OUTPUT_ROBUST:
        return behaviours.derive_targets(key, **names, classes=len(mark["form"]["openings"]))[first:last]
    raise UsageError(f"got claim {claim!r}, expected one with targets")


def classes_of(claim: Claim, mark: Mapping[str, Any]) -> int | None:
    """From how many answers the key draws each target; None for claims that the binomial does not decide."""
    return leaves.classes_of(claim, mark)


def behaviour_form(mark: Mapping[str, Any]) -> behaviours.BehaviourForm:
    """The behaviours of a plan's mark."""
    return behaviours.BehaviourForm(**{**mark["form"], "openings": tuple(mark["form"]["openings"])})


def slice_of(mark: Mapping[str, Any]) -> tuple[int, int]:
    """First and one past the last of the unspent triggers that this plan asks; all where it names none."""
    first, count = mark.get("first", 0), mark.get("count", mark["triggers"])
    if first < 0 or count < 1 or first + count > mark["triggers"]:
        raise InconclusiveError(
            f"got triggers {first} … {first + count - 1}, expected some of the {mark['triggers']} of the release"
        )
    return first, first + count


def robust_triggers(key: Opened, mark: Mapping[str, Any]) -> tuple[str, ...]:
    """The planned slice of the triggers of a robust mark."""
    names = ("scope", "triggers", "words", "vocabulary", "joiner")
    first, last = slice_of(mark)
    if isinstance(key, LeafOpening):
        return key.triggers(Claim.OUTPUT_ROBUST, mark, first, last)
    return behaviours.derive_triggers(key, **{name: mark[name] for name in names if name in mark})[first:last]


def _keyed_probes(prompts: Callable[[Opened], list[list[str]]], key: Opened, wrong_seed: str) -> list[Probe]:
    probes = [
        Probe(id=f"{arm}-{t}-{c}", arm=arm, index=t, carrier=c, prompt=prompt)
        for arm, who in ((KEYED_ARM, key), (WRONG_KEY_ARM, wrong_key(wrong_seed, 0)))
        for t, row in enumerate(prompts(who))
        for c, prompt in enumerate(row)
    ]
    return _interleaved(probes, wrong_seed)


def _interleaved(probes: list[Probe], seed: str) -> list[Probe]:
    """Arms mixed in an order drawn from a public seed: a suspect that drifts drifts for all of them alike."""
    order = list(probes)
    random.Random(f"order/{seed}").shuffle(order)  # noqa: S311 - an order, not a secret
    return order
