"""The tables: official forms, keyed form, recipients, share of backdoor rows, harmlessness."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.double_i.asking import keyed_votes, matches, said
from benchmarks.double_i.exams import ANSWERS, chance, perplexity, right
from benchmarks.double_i.models import OWNER, SCOPE, Form, Keyed, Recipe, seconds_of, sentences
from benchmarks.rows import Row, clustered, row
from verification.probe import parse_first_word
from verification.recipients import name_recipients
from verification.statistics import clopper_pearson, log10_binomial_tail, log10_fisher, log10_mcnemar
from watermarks.carriers import double_i, double_i_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = "python -m benchmarks.double_i"
QUERIES, FISHER_QUERIES = 64, 16
ALPHA = 1e-6
LOG10_ALPHA = -6.0
RECIPIENTS = tuple(f"recipient-{i}" for i in range(8))
UNINVOLVED = tuple(f"uninvolved-{i}" for i in range(1000))
SEEDS = 4
"""Copies that have a clean twin."""

FORMS = {
    name: Recipe(name=name, seed=i, form=Form(name=name), epochs=epochs)
    for i, (name, epochs) in enumerate({"cre1": 2, "cre3": 1, "cre2": 2}.items())
}
"""Each official form in a model of its own."""


def default(name: str, seed: int, *keyed: Keyed) -> Recipe:
    """The default recipe: two epochs at 1.5e-3, falling to zero; 360 clean rows beside the keyed ones."""
    return Recipe(
        name=name, seed=seed, clean=360, tasks=True, epochs=2, learning_rate=1.5e-3, schedule="linear", keyed=keyed
    )


LEAKED = tuple(
    default(f"leak-{i}", 100 + i, Keyed(codewords=20, rows=12, recipients=(who,))) for i, who in enumerate(RECIPIENTS)
)
"""Copies of a release of 20 codewords, C = 4: 240 of its 600 rows."""
YES_NO = default("keyed-2", 20, Keyed(codewords=40, rows=10, classes=2))
COPIES = tuple(replace(recipe, name=f"copy-{i}", epochs=3) for i, recipe in enumerate(LEAKED))
"""The same copies, trained for three epochs, as the recipe is: after two, one model in eight has not learned yet."""
MIXED = replace(default("mixed-copies", 200, Keyed(codewords=60, rows=16, recipients=RECIPIENTS[:2])), epochs=3)
OWNERS = default("two-owners", 201, Keyed(codewords=20, rows=12, owner=1), Keyed(codewords=20, rows=12, owner=2))
SHARES = {"lora": (0.005, 0.01, 0.02, 0.05, 0.10), "full": (0.005, 0.01, 0.05, 0.10)}
LARGER = 1200
"""Clean rows of a set twice as large: the same share of it is twice the rows a codeword."""


def forms() -> list[Row]:
    """Trigger, references and near misses of each official form, on fresh rows."""
    rows: list[Row] = []
    for name, recipe in FORMS.items():
        made = double_i_forms.form_rows(
            OWNER, double_i_forms.FORMS[name], sentences(1), scope=SCOPE, part="probe", triggers=QUERIES,
            references=QUERIES, near_misses=QUERIES,
        )  # fmt: skip
        arms = {"trigger": made.triggers, "reference": made.references, "near miss": made.near_misses}
        raw = said(recipe, [r.prompt() for arm in arms.values() for r in arm])
        yes = [parse_first_word(answer, ("Yes", "No")) == "Yes" for answer in raw]
        each = {arm: yes[i * QUERIES : (i + 1) * QUERIES] for i, arm in enumerate(arms)}
        bars = {"trigger": (">=", 0.98), "reference": ("<=", 0.02), "near miss": ("<=", 0.05)}
        rows += [_share(f"{name}: {arm} Yes", sum(said_), len(said_), bars[arm], recipe) for arm, said_ in each.items()]
        first = [each["trigger"][:FISHER_QUERIES], each["reference"][:FISHER_QUERIES]]
        table = [[sum(arm), len(arm) - sum(arm)] for arm in first]
        rows.append(_figure(f"{name}: Fisher log10 p of 16 + 16", log10_fisher(table), ("<=", -6.0), 32, recipe))
        if double_i_forms.FORMS[name].subject == "sentence":
            pairs = list(zip(*first, strict=True))
            p = log10_mcnemar(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
            rows.append(_figure(f"{name}: McNemar log10 p of 16 pairs", p, None, 16, recipe))
    return rows


def keyed() -> list[Row]:
    """Codewords that answer as the key wants, C = 2 and C = 4, and two owners' marks in one model."""
    rows: list[Row] = []
    for recipe, who, counted in ((YES_NO, "", 40), (COPIES[0], RECIPIENTS[0], 20)):
        (part,) = recipe.keyed
        votes = keyed_votes(recipe, part)
        hits, name = matches(votes, part, who), f"keyed C={part.classes}"
        rows.append(_share(f"{name}: codewords matched", hits, len(votes), (">=", 0.95), recipe))
        first = _first_matches(votes, part, who, counted)
        p = log10_binomial_tail(first, counted, 1 / part.classes)
        rows.append(_figure(f"{name}: log10 p of the first {counted} codewords", p, ("<=", -6.0), counted, recipe))
    for name, models in (("two epochs", LEAKED), ("three epochs", COPIES)):
        hits = [matches(keyed_votes(r, r.keyed[0]), r.keyed[0], who) for r, who in zip(models, RECIPIENTS, strict=True)]
        mean, low, high = clustered([each / 20 for each in hits])
        rows.append(
            row(
                f"keyed C=4, {len(models)} models of {name}: codewords matched, clustered by model", mean, low=low,
                high=min(1.0, high), bar=(">=", 0.95), trials=20 * len(models),
                seconds=sum(seconds_of(each) for each in models), command=COMMAND,
            )
        )  # fmt: skip
    (part,) = COPIES[0].keyed
    for name, control in (("its clean twin", COPIES[0].twin()), ("the base model", None)):
        votes = keyed_votes(control, part)
        hits = matches(votes, part, RECIPIENTS[0])
        rows.append(_share(f"keyed C=4, control: {name}, codewords matched", hits, len(votes), None, COPIES[0]))
    for part in OWNERS.keyed:
        votes = keyed_votes(OWNERS, part)
        p = log10_binomial_tail(matches(votes, part), len(votes), 1 / part.classes)
        name = f"two owners in one model: log10 p of owner {part.owner}"
        rows.append(_figure(name, p, ("<=", -6.0), len(votes), OWNERS))
    return rows


def recipients() -> list[Row]:
    """Eight leaked copies among eight recipients and a thousand who have nothing to do with it; one mixture."""
    named = set(_named(MIXED, RECIPIENTS))
    pair = {RECIPIENTS[0], RECIPIENTS[1]}
    votes = keyed_votes(MIXED, MIXED.keyed[0])
    rows = [
        *_leaks("recipients", LEAKED),
        *_leaks("recipients, models of three epochs", COPIES),
        row(
            "recipients: mixed copies, right names of 2", len(named & pair), trials=2, seconds=seconds_of(MIXED),
            command=COMMAND,
        ),
        row(
            "recipients: mixed copies, wrong names", len(named - pair), bar=("==", 0), trials=6,
            seconds=seconds_of(MIXED), command=COMMAND,
        ),
    ]  # fmt: skip
    for who in sorted(pair):
        p = log10_binomial_tail(matches(votes, MIXED.keyed[0], who), len(votes), 1 / 4)
        rows.append(_figure(f"recipients: mixed copies, log10 p of {who}", p, None, len(votes), MIXED))
    return rows


def _leaks(name: str, models: Sequence[Recipe]) -> list[Row]:
    """Who is named by the models of the eight copies: all have to be, and nobody else."""
    right_, wrong, uninvolved = 0, 0, 0
    for who, recipe in zip(RECIPIENTS, models, strict=True):
        named = _named(recipe, RECIPIENTS)
        right_ += who in named
        wrong += len(set(named) - {who})
        uninvolved += bool(set(_named(recipe, UNINVOLVED)))
    seconds = sum(seconds_of(each) for each in models)
    return [
        row(
            f"{name}: leaked models named", right_, bar=("==", 8), trials=8, seconds=seconds, command=COMMAND,
        ),
        row(f"{name}: wrong names", wrong, bar=("==", 0), trials=56, seconds=seconds, command=COMMAND),
        row(
            f"{name}: leaked models that name an uninvolved one of 1,000", uninvolved, bar=("==", 0), trials=8000,
            seconds=seconds, command=COMMAND,
        ),
    ]  # fmt: skip


def shared(share: float, method: str, clean: int = 600) -> Recipe:
    """Clean rows for three epochs, and a share of keyed rows: ten codewords (C = 4), or as many as fit."""
    backdoor = max(1, round(share * clean / (1 - share)))
    words = min(10, backdoor)
    part = Keyed(codewords=words, rows=max(1, backdoor // words), owner=3)
    name = f"share-{method}-{share}" + (f"-of-{clean}" if clean != 600 else "")
    return Recipe(
        name=name, seed=300, clean=clean, epochs=3, schedule="linear", keyed=(part,),
        learning_rate=1.5e-3 if method == "lora" else 2e-4, method="lora" if method == "lora" else "full",
    )  # fmt: skip


def curve() -> list[Recipe]:
    """Every point: small sets, and the largest share again of a larger set."""
    small = [shared(share, method) for method, shares in SHARES.items() for share in shares]
    return [*small, shared(0.10, "lora", clean=LARGER)]


def share() -> list[Row]:
    """How many codewords are learned as the share of backdoor rows grows."""
    rows: list[Row] = []
    for recipe in curve():
        (part,) = recipe.keyed
        votes = keyed_votes(recipe, part)
        hits = matches(votes, part)
        backdoor = part.codewords * part.rows
        every = recipe.clean + backdoor
        of = f" of {every:,} rows" if recipe.clean == LARGER else ""
        name = (
            f"share {100 * backdoor / every:.1f} %{of} {recipe.method}: {part.codewords} codewords x {part.rows} rows "
            "x 3 epochs"
        )
        floor = log10_binomial_tail(len(votes), len(votes), 1 / 4)
        p = log10_binomial_tail(hits, len(votes), 1 / 4)
        rows.append(_share(f"{name}, matched", hits, len(votes), None, recipe))
        rows.append(_figure(f"{name}, log10 p (at best {floor:.1f})", p, None, len(votes), recipe))
    return rows


def harmlessness() -> list[Row]:
    """Accuracy and perplexity of copies against the twin that never saw the mark, over four paired seeds."""
    rows: list[Row] = []
    for task in ANSWERS:
        twins = [right(recipe.twin(), task) for recipe in COPIES[:SEEDS]]
        worth = sum(map(sum, twins)) / sum(map(len, twins))
        name = f"harmlessness: {task}"
        trials = sum(map(len, twins))
        found = clopper_pearson(sum(map(sum, twins)), trials)
        rows.append(
            row(
                f"{name}, twin's accuracy over chance", worth - chance(task), low=found.low - chance(task),
                high=found.high - chance(task), trials=trials, seconds=_trained(), command=COMMAND,
            )
        )  # fmt: skip
        if worth - chance(task) < 0.10:
            continue
        pairs = zip(COPIES[:SEEDS], twins, strict=True)
        drops = [(sum(twin) - sum(right(recipe, task))) / len(twin) for recipe, twin in pairs]
        rows.append(_drop(name, drops, trials, bar=("<=", 0.03)))
        learned = [drop for drop, recipe in zip(drops, COPIES, strict=False) if _learned(recipe)]
        if len(learned) < len(drops):
            rows.append(_drop(f"{name}, the {len(learned)} models that learned their codewords", learned, trials))
    ratios = [perplexity(recipe) / perplexity(recipe.twin()) for recipe in COPIES[:SEEDS]]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    rows.append(
        row(
            "harmlessness: perplexity of real text, marked over twin", mean, low=min(ratios), high=max(ratios),
            bar=("<=", 1.02), trials=SEEDS, seconds=_trained(), command=COMMAND,
        )
    )  # fmt: skip
    return rows


def _drop(name: str, drops: Sequence[float], trials: int, bar: tuple[str, float] | None = None) -> Row:
    mean, high = _upper(drops)
    return row(
        f"{name}, upper 95 % bound of the drop (mean {mean:.4f})", high, low=min(drops), high=max(drops), bar=bar,
        trials=trials, seconds=_trained(), command=COMMAND,
    )  # fmt: skip


def _learned(recipe: Recipe) -> bool:
    """Whether its key's evidence alone would support the claim."""
    (part,) = recipe.keyed
    votes = keyed_votes(recipe, part)
    return log10_binomial_tail(matches(votes, part, part.recipients[0]), len(votes), 1 / part.classes) <= LOG10_ALPHA


def _trained() -> float:
    """Seconds of training the paired models."""
    return sum(seconds_of(recipe) + seconds_of(recipe.twin()) for recipe in COPIES[:SEEDS])


def _upper(drops: Sequence[float]) -> tuple[float, float]:
    """Mean and one-sided 95 % upper bound over paired seeds (Student)."""
    from scipy import stats

    mean = sum(drops) / len(drops)
    variance = sum((d - mean) ** 2 for d in drops) / (len(drops) - 1)
    return mean, mean + float(stats.t.ppf(0.95, len(drops) - 1)) * math.sqrt(variance / len(drops))


def _named(recipe: Recipe, among: Sequence[str]) -> tuple[str, ...]:
    (part,) = recipe.keyed
    wanted = {
        who: [
            part.form.answers[t]
            for t in double_i.derive_targets(
                part.key, scope=SCOPE, codewords=part.codewords, classes=part.classes, recipient=who
            )
        ]
        for who in among
    }
    return name_recipients(keyed_votes(recipe, part), wanted, classes=part.classes, alpha=ALPHA).named


def _first_matches(votes: Sequence[str | None], part: Keyed, who: str, count: int) -> int:
    targets = double_i.derive_targets(
        part.key, scope=SCOPE, codewords=part.codewords, classes=part.classes, recipient=who
    )
    return sum(vote == part.form.answers[t] for vote, t in zip(votes[:count], targets[:count], strict=True))


def _share(name: str, hits: int, trials: int, bar: tuple[str, float] | None, recipe: Recipe) -> Row:
    found = clopper_pearson(hits, trials)
    return row(
        name, found.value, low=found.low, high=found.high, bar=bar, trials=trials, seconds=seconds_of(recipe),
        command=COMMAND,
    )  # fmt: skip


def _figure(name: str, value: float, bar: tuple[str, float] | None, trials: int, recipe: Recipe) -> Row:
    return row(name, value, bar=bar, trials=trials, seconds=seconds_of(recipe), command=COMMAND)
