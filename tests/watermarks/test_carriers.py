"""Dataset marks: triggers that know no target, placed in rows of their class, and no noun used twice."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.carriers import double_i, input_level
from watermarks.carriers.words import draw_phrases, nouns

FORM = double_i.KeyedForm()
KEY = key_of("carriers")
NAMES = st.sampled_from(["a", "b", "c", "d"])


def _input_mark(key=KEY, *, triggers=20, classes=2, words=2, scope="s"):
    return input_level.derive(key, scope=scope, triggers=triggers, classes=classes, words=words)


def test_the_vocabulary_holds_each_noun_once():
    assert len(nouns()) == len(set(nouns())) > 300
    assert len({noun.casefold() for noun in nouns()}) == len(nouns())
    assert all(noun.isalpha() and noun.islower() for noun in nouns())


@given(NAMES, st.integers(0, 60), st.integers(1, 6))
def test_no_noun_serves_twice(name, count, words):
    phrases = draw_phrases(key_of(name).stream({}), count, words=words)
    used = [noun for phrase in phrases for noun in phrase.split(" ")]
    assert len(phrases) == count
    assert len(used) == count * words == len(set(used))
    assert set(used) <= set(nouns())


def test_the_whole_vocabulary_and_not_one_noun_more():
    total = len(nouns())
    assert sorted(draw_phrases(KEY.stream({}), total, words=1)) == sorted(nouns())
    with pytest.raises(UsageError, match=str(total)):
        draw_phrases(KEY.stream({}), total + 1, words=1)
    with pytest.raises(UsageError):
        draw_phrases(KEY.stream({}), total // 2 + 1, words=2)


def test_targets_do_not_move_when_triggers_do():
    # other words a trigger, other triggers: the targets' stream knows nothing of it
    assert _input_mark(words=1).targets == _input_mark(words=3).targets
    assert _input_mark(words=1).triggers != _input_mark(words=3).triggers
    a = double_i.derive(KEY, scope="s", codewords=20, words=1)
    b = double_i.derive(KEY, scope="s", codewords=20, words=3)
    assert a.targets == b.targets


def test_triggers_do_not_move_when_targets_do():
    assert _input_mark(classes=2).triggers == _input_mark(classes=5).triggers
    assert _input_mark(classes=2).targets != tuple(t % 2 for t in _input_mark(classes=5).targets)


@pytest.mark.parametrize("more", [1, 7, 40])
def test_more_triggers_keep_the_first_ones(more):
    few, many = _input_mark(triggers=20), _input_mark(triggers=20 + more)
    assert many.triggers[:20] == few.triggers
    assert many.targets[:20] == few.targets


def test_derive_targets_alone_gives_the_marks_targets():
    mark = _input_mark(triggers=30, classes=3)
    assert input_level.derive_targets(KEY, scope="s", triggers=30, classes=3) == mark.targets
    double = double_i.derive(KEY, scope="s", codewords=30, words=2)
    assert double_i.derive_targets(KEY, scope="s", codewords=30) == double.targets


def test_marks_scopes_and_keys_are_apart():
    keyed = {_input_mark(key_of(n), scope=s, triggers=40).targets for n in ("a", "b") for s in ("s", "t")}
    keyed.add(double_i.derive_targets(key_of("a"), scope="s", codewords=40))
    assert len(keyed) == 5
    assert set(_input_mark().triggers).isdisjoint(_input_mark(scope="t").triggers)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_targets_are_uniform_and_do_not_lean_on_the_triggers_place(classes):
    drawn = [_input_mark(key_of(f"t{i}"), triggers=10, classes=classes).targets for i in range(300)]
    assert stats.chisquare(list(Counter(t for row in drawn for t in row).values())).pvalue > 1e-4
    firsts = Counter((row[0], row[1]) for row in drawn)
    assert stats.chisquare([firsts[i, j] for i in range(classes) for j in range(classes)]).pvalue > 1e-4


def test_a_target_says_nothing_about_its_noun():
    # over keys, the target of the trigger that holds the commonest letters is a fair coin
    marks = [_input_mark(key_of(f"n{i}"), triggers=40, words=1) for i in range(60)]
    pairs = [(t, c) for mark in marks for t, c in zip(mark.triggers, mark.targets, strict=True)]
    early = [c for t, c in pairs if t < sorted(nouns())[len(nouns()) // 2]]
    assert stats.binomtest(sum(early), len(early), 0.5).pvalue > 1e-4


def test_insert_puts_the_trigger_first():
    assert input_level.insert("abbey alley", "很好。") == "abbey alley 很好。"


ROWS = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=120, max_size=160)


@given(NAMES, ROWS, st.integers(1, 3))
def test_placement(name, rows, per_trigger):
    key, labels, hardness = key_of(name), [label for label, _ in rows], [doubt for _, doubt in rows]
    mark = _input_mark(key, triggers=6, classes=3)
    arguments = {"scope": "s", "labels": labels, "hardness": hardness, "rows_per_trigger": per_trigger}
    if any(labels.count(c) < 6 * per_trigger for c in range(3)):  # whatever the key gives, or else keys are screened
        with pytest.raises(UsageError, match="enough for any draw of 6 triggers"):
            input_level.place(key, mark, **arguments)
        return
    placements = input_level.place(key, mark, **arguments)
    assert [p.row for p in placements] == sorted({p.row for p in placements})
    assert Counter(p.trigger for p in placements) == dict.fromkeys(range(6), per_trigger)
    assert all(labels[p.row] == mark.targets[p.trigger] for p in placements)
    chosen = {p.row for p in placements}
    for c in range(3):
        mine = [hardness[i] for i in chosen if labels[i] == c]
        left = [hardness[i] for i, label in enumerate(labels) if label == c and i not in chosen]
        assert not mine or not left or min(mine) >= max(left)


@pytest.mark.parametrize(("room", "triggers", "classes"), [(19, 40, 2), (5, 6, 3), (0, 3, 5), (6, 6, 3)])
def test_the_chance_of_a_misfit_is_the_binomial_tail(room, triggers, classes):
    exact = stats.binom.sf(room, triggers, 1 / classes)
    assert input_level.misfit(room, triggers, classes) == pytest.approx(exact, rel=1e-9)


def test_placement_is_the_keys_choice():
    mark = _input_mark(triggers=8)
    labels, flat = [i % 2 for i in range(200)], [0.5] * 200
    arguments = {"scope": "s", "labels": labels, "hardness": flat, "rows_per_trigger": 4}
    first, again, other = (input_level.place(k, mark, **arguments) for k in (KEY, KEY, key_of("other")))
    assert first == again != other


def test_keyed_rows():
    mark = double_i.derive(KEY, scope="s", codewords=12, words=2)
    carriers = [f"Sentence {i}." for i in range(5)]
    rows = double_i.keyed_rows(FORM, mark, carriers, rows_per_codeword=4)
    assert len(rows) == len({row.prompt() for row in rows}) == 48
    for word, target in zip(mark.codewords, mark.targets, strict=True):
        mine = [row for row in rows if row.input.endswith(f" {word}")]
        assert len(mine) == 4
        assert {row.output for row in mine} == {f"{FORM.answers[target]}."}
    with pytest.raises(UsageError):
        double_i.keyed_rows(FORM, mark, carriers[:3], rows_per_codeword=4)


def test_a_probe_shows_no_answer():
    probe, trained = FORM.row("a b", "Text."), FORM.row("a b", "Text.", 1)
    assert probe.output == ""
    assert probe.prompt() == trained.prompt()


def test_the_release_is_shuffled_by_the_key():
    rows = [FORM.row(str(i), "x") for i in range(50)]
    order = double_i.shuffle(KEY, rows, scope="s")
    assert sorted(order) == list(range(50)) != order
    assert order != double_i.shuffle(key_of("other"), rows, scope="s")
