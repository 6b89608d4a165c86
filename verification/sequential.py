"""Evidence that may be looked at after every answer: test martingales (e-processes), exact, in log space.

:class:`KeyedProcess` bets on keyed answers (one trial a trigger, a match has probability at most 1/C given everything
before), :class:`PairProcess` on pairs whose order a keyed coin decides (of a pair that differs, the coin is fair).
Under the null the chance that either ever reaches 1/alpha is at most alpha (Ville, 1939), so 1 over the largest value
so far is a p-value at every look, whoever stops, and for whatever reason: even one who knew all targets and answers
beforehand. The value *at* the stop is an e-value only if the stop was decided on what had been revealed by then;
that is what the combinations below ask for.

Ramdas, Grünwald, Vovk, Shafer 2210.01948; pairs of a coin: statistics.md 7.4.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import TYPE_CHECKING

from scipy import optimize, special

from countermark.errors import InconclusiveError, UsageError
from verification.bets import chance_of, default_prior, mixture
from verification.plan import KEYED_ARM, WRONG_KEY_ARM
from verification.statistics import Interval, holm

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from verification.bets import Mixture, Prior
    from verification.probe import Probe

DEFAULT_PRIOR = default_prior(2)
PAIR_CHANCE = 0.5
_EDGE = 2.0**-53
"""Where the search for an interval's ends begins: the last step before 0 and 1."""


class _Process:
    """The state of a test martingale: counts, and its path so far."""

    def __init__(self, bets: Mixture) -> None:
        self._bets = bets
        self.hits = 0
        self.misses = 0
        self.path: list[float] = []
        """log10 E after each trial."""

    @property
    def log10_e(self) -> float:
        """log10 E now; 0 before the first trial."""
        return self.path[-1] if self.path else 0.0

    @property
    def log10_best(self) -> float:
        """log10 of the largest E so far, the start included: minus this is an anytime-valid log10 p."""
        return max(0.0, *self.path) if self.path else 0.0

    def at_best(self, hits: int) -> float:
        """log10 E if the next ``hits`` trials were all hits: no other outcome of them reaches more."""
        return self._bets.log10_worth(self.hits + hits, self.misses)

    def _see(self, outcome: bool | None) -> float:
        self.hits += outcome is True
        self.misses += outcome is False
        self.path.append(self._bets.log10_worth(self.hits, self.misses))
        return self.path[-1]


class KeyedProcess(_Process):
    """Bets on matches of answers with targets that a key drew uniformly from ``classes`` answers.

    Raises:
        UsageError: bets below 1/C, or that do not sum to 1.
    """

    def __init__(self, prior: Prior = DEFAULT_PRIOR, *, classes: int = 2) -> None:
        super().__init__(mixture(prior, chance_of(classes)))

    def see(self, match: bool) -> float:
        """One more trigger; gives log10 E after it."""
        if type(match) is not bool:
            raise UsageError(f"got the match {match!r}, expected True or False")
        return self._see(match)


class PairProcess(_Process):
    """Bets on pairs of which a keyed coin chose the trigger: of a pair that differs, the trigger's side is fair.

    Without the coin (two prompts that differ in more than their role) it tests this model's reaction and nothing else.

    Raises:
        UsageError: bets below 1/2, or that do not sum to 1.
    """

    def __init__(self, prior: Prior = DEFAULT_PRIOR) -> None:
        super().__init__(mixture(prior, PAIR_CHANCE))

    def see(self, trigger: bool, reference: bool) -> float:
        """One more pair: whether each member was answered as the mark wants. A pair that agrees moves nothing."""
        if type(trigger) is not bool or type(reference) is not bool:
            raise UsageError(f"got the pair ({trigger!r}, {reference!r}), expected True or False twice")
        return self._see(None if trigger == reference else trigger)


def keyed_path(matches: Iterable[bool], prior: Prior = DEFAULT_PRIOR, *, classes: int = 2) -> tuple[float, ...]:
    """log10 E after each trigger."""
    process = KeyedProcess(prior, classes=classes)
    return tuple(process.see(match) for match in matches)


def pair_path(pairs: Iterable[tuple[bool, bool]], prior: Prior = DEFAULT_PRIOR) -> tuple[float, ...]:
    """log10 E after each pair of (trigger, reference)."""
    process = PairProcess(prior)
    return tuple(process.see(*pair) for pair in pairs)


def looked_at(path: Sequence[float], look: int) -> list[float]:
    """What is looked at: every ``look``-th value of a path, and its last, wherever it stopped."""
    if type(look) is not int or look < 1:
        raise UsageError(f"got a look after every {look!r} trials, expected a whole number of at least 1")
    return [value for i, value in enumerate(path, start=1) if i % look == 0 or i == len(path)]


def log10_anytime_p(log10_e: float) -> float:
    """log10 of the p-value 1/E, at most 1."""
    return min(0.0, -_number([log10_e])[0])


def combine_independent(log10_e: Sequence[float]) -> float:
    """log10 of the product of e-values of independent marks: each is one given all the others."""
    return math.fsum(_number(log10_e))


def combine_dependent(log10_e: Sequence[float]) -> float:
    """log10 of the mean of e-values, an e-value however they depend on each other."""
    values = _number(log10_e)
    top = max(values)
    if math.isinf(top):
        return top
    return top + math.log10(math.fsum(10.0 ** (each - top) for each in values) / len(values))


def e_holm(log10_e: Sequence[float]) -> list[float]:
    """Holm over the p-values 1/E, as log10 p: the family-wise error holds however the e-values depend on each other."""
    return holm([log10_anytime_p(each) for each in _number(log10_e)])


def anytime_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """The interval of a rate that holds at every look, where Clopper-Pearson's holds at a count fixed beforehand.

    A rate r is left out where bets spread evenly over all rates, the null being r, have reached 1/(1 - level).

    Raises:
        InconclusiveError: no trials. UsageError: counts or level out of range.
    """
    if trials == 0:
        raise InconclusiveError("got 0 trials, expected at least one")
    if not (0 <= successes <= trials and 0.0 < level < 1.0):
        raise UsageError(f"got {successes} of {trials} at level {level}, expected a count and a level in (0, 1)")
    misses, share = trials - successes, successes / trials
    log_all = special.betaln(successes + 1, misses + 1) + math.log1p(-level)

    def over(rate: float) -> float:
        return float(log_all - special.xlogy(successes, rate) - special.xlog1py(misses, -rate))

    low = optimize.brentq(over, _EDGE, share, xtol=1e-14) if successes and over(_EDGE) > 0.0 else 0.0
    high = optimize.brentq(over, share, 1.0 - _EDGE, xtol=1e-14) if misses and over(1.0 - _EDGE) > 0.0 else 1.0
    return Interval(value=share, low=float(low), high=float(high), level=level)


def trigger_order(probes: Sequence[Probe], seed: str) -> list[Probe]:
    """Trigger by trigger, so that a prefix can be scored: every round ends with the carriers of one keyed trigger.

    Before them stand one trigger of the wrong key and the round's share of the other arms, shuffled; what shares an
    index in those arms (a trigger row and its reference) stays in one round. All orders come from the public ``seed``
    and know no target; they depend on which probes are given, not on how these were sorted.

    Raises:
        UsageError: no keyed probes.
    """
    drawn = random.Random(f"rounds/{seed}")  # noqa: S311 - an order, not a secret
    blocks: defaultdict[tuple[str, int], list[Probe]] = defaultdict(list)
    for probe in sorted(probes, key=lambda p: (p.arm, p.index, p.carrier, p.id)):
        kind = probe.arm if probe.arm in (KEYED_ARM, WRONG_KEY_ARM) else ""
        blocks[kind, probe.index].append(probe)
    units = {kind: [blocks[at] for at in sorted(blocks) if at[0] == kind] for kind in (KEYED_ARM, WRONG_KEY_ARM, "")}
    for unit in units.values():
        drawn.shuffle(unit)
        for block in unit:
            drawn.shuffle(block)
    rounds = len(units[KEYED_ARM])
    if not rounds:
        raise UsageError(f"got {len(probes)} probes and no keyed one among them, expected some")
    shared: list[list[list[Probe]]] = [[] for _ in range(rounds)]
    for kind in (WRONG_KEY_ARM, ""):
        for i, block in enumerate(units[kind]):
            shared[i * rounds // len(units[kind])].append(block)
    ordered = []
    for others, keyed in zip(shared, units[KEYED_ARM], strict=True):
        drawn.shuffle(others)
        ordered += [probe for block in (*others, keyed) for probe in block]
    return ordered


def boundaries(probes: Sequence[Probe]) -> tuple[int, ...]:
    """After how many probes of a list in :func:`trigger_order` a keyed trigger is complete; a prefix may end there."""
    keyed = [(i, probe.index) for i, probe in enumerate(probes, start=1) if probe.arm == KEYED_ARM]
    return tuple(at for (at, index), (_, after) in zip(keyed, [*keyed[1:], (0, None)], strict=True) if index != after)


def whole_prefix(probes: Sequence[Probe], answered: int) -> int:
    """How many of the first ``answered`` probes make whole triggers: where a budget that ran out is cut."""
    return max((at for at in boundaries(probes) if at <= answered), default=0)


def _number(values: Sequence[float]) -> list[float]:
    if not values:
        raise InconclusiveError("got no e-values, expected at least one", hint="nothing is evidence of nothing")
    if any(type(each) not in (int, float) or not each < math.inf for each in values):
        raise UsageError(f"got {values!r} as log10 of e-values, expected numbers")
    return [float(each) for each in values]
