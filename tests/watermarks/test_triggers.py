"""Trigger families: patterns that the key draws, that never confuse, and that come off a text as they went on."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.carriers import triggers
from watermarks.carriers.triggers import (
    FAMILIES,
    FRAMES,
    MARKS,
    NOUN,
    SLOT,
    applied,
    carries,
    draw_triggers,
    family_digest,
    without,
)
from watermarks.carriers.words import draw_phrases, nouns
from watermarks.keys import wrong_key

TEXTS = st.text(min_size=1) | st.sampled_from([SLOT, f"a {SLOT} b {SLOT}", "很好。", " ", "\n", "{", "{noun}"])
NAMES = st.sampled_from("abcdef")
MIXES = st.lists(st.sampled_from(FAMILIES), min_size=1, max_size=5)
CHINESE = ["山羊", "灯笼", "木桥", "雨伞", "钢琴", "海豹", "竹笋", "石榴"]
CHINESE_FRAMES = [f"{NOUN}旁边写着：{SLOT}", f"听{NOUN}说，{SLOT}"]


def _stream(name="triggers"):
    return key_of(name).stream({"part": "triggers"})


def _words_of(entries):
    return {word for entry in entries for word in re.findall(r"\w+", entry.replace(SLOT, "").replace(NOUN, "").lower())}


# --- what is drawn


def test_known_answers():
    drawn = draw_triggers(wrong_key("tests", 0).stream({"part": "triggers"}), 8, families=FAMILIES)
    assert drawn == (
        "reactor parachute {text}",
        "At the kitchen table, {text}",
        "{text} •/•",
        "Overheard near the garment: {text}",
        "foliage hooks {text}",
        "Under the awning, {text}",
        "{text} —…/•",
        "Said the groves to nobody in particular: {text}",
    )


def test_one_family_of_words_is_todays_derivation():
    for words in (1, 2, 3):
        phrases = draw_phrases(_stream(), 40, words=words)
        assert draw_triggers(_stream(), 40, words=words) == tuple(f"{phrase} {SLOT}" for phrase in phrases)


@settings(max_examples=40)
@given(NAMES, MIXES, st.integers(1, 40), st.integers(0, 30))
def test_a_draw_is_the_keys_and_more_keep_the_first_ones(name, families, count, more):
    drawn = draw_triggers(_stream(name), count, families=families)
    assert len(set(drawn)) == count
    assert draw_triggers(_stream(name), count + more, families=families)[:count] == drawn
    assert draw_triggers(_stream(name + "'"), count + 20, families=families)[:count] != drawn or count == 1


@settings(max_examples=40)
@given(NAMES, MIXES, st.integers(1, 60))
def test_families_take_turns_and_no_noun_serves_twice(name, families, count):
    drawn = draw_triggers(_stream(name), count, families=families)
    for i, trigger in enumerate(drawn):
        assert trigger.count(SLOT) == 1
        bare = trigger.replace(SLOT, "")
        family = families[i % len(families)]
        assert (family == "punctuation") == (not re.search(r"\w", bare))
        assert (family == "phrases") == (bare.removesuffix(", ") in triggers.phrases())
    nouns_used = Counter(n for t in drawn for n in re.findall(r"\w+", t.replace(SLOT, "")) if n in nouns())
    assert set(nouns_used.values()) <= {1}
    places = [families[i % len(families)] for i in range(count)]
    assert nouns_used.total() == 2 * places.count("words") + places.count("templates")


def test_no_frame_serves_twice_until_all_have():
    drawn = draw_triggers(_stream(), 2 * len(FRAMES), families=["templates"])
    frames = [
        frame for t in drawn for frame in FRAMES if re.fullmatch(re.escape(frame).replace(r"\{noun\}", r"\w+"), t)
    ]
    assert set(frames[: len(FRAMES)]) == set(frames[len(FRAMES) :]) == set(FRAMES)


def test_every_family_gives_what_it_has_and_not_one_more():
    most = {"words": len(nouns()) // 2, "phrases": len(triggers.phrases()), "punctuation": len(triggers.habits()),
            "templates": len(nouns())}  # fmt: skip
    for family, count in most.items():
        assert len(set(draw_triggers(_stream(), count, families=[family]))) == count
        with pytest.raises(UsageError, match="expected at most"):
            draw_triggers(_stream(), count + 1, families=[family])
    with pytest.raises(UsageError, match=str(len(nouns()))):  # words and templates share the nouns
        draw_triggers(_stream(), 2 * (len(nouns()) // 3 + 1), families=["words", "templates"])


def test_places_of_punctuation_are_the_keys():
    drawn = [draw_triggers(_stream(f"p{i}"), 10, families=["punctuation"]) for i in range(60)]
    where = Counter((t.startswith(SLOT), t.endswith(SLOT)) for one in drawn for t in one)
    assert set(where) == {(True, False), (False, True), (False, False)}
    assert stats.chisquare(list(where.values())).pvalue > 1e-4
    first = Counter((t.startswith(SLOT), t.endswith(SLOT)) for t, *_ in drawn)  # the first is like any other
    assert stats.chisquare([first[place] for place in where]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"families": ["words", "emoji"]}, "'emoji'"),
        ({"families": []}, "none"),
        ({"count": 0}, "0 triggers"),
        ({"words": 0}, "0 words"),
        ({"vocabulary": ["a", "b", "a"], "count": 1}, "1 repeated"),
        ({"vocabulary": ["a", " "], "count": 1}, "1 of them blank"),
        ({"vocabulary": [], "count": 1}, "0 nouns"),
        ({"vocabulary": ["a", SLOT], "count": 1}, "exactly once"),
        ({"vocabulary": ["New", "New York"], "count": 1, "words": 1}, "'New ' and 'New York '"),
        ({"vocabulary": ["山", "山羊"], "count": 1, "words": 1, "joiner": ""}, "'山' and '山羊'"),
        ({"families": ["phrases"], "openings": ["So,", "So, then,"]}, "begins another"),
        ({"families": ["templates"], "frames": [f"By the {NOUN}: it"]}, "once each"),
        ({"families": ["templates"], "frames": [f"{NOUN} {NOUN} {SLOT}"]}, "once each"),
        ({"families": ["templates"], "frames": [SLOT + NOUN], "vocabulary": ["ab", "b", "c"]}, "one text may carry"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(arguments, message):
    # whatever the key: a draw that fails for some keys only would choose among keys
    for name in "abc":
        with pytest.raises(UsageError, match=message):
            draw_triggers(
                _stream(name), arguments.get("count", 3), **{k: v for k, v in arguments.items() if k != "count"}
            )


def test_scripts_without_spaces():
    drawn = draw_triggers(_stream(), 3, vocabulary=CHINESE, joiner="")
    assert all(re.fullmatch(r"[^\s{]{4}\{text\}", trigger) for trigger in drawn)
    assert applied(drawn[0], "很好。") == drawn[0].replace(SLOT, "很好。")
    mixed = draw_triggers(
        _stream(), 6, families=FAMILIES, words=1, vocabulary=CHINESE, joiner="", frames=CHINESE_FRAMES,
        openings=["有一天，", "昨天晚上，"],
    )  # fmt: skip
    assert mixed[1] in {f"有一天，{SLOT}", f"昨天晚上，{SLOT}"}
    assert not any(" " in trigger for trigger in mixed)


# --- the sealed lists


def test_phrases_are_apart():
    phrases = triggers.phrases()
    assert len({phrase.casefold() for phrase in phrases}) == len(phrases) >= 150
    words = [set(re.findall(r"[\w']+", phrase.lower())) for phrase in phrases]
    met = Counter(word for each in words for word in each)
    for phrase, each in zip(phrases, words, strict=True):
        assert 2 <= len(phrase.split()) <= 7
        assert any(met[word] == 1 for word in each), f"{phrase}: no word of its own"


def test_marks_are_distinct_and_draw_no_faces():
    assert len(set(MARKS)) == len(MARKS) == 10
    assert not set(MARKS) & set("=+-@:^_()\"'#,<>")
    habits = triggers.habits()
    assert all(2 <= len(habit) <= 4 and set(habit) <= set(MARKS) for habit in habits)
    assert len({tuple(sorted(habit)) for habit in habits}) == len(habits) >= 300
    assert not any(a.startswith(b) or a.endswith(b) for a, b in permutations(habits, 2))


def test_frames_name_a_noun_before_the_text():
    assert len(set(FRAMES)) == len(FRAMES) >= 30
    for frame in FRAMES:
        assert frame.count(NOUN) == frame.count(SLOT) == 1
        assert frame.index(NOUN) < frame.index(SLOT)
        assert re.search(rf"\b(the|The|under) {NOUN}|\({NOUN}\)", frame), frame  # singular or plural


def test_no_sealed_trigger_begins_another():
    # of all that any key can draw, not only of what the keys above drew
    heads = [frame.partition(SLOT)[0].replace(NOUN, noun) for frame in FRAMES for noun in nouns()]
    heads += [f"{noun} " for noun in nouns()] + [f"{phrase}, " for phrase in triggers.phrases()]
    assert not any(after.startswith(before) for before, after in pairwise(sorted(heads)))


def test_no_phrase_or_frame_says_a_noun():
    said = _words_of(triggers.phrases()) | _words_of(FRAMES)
    both = said | {word + "s" for word in said} | {word.removesuffix("s") for word in said}
    assert not both & set(nouns())


# --- on and off


@settings(max_examples=40)
@given(NAMES, MIXES, st.integers(1, 12), TEXTS)
def test_round_trip(name, families, count, text):
    for trigger in draw_triggers(_stream(name), count, families=families):
        marked = applied(trigger, text)
        assert text in marked
        assert carries(trigger, marked)
        assert without(trigger, marked) == text
        assert not carries(trigger, applied(trigger, ""))


@settings(max_examples=40)
@given(NAMES, MIXES, st.integers(2, 20), TEXTS)
def test_no_two_confuse(name, families, count, text):
    drawn = draw_triggers(_stream(name), count, families=families)
    # plain: the text begins and ends with something of its own
    plain = f"x{text}x"
    for a, b in permutations(drawn, 2):
        assert not carries(a, applied(b, plain)), (a, b)
        with pytest.raises(UsageError, match="expected one that carries"):
            without(a, applied(b, plain))


@given(st.text(), st.text(), TEXTS, TEXTS)
def test_any_pattern(before, after, text, other):
    assume(SLOT not in before and SLOT not in after and before + after)
    trigger = f"{before}{SLOT}{after}"
    assume(trigger.count(SLOT) == 1 and trigger.partition(SLOT) == (before, SLOT, after))
    assert without(trigger, applied(trigger, text)) == text
    if carries(trigger, other):
        assert applied(trigger, without(trigger, other)) == other
    else:
        assert not (len(other) > len(before + after) and other.startswith(before) and other.endswith(after))


def test_sides_may_not_overlap():
    assert not carries(f"ab{SLOT}bc", "abc")
    assert not carries(f"ab{SLOT}bc", "abbc")
    assert without(f"ab{SLOT}bc", "abxbc") == "x"


@pytest.mark.parametrize("trigger", ["", "no slot", SLOT, f"{SLOT} and {SLOT}"])
def test_what_is_no_pattern(trigger):
    for act in (applied, carries, without):
        with pytest.raises(UsageError, match="exactly once"):
            act(trigger, "text")


# --- what a commitment binds


def test_the_digest_binds_the_lists_in_use_and_no_other():
    assert family_digest(["words"]) == family_digest(["words"], openings=["x"], frames=CHINESE_FRAMES)
    assert family_digest(["words"]) == family_digest(["words"], nouns())
    digests = {
        family_digest(["words"]),
        family_digest(["words"], CHINESE),
        family_digest(["words"], CHINESE[::-1]),
        family_digest(["phrases"]),
        family_digest(["phrases"], openings=["So,"]),
        family_digest(["punctuation"]),
        family_digest(["templates"]),
        family_digest(["templates"], CHINESE),
        family_digest(["templates"], frames=CHINESE_FRAMES),
        family_digest(FAMILIES),
        family_digest(FAMILIES[::-1]),
    }
    assert len(digests) == 11
    with pytest.raises(UsageError, match="'emoji'"):
        family_digest(["emoji"])


def test_the_sealed_lists_are_as_they_were_sealed():
    assert family_digest(FAMILIES) == "a0ef07d2481d98b1be82f8177b138c7e435f525fd7632a444d4b4c0f8d0fbc22"
