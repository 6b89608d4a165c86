"""How many triggers a claim needs, before the first query is paid for: three tests beside each other, all exact.

*Keyed binomial*: the smallest n from which on every n has the wanted power; power goes up and down with n (the
saw-tooth of a discrete test), so the first n that reaches it is not enough. *E-process*: how many triggers to plan
for the wanted power, and the median at which the asking stops. *Fisher*: trigger against reference answers, n of each;
it tests another question (this model's reaction) and is no false-positive bound.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special, stats

from countermark.errors import UsageError
from verification.bets import chance_of, default_prior, mixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verification.bets import Prior

STRENGTHS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MOST = 20_000
"""No plan asks more triggers than this."""
MOST_FISHER = 1_500
_RARE = 1e-6
_SPREAD = 8.0
"""Margins of a table further than this many standard deviations out are taken not to reject: their share is nil."""
BINOMIAL, E_PROCESS, FISHER = "keyed binomial, fixed n", "keyed e-process", "Fisher exact, trigger against reference"
_NEAR = 0.02
"""Fisher's saw-tooth is searched this far, as a share of n, on either side of where its power first suffices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One test's needs, by strength; None where no plan of :data:`MOST` triggers suffices.

    Args:
        needed: triggers to plan for the wanted power.
        queries: prompts that these take, without controls: every trigger on every carrier, references included.
        median: triggers at which half of the audits of such a suspect have stopped; the same as ``needed`` at fixed n.
    """

    name: str
    needed: tuple[int | None, ...]
    queries: tuple[int | None, ...]
    median: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTable:
    """What every test needs at every assumed strength (the share of triggers that a marked suspect answers as marked).

    Args:
        alpha: of the whole plan; each claim is tested at ``alpha / family``.
        family: claims, recipients and commitments that are paid for.
        chance: 1/C, and the reference rate of Fisher's test.
    """

    power: float
    alpha: float
    family: int
    chance: float
    carriers: int
    strengths: tuple[float, ...]
    methods: tuple[Method, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "power": self.power, "alpha": self.alpha, "family": self.family, "chance": self.chance,
            "carriers": self.carriers, "strengths": list(self.strengths),
            "methods": [
                {"name": m.name, "needed": [*m.needed], "queries": [*m.queries], "median": [*m.median]}
                for m in self.methods
            ],
        }  # fmt: skip


def power_table(
    *,
    alpha: float,
    classes: int = 2,
    strengths: Sequence[float] = STRENGTHS,
    power: float = 0.95,
    family: int = 1,
    carriers: int = 1,
    prior: Prior | None = None,
) -> PowerTable:
    """What each test needs to find suspects of these strengths with probability ``power``.

    Raises:
        UsageError: no strengths, or a number out of its range.
    """
    chance, bets = chance_of(classes), prior or default_prior(classes)
    shares = (alpha, power, *strengths)
    if not strengths or min(family, carriers) < 1 or not all(0.0 < share < 1.0 for share in shares):
        raise UsageError(f"got alpha, power and strengths {shares}, expected shares strictly between 0 and 1")
    each = alpha / family
    fixed = [binomial_needed(s, chance=chance, alpha=each, power=power) for s in strengths]
    laws = [stopping_law(s, bets, chance=chance, log10_bar=-math.log10(each)) for s in strengths]
    fisher = [fisher_needed(s, chance, alpha=each, power=power) for s in strengths]
    rows = (
        (BINOMIAL, fixed, fixed, carriers),
        (E_PROCESS, [quantile(law, power) for law in laws], [quantile(law, 0.5) for law in laws], carriers),
        (FISHER, fisher, fisher, 2),
    )
    methods = tuple(
        Method(
            name=name, needed=tuple(needed), median=tuple(median),
            queries=tuple(None if n is None else n * prompts for n in needed),
        )
        for name, needed, median, prompts in rows
    )  # fmt: skip
    return PowerTable(
        power=power, alpha=alpha, family=family, chance=chance, carriers=carriers, strengths=tuple(strengths),
        methods=methods,
    )  # fmt: skip


def binomial_needed(strength: float, *, chance: float, alpha: float, power: float, most: int = MOST) -> int | None:
    """The smallest n such that every n' >= n has the power; None if none up to ``most`` is known to.

    Chernoff's bounds on both tails give a power that only grows with n: from where that suffices on, all do. Below it
    every n is worked out exactly.
    """
    if strength <= chance:
        return None
    certain = next((n for n in _doubling(most) if _surely(n, strength, chance, alpha) >= power), None)
    if certain is None:
        return None
    n = np.arange(1, certain + 1)
    critical = stats.binom.isf(alpha, n, chance) + 1
    critical += stats.binom.sf(critical - 1, n, chance) > alpha  # the search for a quantile may end one short
    short = np.flatnonzero(stats.binom.sf(critical - 1, n, strength) < power)
    return int(n[short[-1]]) + 1 if short.size else 1


def stopping_law(
    strength: float, prior: Prior, *, chance: float, log10_bar: float, most: int = MOST
) -> NDArray[np.float64]:
    """P(the e-process has reached the bar after n triggers) for n = 1, 2, …, exact, until it is nearly certain."""
    bets, reached, by = mixture(prior, chance), 0.0, [0.0]
    if strength <= chance:
        return np.array(by)  # Ville: as good as never
    state, critical = np.array([1.0]), 0  # P(not stopped, k matches), and how many matches stop
    for n in range(1, most + 1):
        state = np.append(state * (1.0 - strength), 0.0) + np.append(0.0, state * strength)
        while critical <= n and bets.log10_worth(critical, n - critical) < log10_bar:
            critical += 1
        reached += float(state[critical:].sum())
        state = state[:critical]
        by.append(reached)
        if reached > 1.0 - _RARE:
            break
    return np.array(by[1:])


def pair_stopping_law(
    trigger: float, reference: float, prior: Prior, *, log10_bar: float, most: int = 2_000
) -> NDArray[np.float64]:
    """The same for pairs: only a pair whose members differ is bet on, the trigger's side against even odds."""
    leans, against = trigger * (1.0 - reference), reference * (1.0 - trigger)
    by = stopping_law(leans / (leans + against), prior, chance=0.5, log10_bar=log10_bar)
    at, pairs = np.diff(by, prepend=0.0), np.arange(1, most + 1)
    differ = np.arange(1, len(at) + 1)
    law: NDArray[np.float64] = stats.binom.sf(differ - 1, pairs[:, None], leans + against) @ at
    return law


def quantile(law: NDArray[np.float64], share: float) -> int | None:
    """After how many triggers (or pairs) this share has stopped; None if it never does."""
    reached = np.flatnonzero(law >= share)
    return int(reached[0]) + 1 if reached.size else None


def fisher_critical(n: int, *, alpha: float, margins: tuple[int, int] | None = None) -> NDArray[np.int64]:
    """With n answers of each arm, how many "yes" of the trigger arm reject, by "yes" in all; n + 1 where none do.

    ``margins`` are the first and last number of "yes" in all that are worked out.
    """
    k = np.arange(n + 1)
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    least = np.full(2 * n + 1, n + 1)
    first, last = margins or (0, 2 * n)
    for m in range(max(0, first), min(2 * n, last) + 1):
        support = np.arange(max(0, m - n), min(n, m) + 1)
        logs = ways[support] + ways[m - support]
        tails = np.cumsum(np.exp(logs - special.logsumexp(logs))[::-1])[::-1]
        rejecting = np.flatnonzero(tails <= alpha)
        if rejecting.size:
            least[m] = support[rejecting[0]]
    return least


def fisher_power(n: int, trigger: float, reference: float, *, alpha: float) -> float:
    """P(one-sided Fisher rejects) with n answers of each arm, exact."""
    k = np.arange(n + 1)
    middle, spread = n * (trigger + reference), _SPREAD * math.sqrt(n) + 1.0
    least = fisher_critical(n, alpha=alpha, margins=(int(middle - spread), int(middle + spread)))
    rejects = k[:, None] >= least[k[:, None] + k[None, :]]
    return float(stats.binom.pmf(k, n, trigger) @ rejects @ stats.binom.pmf(k, n, reference))


def fisher_needed(
    trigger: float, reference: float, *, alpha: float, power: float, most: int = MOST_FISHER
) -> int | None:
    """Answers of each arm from which on the power suffices, as far as :data:`_NEAR` on either side shows."""
    if trigger <= reference:
        return None
    low, high = 1, next((n for n in _doubling(most) if fisher_power(n, trigger, reference, alpha=alpha) >= power), 0)
    if not high:
        return None
    while low < high:
        middle = (low + high) // 2
        if fisher_power(middle, trigger, reference, alpha=alpha) >= power:
            high = middle
        else:
            low = middle + 1
    reach = 4 + int(_NEAR * low)
    near = range(low + reach, max(0, low - reach), -1)
    short = next((n for n in near if fisher_power(n, trigger, reference, alpha=alpha) < power), near[-1] - 1)
    return short + 1


def power_plot(table: PowerTable) -> str:
    """Triggers needed against strength, a line a test, as SVG: the same bytes for the same table."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    styles = (("#1b6e53", "-", "o"), ("#b3402a", "-", "s"), ("#8a8f98", "--", "^"))
    with mpl.rc_context({"svg.hashsalt": "countermark", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(figsize=(6.4, 3.4))
        for method, (colour, line, marker) in zip(table.methods, styles, strict=True):
            needed = [math.nan if n is None else n for n in method.needed]
            axes.plot(table.strengths, needed, color=colour, linestyle=line, marker=marker, label=method.name)
        axes.set_yscale("log")
        axes.set_xlabel(f"strength: share of triggers answered as marked (chance {table.chance:g})", fontsize=8)
        axes.set_ylabel(f"triggers for power {table.power:g}", fontsize=8)
        axes.set_title(f"alpha {table.alpha:g} over {table.family} claims", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
        stream = io.StringIO()
        figure.tight_layout()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        plt.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _doubling(most: int) -> list[int]:
    return [*(2**i for i in range(int(math.log2(most)) + 1)), most]


def _surely(n: int, strength: float, chance: float, alpha: float) -> float:
    """A power that n reaches at least, and every larger n too: Chernoff's bound on the null's tail and on the other."""
    if -n * math.log(chance) <= -math.log(alpha):
        return 0.0
    share = optimize.brentq(lambda u: n * _divergence(u, chance) + math.log(alpha), chance, 1.0)
    return 1.0 - math.exp(-n * _divergence(share, strength)) if share < strength else 0.0


def _divergence(u: float, p: float) -> float:
    return float(special.rel_entr(u, p) + special.rel_entr(1.0 - u, 1.0 - p))
