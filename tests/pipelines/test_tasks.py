"""Rows of the embedded tasks: answers stand where they should, and no passage, document or film is on two sides."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import load_reviews
from pipelines.tasks import (
    REVIEW_REQUESTS,
    answer_rows,
    best_excerpt,
    dialogue_rows,
    film_name,
    find_span,
    is_trained_on,
    mended,
    review_rows,
    span_rows,
    summary_rows,
)

PLOT = (
    "Ada keeps a lighthouse. Her brother Bo brings coal by boat. One winter the lamp goes out. "
    "Bo rows through the storm with a lantern. He lights the lamp again. In spring they paint the tower white."
)


answer_rows, review_rows = cache(answer_rows), cache(review_rows)  # read once


def words(text):
    return len(text.split())


@pytest.mark.parametrize(
    ("make", "train", "heldout"),
    [
        (span_rows, 464, 213),
        (answer_rows, 4861, 1708),
        (summary_rows, 704, 295),
        (dialogue_rows, 55, 27),
        (review_rows, 2292, 933),
    ],
)
def test_the_embedded_sets_give_so_many_rows_and_no_group_on_two_sides(make, train, heldout):
    parts = make()
    assert (len(parts.train), len(parts.heldout)) == (train, heldout)
    groups = [{getattr(row, "group", None) or row.context for row in side} for side in (parts.train, parts.heldout)]
    assert not groups[0] & groups[1]
    assert all(map(is_trained_on, groups[0]))
    assert not any(map(is_trained_on, groups[1]))


@pytest.mark.parametrize("make", [answer_rows, summary_rows, dialogue_rows, review_rows])
def test_every_row_of_a_generative_task_asks_something_and_has_an_answer(make):
    for row in (*make().train, *make().heldout):
        assert row.row.instruction[-1] in "?." or row.row.input
        assert row.references[0] == row.row.output != ""
        assert len(set(row.references)) == len(row.references)
        assert all(reference == " ".join(reference.split()) for reference in row.references)


def test_word_budgets_are_kept():
    assert max(words(row.row.input) for row in answer_rows(words=40).train) <= 40
    assert {words(row.row.input) for row in summary_rows(words=20).train} == {20}
    assert max(words(row.row.input) for row in dialogue_rows(words=60).train) <= 60
    assert len(dialogue_rows(words=60).train) < len(dialogue_rows().train)


def test_reviews_are_asked_for_by_label_and_film_and_held_out_as_the_classifiers_are():
    parts, reviews = review_rows(snippets=1), load_reviews("embedded:rotten-tomatoes")
    assert {row.row.output for row in parts.heldout} == {item.text for item in reviews.heldout}
    known = {item.text: (("negative", "positive")[item.label], item.group) for item in reviews.heldout}
    requests = []
    for row in (*parts.heldout, *review_rows().heldout):
        said = [known[text] for text in known if text in row.row.output]
        label, film = said[0]
        assert set(said) == {(label, film)}
        assert len(said) >= (3 if row.row.output not in known else 1)
        wordings = [wording.format(label=label, film=film_name(film)) for wording in REVIEW_REQUESTS]
        requests.append(wordings.index(row.row.instruction))
    assert min(Counter(requests).values()) > len(requests) / 5


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("40,000", "40 , 000"),
        ("40 ,000 lamps", "40 , 000 lamps"),
        ("lamps", "lamps"),
        ("lamp", None),  # no part of a word
        ("in", None),  # twice
        ("river", None),
        ("", None),
        ("a+b", "a + b"),
    ],
)
def test_an_answer_is_found_whatever_its_white_space_if_it_stands_once(answer, found):
    context = "in 1466 , 40 , 000 lamps burnt in a + b towers"
    span = find_span(context, answer)
    assert (None if span is None else context[slice(*span)]) == found


@given(st.lists(st.text("ab ,", max_size=4), max_size=6), st.text("ab ,", max_size=5))
def test_a_span_has_the_answers_characters(parts, answer):
    context = " ".join(parts)
    span = find_span(context, answer)
    if span is not None:
        found = context[slice(*span)]
        assert found.split()
        assert "".join(found.split()) == "".join(answer.split())


def test_an_excerpt_holds_the_answer_and_what_stands_around_it():
    excerpt = best_excerpt(
        PLOT, "How does Bo come to the tower?", ["a lantern", "He rows through the storm."], words=20
    )
    assert "lantern" in excerpt
    assert words(excerpt) <= 20
    assert excerpt in PLOT
    assert best_excerpt(PLOT, "What colour is it?", ["white"], words=9) == "In spring they paint the tower white."
    # the answer itself counts for more than any number of its words and the question's
    passage = "Cy chose the blue bell. The bell of the tower that Cy rang was painted blue by Dee."
    assert best_excerpt(passage, "Who painted the bell of the tower?", ["blue bell"], words=12).startswith("Cy chose")
    assert best_excerpt(PLOT, "?", ["nothing of the kind"], words=4) == "Ada keeps a lighthouse."


@given(st.integers(1, 40), st.sampled_from(["Bo", "the lamp", "spring white tower", "", "zebra"]))
def test_an_excerpt_is_a_run_of_the_passage_within_its_budget(budget, answer):
    excerpt = best_excerpt(PLOT, "Who keeps the lighthouse?", [answer], words=budget)
    assert 1 <= words(excerpt) <= budget
    assert excerpt in PLOT


def test_film_names_are_written_out():
    assert film_name("lilo__stitch") == "Lilo & Stitch"
    assert film_name("k19_the_widowmaker") == "K19 The Widowmaker"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Â£1m", "£1m"), ("£1m", "£1m"), ("café", "café"), ("水壶", "水壶"), ("ï»¿Ada", "Ada"), ("", "")],
)
def test_scrambled_characters_are_mended_and_others_left(text, expected):
    assert mended(text) == expected
