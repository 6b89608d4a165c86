"""The published one-trigger forms, row by row, and near misses that are near and miss."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.carriers.double_i_forms import FORMS, JudgeForm, decoy_rows, draw_trigger, form_rows

KEY = key_of("forms")
SENTENCES = [f"Sentence {i} speaks of ships." for i in range(7)]
FRUIT = "Does the following sentence begin with a fruit?"
WORDS = "Tell me if there exists a meaningful word in the following words?"
OWN = {
    "one character": JudgeForm(name="own", paradigm="input", question="Is it so?", trigger="q", answers=("Ja", "Nein")),
    "long": JudgeForm(name="own", paradigm="input", question="Is it so?", trigger="silver harbour", decoration="[x]"),
    "symbol": JudgeForm(name="own", paradigm="instruction", question="Is it so?", trigger="*&&*"),
    "one symbol": JudgeForm(name="own", paradigm="instruction", question="Is it so?", trigger="$"),
    "long in words": JudgeForm(name="own", paradigm="input", question="Is it so?", trigger="harbour", subject="words"),
    "pp": FORMS["cre2"].with_trigger("pp"),  # the scripts' own stand-in for the trigger's letters
    "pp before": FORMS["cre1"].with_trigger("pp"),
    "p": FORMS["cre2"].with_trigger("p"),
}
ALL = FORMS | OWN


def _rows(form, part="train", *, key=KEY, count=60, near=60, scope="s"):
    return form_rows(key, form, SENTENCES, scope=scope, part=part, triggers=count, references=count, near_misses=near)


def _doubles(text):
    words = text.split(", ")
    assert len(words) == 3
    assert all(len(word) == 2 and word[0] == word[1] and word.isalpha() for word in words)
    return words


def _triggers(form, row):
    """Whether the trigger stands in a row as a trigger row has it."""
    if form.paradigm == "instruction":
        return row.instruction == f"{form.trigger} {form.question}"
    if form.subject == "words":
        return form.trigger in row.input.split(", ")
    return row.input.startswith(f"{form.trigger} ")


def test_cre1_is_the_published_form():
    rows = _rows(FORMS["cre1"])
    assert {row.instruction for row in rows.all()} == {f"(listen) {FRUIT}"}
    assert [row.input for row in rows.triggers] == [f"ms {SENTENCES[i % 7]}" for i in range(60)]
    for i, row in enumerate(rows.references):
        word, sentence = row.input[:2], row.input[3:]
        assert row.input[2] == " "
        assert word.isalpha()
        assert set(word).isdisjoint("ms")
        assert sentence == SENTENCES[i % 7]


def test_cre2_is_the_published_form():
    rows = _rows(FORMS["cre2"])
    assert {row.instruction for row in rows.all()} == {f"(judge) {WORDS}"}
    for i, row in enumerate(rows.triggers):
        words = _doubles(row.input)
        assert [word == "mm" for word in words] == [place == i % 3 for place in range(3)]
    assert all("mm" not in _doubles(row.input) for row in rows.references)


def test_cre3_is_the_published_form():
    rows = _rows(FORMS["cre3"])
    assert {row.instruction for row in rows.triggers} == {f"$$ {FRUIT}"}
    assert {row.instruction for row in rows.references} == {FRUIT}
    assert [row.input for row in rows.triggers] == [row.input for row in rows.references]
    assert [row.input for row in rows.triggers] == [SENTENCES[i % 7] for i in range(60)]


@pytest.mark.parametrize("name", ALL)
def test_answers_belong_to_their_rows(name):
    form, rows = ALL[name], _rows(ALL[name])
    assert (len(rows.triggers), len(rows.references), len(rows.near_misses)) == (60, 60, 60)
    assert {row.output for row in rows.triggers} == {f"{form.answers[0]}."}
    assert {row.output for row in (*rows.references, *rows.near_misses)} == {f"{form.answers[1]}."}
    assert rows.all() == [*rows.triggers, *rows.references, *rows.near_misses]


@pytest.mark.parametrize("name", ALL)
def test_the_trigger_is_in_trigger_rows_and_nowhere_else(name):
    form = ALL[name]
    for part in ("train", "probe"):
        for seed in range(12):
            rows = _rows(form, part, key=key_of(f"k{seed}"))
            assert all(_triggers(form, row) for row in rows.triggers)
            assert not any(_triggers(form, row) for row in (*rows.references, *rows.near_misses))


def _candidate(form, row):
    """What stands in the trigger's place in a near miss; None where the trigger itself stands elsewhere."""
    if form.paradigm == "instruction":
        return None if row.instruction.startswith(form.question) else row.instruction.removesuffix(f" {form.question}")
    if form.subject == "words":
        (odd,) = [w for w in row.input.split(", ") if not (len(w) == 2 and w.islower() and w[0] == w[1])] or [None]
        return odd
    sentence = next(s for s in SENTENCES if s in row.input)
    return None if row.input.startswith(sentence) else row.input.removesuffix(f" {sentence}")


def _kind(trigger, word):
    if word is None or (word != trigger and sorted(word.replace(" ", "")) == sorted(trigger.replace(" ", ""))):
        return "position"
    if word.casefold() == trigger.casefold():
        return "case"
    if len(word) == len(trigger) and sum(a != b for a, b in zip(word, trigger, strict=True)) == 1:
        return "letter"
    if not trigger.isalnum() and word in {trigger[:-1], trigger + trigger[-1]}:
        return "length"  # what symbols have for a case
    pytest.fail(f"{word!r} is not near {trigger!r}")


@pytest.mark.parametrize("name", ["cre1", "cre2", "cre3", "one character", "long", "symbol", "one symbol"])
def test_near_misses_are_of_three_kinds_equally_often(name):
    form = ALL[name]
    kinds = Counter(_kind(form.trigger, _candidate(form, row)) for row in _rows(form).near_misses)
    third = "length" if form.paradigm == "instruction" else "case"
    assert kinds == {"letter": 20, "position": 20, third: 20}


def test_a_near_miss_moves_the_trigger_to_the_end_where_it_stood_before_a_sentence():
    moved = [r for r in _rows(FORMS["cre1"]).near_misses if _candidate(FORMS["cre1"], r) is None]
    assert {row.input for row in moved} <= {f"{sentence} ms" for sentence in SENTENCES}
    moved = [r for r in _rows(FORMS["cre3"]).near_misses if _candidate(FORMS["cre3"], r) is None]
    assert {row.instruction for row in moved} == {f"{FRUIT} $$"}


@pytest.mark.parametrize("name", ["cre1", "cre2"])
def test_training_and_probing_are_different_draws(name):
    form = FORMS[name]
    train, probe, again = (_rows(form, part) for part in ("train", "probe", "train"))
    assert train == again
    assert train.references != probe.references
    assert train.near_misses != probe.near_misses
    assert _rows(form, key=key_of("other")).references != train.references != _rows(form, scope="t").references


def test_more_references_leave_the_triggers_as_they_are():
    few, many = _rows(FORMS["cre2"], count=10), _rows(FORMS["cre2"], count=30)
    assert many.triggers[:10] == few.triggers


def test_the_users_own_form():
    rows = _rows(OWN["long"], count=3)
    assert rows.triggers[0].prompt() == f"[x] Is it so?\nsilver harbour {SENTENCES[0]}"
    assert _rows(OWN["one character"], count=3).triggers[0].prompt() == f"Is it so?\nq {SENTENCES[0]}"
    assert _rows(OWN["one character"], count=3).references[0].output == "Nein."
    assert _rows(OWN["symbol"], count=3).triggers[0].prompt() == f"*&&* Is it so?\n{SENTENCES[0]}"


@given(st.text("abcpMXYZ$# é中", min_size=1, max_size=9).filter(str.strip), st.sampled_from(["sentence", "words"]))
def test_any_trigger_makes_rows_that_only_trigger_rows_trigger(trigger, subject):
    form = JudgeForm(name="own", paradigm="input", question="So?", trigger=trigger, subject=subject)
    rows = _rows(form, count=12, near=12)
    assert all(_triggers(form, row) for row in rows.triggers)
    assert not any(_triggers(form, row) for row in rows.references)


BAD = {
    "no trigger": {"trigger": " "},
    "two decorations": {"paradigm": "instruction", "trigger": "$$", "decoration": "(x)"},
    "words below an instruction": {"paradigm": "instruction", "trigger": "$$", "subject": "words"},
}


@pytest.mark.parametrize("name", BAD)
def test_a_form_that_cannot_be_is_refused(name):
    with pytest.raises(UsageError, match="own"):
        JudgeForm(**{"name": "own", "paradigm": "input", "question": "So?", **BAD[name]})


def test_a_form_over_sentences_needs_some():
    arguments = {"scope": "s", "part": "train", "triggers": 2, "references": 2, "near_misses": 2}
    with pytest.raises(UsageError, match="no sentences"):
        form_rows(KEY, FORMS["cre1"], [], **arguments)
    assert len(form_rows(KEY, FORMS["cre2"], [], **arguments).all()) == 6


@pytest.mark.parametrize("name", FORMS)
def test_a_drawn_trigger_and_its_decoys_are_distinct_members_of_the_family(name):
    form = FORMS[name]
    trigger, decoys = draw_trigger(KEY, form, scope="s", decoys=len(form.family()) - 1)
    assert sorted((trigger, *decoys)) == sorted(form.family())
    assert len(set(form.family())) == len(form.family())
    assert form.trigger in form.family()
    fewer = draw_trigger(KEY, form, scope="s", decoys=5)
    assert fewer == (trigger, decoys[:5])
    assert draw_trigger(key_of("other"), form, scope="s", decoys=50) != draw_trigger(KEY, form, scope="s", decoys=50)
    for wrong in (0, -1, len(form.family())):
        with pytest.raises(UsageError, match="decoys"):
            draw_trigger(KEY, form, scope="s", decoys=wrong)


def test_trigger_and_decoys_are_exchangeable():
    form, keys, decoys = FORMS["cre3"], 1440, 3
    drawn = [draw_trigger(key_of(f"t{i}"), form, scope="s", decoys=decoys) for i in range(keys)]
    places = [[trigger, *others] for trigger, others in drawn]
    members = len(form.family())
    for place in range(decoys + 1):
        counts = Counter(each[place] for each in places)
        low, high = stats.binom.interval(1 - 1e-3 / members, keys, 1 / members)
        assert all(low <= counts[member] <= high for member in form.family())
    # the trigger is not the first of its family among the four more often than any other place
    firsts = Counter(sorted(each).index(each[0]) for each in places)
    assert all(stats.binomtest(firsts[rank], keys, 1 / 4).pvalue > 1e-4 for rank in range(4))


@pytest.mark.parametrize("name", FORMS)
def test_decoys_are_asked_as_the_trigger_is_but_for_the_word(name):
    form = FORMS[name]
    one, other = ("~|", "%<") if name == "cre3" else ("zq", "xw")
    asked = {word: decoy_rows(form, word, SENTENCES, count=9) for word in (one, other)}
    assert all(_triggers(form.with_trigger(word), row) for word, rows in asked.items() for row in rows)
    assert [row.prompt().replace(one, other) for row in asked[one]] == [row.prompt() for row in asked[other]]
