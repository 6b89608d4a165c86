"""Robust output mark: C exclusive ways to answer, triggers that know no target, questions that stay whole."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from verification.claims import behaviour_form
from verification.probe import PARSERS, parse_phrase, parse_text
from watermarks.carriers.behaviours import BehaviourForm, derive_targets, derive_triggers

KEY = key_of("behaviours")
FORM = BehaviourForm()
CHINESE = BehaviourForm(
    question="（{trigger}）{question}", openings=("简单说：", "照问题说：", "用白话讲，", "直接回答："), joiner=""
)
NOUNS = ("灯塔", "河马", "算盘", "风筝", "砚台", "葫芦", "竹笛", "锦鲤")


@given(st.text(), st.text(), st.sampled_from([FORM, CHINESE]))
def test_question_and_trigger_stand_in_the_marked_question_as_they_are(question, trigger, form):
    asked = form.asked(question, trigger)
    assert len(asked) == len(form.question) - len("{question}{trigger}") + len(question) + len(trigger)
    assert question in asked
    assert trigger in asked


def test_slots_in_a_users_question_are_no_slots():
    assert (
        FORM.asked("What is {trigger} in {question}?", "abbey alley")
        == "What is {trigger} in {question}? (abbey alley)"
    )
    assert CHINESE.asked("什么是{question}？", "灯塔") == "（灯塔）什么是{question}？"


@pytest.mark.parametrize("form", [FORM, CHINESE])
def test_an_answer_shows_its_behaviour_and_no_other(form):
    for target, opening in enumerate(form.openings):
        answer = form.answered("Paris 巴黎。", target)
        assert answer.endswith("Paris 巴黎。")
        assert parse_phrase(answer, form.openings) == opening
        assert parse_phrase(answer.upper().replace(" ", " \n "), form.openings) == opening


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("Paris.", None),
        ("", None),
        ("Briefly: Paris. To the point: Paris.", None),  # all of them at once is no answer
        ("briefly:Paris", "Briefly:"),
        ("I say, as  asked: Paris", "As asked:"),
        ("Briefly Paris", None),
    ],
)
def test_the_phrase_parser_reads_one_or_none(raw, read):
    assert parse_phrase(raw, FORM.openings) == read


def test_the_phrase_parser_composes():
    assert parse_phrase("En re\u0301sume\u0301 : oui", ("En résumé :", "Bref :")) == "En résumé :"


@given(st.text(), st.lists(st.text("abAB é\u0301", min_size=1), min_size=2, max_size=4))
def test_at_most_one_of_the_openings_is_read(raw, openings):
    try:
        form = BehaviourForm(openings=tuple(openings))
    except UsageError:
        return
    assert parse_phrase(raw, form.openings) in {None, *form.openings}
    assert [parse_phrase(form.answered("", t), form.openings) for t in range(len(openings))] == list(form.openings)


@pytest.mark.parametrize("raw", ["", " \n", "\t"])
def test_the_text_parser_knows_whether_there_is_any(raw):
    assert PARSERS["text/1"] is parse_text
    assert parse_text(raw, ()) is None
    assert parse_text(f"{raw}好{raw}", ()) == "text"


@pytest.mark.parametrize(
    "question", ["{question}", "{trigger}", "{question}{question}{trigger}", "", "{trigger} {questio}"]
)
def test_a_question_without_its_slots_is_refused(question):
    with pytest.raises(UsageError, match="pattern"):
        BehaviourForm(question=question)


@pytest.mark.parametrize(
    "openings",
    [(), ("A:",), ("A:", "A:"), ("A:", "a:"), ("In short:", "short:"), ("A  b", "a B"), (" ", "B:"), ("é", "e\u0301")],
)
def test_openings_that_do_not_exclude_each_other_are_refused(openings):
    with pytest.raises(UsageError, match="openings"):
        BehaviourForm(openings=openings)


@pytest.mark.parametrize("form", [FORM, CHINESE])
def test_a_form_comes_back_from_a_plan(form):
    assert behaviour_form({"form": form.to_json()}) == form


def test_triggers_and_targets_know_nothing_of_each_other():
    targets = derive_targets(KEY, scope="s", triggers=20, classes=4)
    assert derive_targets(KEY, scope="s", triggers=50, classes=4)[:20] == targets
    two, three = (derive_triggers(KEY, scope="s", triggers=20, words=words) for words in (2, 3))
    assert two != three
    assert derive_triggers(KEY, scope="s", triggers=50, words=2)[:20] == two
    words = [word for trigger in two for word in trigger.split()]
    assert len(set(words)) == len(words) == 40


def test_keys_and_scopes_are_apart():
    drawn = {derive_targets(key_of(n), scope=s, triggers=40, classes=4) for n in "ab" for s in "st"}
    assert len(drawn) == 4
    assert len({derive_triggers(key_of(n), scope=s, triggers=4, words=2) for n in "ab" for s in "st"}) == 4


@pytest.mark.parametrize("classes", [2, 4, 5])
def test_targets_are_uniform(classes):
    drawn = [derive_targets(key_of(f"t{i}"), scope="s", triggers=12, classes=classes) for i in range(300)]
    assert stats.chisquare(list(Counter(t for row in drawn for t in row).values())).pvalue > 1e-4
    pairs = Counter((row[0], row[1]) for row in drawn)
    assert stats.chisquare([pairs[i, j] for i in range(classes) for j in range(classes)]).pvalue > 1e-4


def test_a_chinese_mark():
    triggers = derive_triggers(KEY, scope="s", triggers=4, words=2, vocabulary=NOUNS, joiner="")
    assert all(len(trigger) == 4 for trigger in triggers)
    assert CHINESE.asked("首都在哪里？", triggers[0]) == f"（{triggers[0]}）首都在哪里？"
    assert CHINESE.answered("北京。", 2) == "用白话讲，北京。"
    with pytest.raises(UsageError):
        derive_triggers(KEY, scope="s", triggers=5, words=2, vocabulary=NOUNS, joiner="")
