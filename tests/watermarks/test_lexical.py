"""Weak output mark: one fair coin a pair, whole words alone, and text that says the same after as before."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from verification.signflip import MOST_UNITS
from watermarks.carriers.lexical import BUILT_IN, MOST_PAIRS, Lexicon, built_in, derive_coins, english, parse_lexicon

KEY = key_of("lexical")
SMALL = parse_lexicon("film=movie films=movies\nin_spite_of=despite\ndo_not=don't\nI_am_a=I'm_a")
CHINESE = parse_lexicon("电影=影片 电影院=影院\n但是=可是\n非常=十分")
HINDI = parse_lexicon("कम=थोड़ा")
ENGLISH = len(english().pairs)
FORMS = [form for pair in english().pairs for forms in pair for form in forms]
WORDS = st.lists(
    st.sampled_from([*FORMS, "the", "dog", "ran.", "Then", "“", "’", "-", "\n", "İß ſ", "很好。"]), max_size=12
).map(" ".join)
BITS = st.lists(st.integers(0, 1), min_size=ENGLISH, max_size=ENGLISH)


def _said(lexicon, text):
    return [text[found.start : found.end] for found in lexicon.occurrences(text)]


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("A film, two movies.", "A film, two films.", "A movie, two movies."),
        ("FILM for MOVIES, the Movie Show", "FILM for FILMS, the Movie Show", "MOVIE for MOVIES, the Movie Show"),
        ("Despite rain we don’t go.", "In spite of rain we do not go.", "Despite rain we don’t go."),
        ("In spite\nof rain", "In spite\nof rain", "Despite rain"),
        ("I'm a fan. I am a fan.", "I am a fan. I am a fan.", "I'm a fan. I'm a fan."),
        ("Filmed in filmland; a film's end", "Filmed in filmland; a film's end", "Filmed in filmland; a movie's end"),
    ],
)
def test_the_preferred_side_is_written(text, first, second):
    assert SMALL.prefer(text, [0] * 4) == first
    assert SMALL.prefer(text, [1] * 4) == second


@pytest.mark.parametrize(
    "text",
    [
        "See https://example.org/film and film.jpg, or write to film@example.org.",
        "The sci-fi-film and the film-maker, x.film, a_film, l'film.",
        "We saw The Scary Film yesterday.",  # a name
        "ﬁlm fılm filḿ f\u0300ilm",
    ],
)
def test_addresses_names_and_parts_of_words_stay(text):
    assert _said(SMALL, text) == []
    assert SMALL.prefer(text, [1] * 4) == text


def test_a_capital_begins_a_sentence_or_a_text_in_capitals():
    text = 'Film one. Film two! "Film three"\nFilm four: Film five. THE FILM SIX'
    assert SMALL.counts([text]) == [(6, 0), (0, 0), (0, 0), (0, 0)]
    assert SMALL.prefer(text, [1] * 4) == text.replace("Film", "Movie").replace("FILM", "MOVIE")


def test_letters_that_match_without_case_and_are_others_break_nothing():
    # re.IGNORECASE takes the long s and the dotless i for s and i; a suspect must not stop an audit with them
    assert _said(parse_lexicon("silly=foolish"), "ſilly sılly silly") == ["silly"]
    assert _said(parse_lexicon("σας=x"), "ΣΑΣ σασ") == ["ΣΑΣ"]


@given(st.text(), st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_any_text_is_read(text, coins):
    again = SMALL.prefer(text, coins)
    assert [f.pair for f in SMALL.occurrences(again)] == [f.pair for f in SMALL.occurrences(text)]
    assert all(found.side == coins[found.pair] for found in SMALL.occurrences(again))


@given(WORDS, BITS)
def test_preferring_changes_nothing_but_forms(text, coins):
    lexicon = english()
    spans = list(lexicon.occurrences(text))
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    kept = [text[a:b] for a, b in itertools.pairwise([0, *(x for f in spans for x in (f.start, f.end)), len(text)])][
        ::2
    ]
    after, at = lexicon.prefer(text, coins), 0
    for part in kept:  # what is no form stands there in the same order
        at = after.index(part, at) + len(part)
    assert sum(map(sum, lexicon.counts([text]))) == len(spans)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("side", [0, 1])
def test_every_english_form_goes_to_the_other_and_back(name, side):
    lexicon = built_in(name)
    coins = [side] * len(lexicon.pairs)
    for pair in lexicon.pairs:
        for forms in pair:
            here, there = (f"Now then {form} ran there." for form in (forms[side], forms[1 - side]))
            assert lexicon.prefer(there, coins) == here
            assert lexicon.prefer(here, coins) == here


VOWEL = re.compile(r"\W*(?:[aeio]|u[lnp])", re.IGNORECASE)  # by sound, for the words of the lists


@pytest.mark.parametrize("before", ["{}", "It is {}", "He's {}", "rather than {}", "not {}"])
def test_articles_before_a_form_stay_right(before):
    lexicon = built_in("reviews")
    for form in dict.fromkeys(form for pair in lexicon.pairs for forms in pair for form in forms):
        for quoted in (form, f"“{form}”", f"(<i>{form}"):
            text = before.format(f"{'an' if VOWEL.match(form) else 'a'} {quoted} one")
            for side in (0, 1):
                after = lexicon.prefer(text, [side] * len(lexicon.pairs))
                found = re.search(r"\b(an?)((?: |<i>|[“(])+)([\w'].*)", after)
                assert found is None or (found[1] == "an") == bool(VOWEL.match(found[3])), (text, after)


def test_an_article_goes_with_its_word():
    lexicon, text = built_in("reviews"), "A funny film. An amusing movie, a very funny one; an entirely new one."
    sides = [lexicon.prefer(text, [side] * len(lexicon.pairs)) for side in (0, 1)]
    assert sides[0] == "A funny film. A funny film, a very funny one; an entirely new one."
    assert sides[1] == "An amusing movie. An amusing movie, a very amusing one; a wholly new one."


@pytest.mark.parametrize(
    "text",
    [
        "A Funny Thing Happened, and the Story of O.", "Despite Yourself came out.", "We saw Bizarre Foods",
        "It was bizarre, weird and tedious or tiresome.",
    ],
)  # fmt: skip
def test_titles_and_both_sides_beside_each_other_stay(text):
    lexicon = built_in("reviews")
    assert not _said(lexicon, text)


def test_both_sides_of_a_pair_apart_are_found():
    text = "It was bizarre. The plot seems tedious, it was weird and fascinating, and tiresome."
    assert _said(built_in("reviews"), text) == ["bizarre", "The plot", "tedious", "weird", "fascinating", "tiresome"]


def test_reviews_say_more_and_what_english_says_keeps_its_place():
    assert built_in("reviews").pairs[:ENGLISH] == english().pairs
    assert _said(built_in("reviews"), "The plot; the script of it.") == ["The plot", "the script"]
    assert not _said(english(), "The plot; the script of it.")


MEANT = [  # common sentences in which an earlier, looser list said something else
    "I really like the very first scene, and a TV show from the start.",
    "It lasted for a while. That said, I work hard and run fast.",
    "He is not nearly as good as I am, and I know who they are.",
    "A big deal for a rich man at a quiet firm: he can't show it.",
    "I have to go, I have a dog, and all that I have.",
    "The plot of land and the script of the program are due to change.",
    "Had he not come, and should you not pay, everyone will say so.",
    "There are several of the kind, and it was hard to choose to begin.",
    "Doctor Strange saw Scary Movie at the United Nations.",
]


@pytest.mark.parametrize("text", MEANT)
def test_english_words_of_two_senses_stay(text):
    safe = {"can't", "cannot", "is not", "isn't", "everyone", "everybody"}
    lexicon = english()
    assert {said.lower() for said in _said(lexicon, text)} <= safe
    for side in (0, 1):
        after = lexicon.prefer(text, [side] * ENGLISH)
        assert len(after.split()) in range(len(text.split()) - 1, len(text.split()) + 2)


def test_questions_take_their_own_order():
    expanded = english().prefer("Isn't it late? Why don't you go? He can't, can't he?", [0] * ENGLISH)
    assert expanded == "Is it not late? Why do you not go? He cannot, can he not?"
    assert english().prefer(expanded, [1] * ENGLISH) == "Isn't it late? Why don't you go? He can't, can't he?"


SEALED = {
    "english": "66fff9e5cd07254e4b3e998cf264f21fa4d9357c8f5bc723d73d9ecc19944406",
    "reviews": "5b7b9b711cf2e4926a30319e2f3a87fbccfe82f7cb982f9d13fcd308c54980bf",
}
"""What commitments bind: after a release a list never changes, and a better one has another name."""


def test_the_lists_are_as_they_were_sealed():
    assert {name: built_in(name).digest() for name in BUILT_IN} == SEALED


def test_the_english_lexicon_is_large_enough_and_bound():
    assert 60 <= ENGLISH <= MOST_PAIRS == MOST_UNITS
    assert english().digest() != Lexicon(pairs=english().pairs[::-1]).digest()
    assert english().digest() == parse_lexicon(_written(english())).digest()


def _written(lexicon):
    lines = (" ".join(f"{a}={b}".replace(" ", "_") for a, b in pair) for pair in lexicon.pairs)
    return "# comment\n\n" + "  # more\n".join(lines)


FORM = st.text("abcdefg '", min_size=1).map(str.strip).filter(lambda form: form.strip(" "))


@given(st.lists(FORM, min_size=2, max_size=20, unique_by=lambda form: " ".join(form.split())))
def test_the_file_form_gives_the_lexicon_back(forms):
    pairs = tuple(((a, b),) for a, b in zip(forms[::2], forms[1::2], strict=False))
    lexicon = Lexicon(pairs=pairs)
    assert parse_lexicon(_written(lexicon)).pairs == pairs


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("film", ":1"),
        ("a=b\nfilm=", ":2"),
        ("=movie", ":1"),
        ("a=b=c", ":1"),
        ("a=b c", ":1"),
        ("", "0 pairs"),
        ("# a=b", "0 pairs"),
        ("a=a", "twice"),
        ("a=b\nB=c", "twice"),
        ("a_b=c a__b=d", "twice"),
        ("_=b", "empty"),
        ("\n".join(f"w{i}a=w{i}b" for i in range(MOST_PAIRS + 1)), "513"),
    ],
)
def test_a_lexicon_that_is_none_is_refused(text, named):
    with pytest.raises(UsageError, match=named):
        parse_lexicon(text)


def test_a_chinese_lexicon():
    text = "这部电影非常好，但是电影院很远。"
    assert CHINESE.counts([text, "影片十分短"]) == [(2, 1), (1, 0), (1, 1)]
    assert CHINESE.prefer(text, [1, 1, 1]) == "这部影片十分好，可是影院很远。"
    assert CHINESE.prefer(CHINESE.prefer(text, [1, 1, 1]), [0, 0, 0]) == text


def test_scripts_without_spaces_and_with_marks():
    thai = parse_lexicon("หนัง=ภาพยนตร์")
    assert thai.prefer("ฉันชอบหนังเรื่องนี้", [1]) == "ฉันชอบภาพยนตร์เรื่องนี้"
    assert HINDI.prefer("यह कम है, कमी नहीं", [1]) == "यह थोड़ा है, कमी नहीं"  # a vowel sign goes on with the word
    assert parse_lexicon("영화=필름").prefer("영화를 봤다", [1]) == "필름를 봤다"


def test_coins_are_the_keys_fair_and_apart():
    drawn = [derive_coins(key_of(f"k{i}"), scope="s", pairs=40) for i in range(200)]
    assert stats.binomtest(sum(map(sum, drawn)), 8000, 0.5).pvalue > 1e-4
    assert len({*drawn, derive_coins(key_of("k0"), scope="t", pairs=40)}) == 201
    assert derive_coins(KEY, scope="s", pairs=50)[:40] == derive_coins(KEY, scope="s", pairs=40)
    # a pair's coin says nothing of its neighbour's
    together = sum(row[i] == row[i + 1] for row in drawn for i in range(0, 40, 2))
    assert stats.binomtest(together, 4000, 0.5).pvalue > 1e-4
