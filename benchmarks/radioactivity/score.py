"""What students give away: reading mode and closed mode, marked students and clean ones."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from benchmarks.radioactivity.students import CLEAN, CONTROL, MARKED, Student, answers, predictions, seconds_of
from benchmarks.radioactivity.texts import SCHEMES, load, subkey
from benchmarks.rows import Row, clustered, row
from verification.radioactivity import Evidence, Windows, closed_windows, reading_windows, weigh
from watermarks.keys import wrong_key

if TYPE_CHECKING:
    from watermarks.schemes import Scheme

COMMAND = "python -m benchmarks.radioactivity"
WRONG_KEYS, NULL_KEYS = 100_000, 400
BARS = {("unigram-100", "closed", "counts"): ("<=", -4.0), ("kgw-100", "reading marked", "green"): ("<=", -5.0)}
STATISTICS = {"unigram": ("unique", "counts"), "kgw": ("green",), "gumbel": ("credit",)}


def scheme_of(name: str) -> Scheme:
    """The owner's scheme by its set."""
    found = SCHEMES[name]
    if found is None:
        raise ValueError(name)
    return found


@lru_cache(maxsize=256)
def windows(student: Student, name: str, mode: str) -> Windows:
    """What one student shows to one scheme in one mode."""
    scheme, (_, tokenizer) = scheme_of(name), load()
    special = tuple(tokenizer.all_special_ids)
    if mode == "closed":
        asked, said = answers(student)
        prompts, ids = (tokenizer(list(part), add_special_tokens=False)["input_ids"] for part in (asked, said))
        return closed_windows(ids, prompts, scheme, special=special)
    key_free = mode == "reading unmarked"
    texts, predicted, starts = predictions(student, "unmarked" if key_free else name)
    return reading_windows(texts, predicted, starts, scheme, key_free=key_free, special=special)


def modes(name: str) -> tuple[str, ...]:
    """The modes that are valid for a set: a fixed list may not read its own marked texts."""
    reading = ("reading unmarked",) if scheme_of(name).inputs.width == 0 else ("reading unmarked", "reading marked")
    return ("closed", *reading)


def marked_rows(wrong_keys: int = WRONG_KEYS) -> list[Row]:
    """Every marked student in every mode."""
    rows: list[Row] = []
    for student in MARKED:
        for mode in modes(student.marked):
            for statistic in STATISTICS[student.marked]:
                bar = BARS.get((student.name, mode, statistic))
                found = _weighed(student, student.marked, mode, statistic, wrong_keys if bar else 999)
                rows += _figures(student, f"{student.name} {mode} {statistic}", found, bar)
    return rows


def control_rows() -> list[Row]:
    """A wholly unmarked student of the marked ones' size, in every mode, under the owner's key of every set."""
    return [
        each
        for name, chosen in STATISTICS.items()
        for mode in modes(name)
        for statistic in chosen
        for each in _figures(
            CONTROL, f"{CONTROL.name} (control), {name} {mode} {statistic}",
            _weighed(CONTROL, name, mode, statistic, 999), None,
        )
    ]  # fmt: skip


def _weighed(student: Student, name: str, mode: str, statistic: str, wrong_keys: int) -> Evidence:
    scheme = scheme_of(name)
    wrong = [subkey(scheme, wrong_key("radioactivity", i)) for i in range(wrong_keys)]
    return weigh(windows(student, name, mode), scheme, subkey(scheme), statistic=statistic, wrong=wrong)


def _figures(student: Student, name: str, found: Evidence, bar: tuple[str, float] | None) -> list[Row]:
    ranked, seconds = found.rank_p if found.rank_p is not None else 1.0, seconds_of(student)
    return [
        row(f"{name}: log10 p", found.log10_p, bar=bar, trials=found.scored, seconds=seconds, command=COMMAND),
        row(
            f"{name}: rank p among {found.wrong_keys} wrong keys", ranked, trials=found.wrong_keys, seconds=seconds,
            command=COMMAND,
        ),
    ]  # fmt: skip


def null() -> dict[str, tuple[list[float], list[list[float]]]]:
    """log10 p of the clean students by test: under the owner's key, and for each of :data:`NULL_KEYS` others."""
    found = {}
    for name, chosen in STATISTICS.items():
        for mode in modes(name):
            for statistic in chosen:
                own = [_log10_p(student, name, mode, statistic, 0) for student in CLEAN]
                others = [
                    [_log10_p(student, name, mode, statistic, i) for student in CLEAN] for i in range(1, NULL_KEYS + 1)
                ]
                found[f"{name} {mode} {statistic}"] = own, others
    return found


def clean_rows(found: dict[str, tuple[list[float], list[list[float]]]]) -> list[Row]:
    """How often p is at or below a level."""
    return [each for name, (own, others) in found.items() for each in _null(f"clean students, {name}", own, others)]


def _log10_p(student: Student, name: str, mode: str, statistic: str, key: int) -> float:
    scheme = scheme_of(name)
    under = subkey(scheme) if key == 0 else subkey(scheme, wrong_key("radioactivity/null", key))
    return weigh(windows(student, name, mode), scheme, under, statistic=statistic).log10_p


def _null(name: str, own: list[float], others: list[list[float]]) -> list[Row]:
    """Super-uniform over keys: not significantly more than alpha of the p-values are at or below alpha.

    The laws are exact over keys, and the students resemble each other: what one key says of twenty of them is one draw.
    So the interval is clustered by key (Student), and the owner's key, which is one, is shown and tests nothing. Texts
    marked under the owner's key are ordinary ones to the others; reading them under their own is simulated in tests.
    """
    rows, seconds = [], seconds_of(*CLEAN)
    for level in (0.05, 0.01):
        each = [sum(10**p <= level for p in under) / len(under) for under in others]
        mean, low, high = clustered(each)
        made = row(
            f"{name}, {len(each)} wrong keys: share of p <= {level}", mean, low=low, high=high,
            trials=len(each) * len(own), seconds=seconds, command=COMMAND,
        )  # fmt: skip
        made["ok"] = low <= level
        hits = sum(10**p <= level for p in own)
        shown = row(
            f"{name}, the owner's key (one draw): share of p <= {level}", hits / len(own), trials=len(own),
            seconds=seconds, command=COMMAND,
        )  # fmt: skip
        rows += [made, shown]
    return rows
