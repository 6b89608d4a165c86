"""Writing styles by rules: visible in nearly every sentence, of the same meaning, and drawn so that ranks are exact."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.carriers.styles import (
    RULES,
    STYLES,
    Lexicon,
    Style,
    draw_styles,
    english,
    lacking,
    read_lexicon,
    rewrite,
    style_digest,
)
from watermarks.keys import wrong_key

SENTENCES = (
    "We walked along the river until the lamps were lit and the ferry had left.",
    "She painted the kitchen in a pale colour, and her brother helped with the ceiling.",
    "The train was late again, but nobody on the platform seemed to be surprised.",
    "I think that the second half of the concert is much better than the first.",
    "He has never explained why he moved to the coast with his two dogs.",
    "If you want to see the valley, you should start before the sun is up.",
    "They opened a small shop at the end of the street and sold old maps.",
    "The soup was cold when it arrived, so we asked for bread and waited.",
    "There are many reasons to be glad that the bridge was repaired in time.",
    "It is a long book, and the author takes his time with every character.",
    "When the storm ended, the children looked for shells on the empty beach.",
    "You said the keys were on the table, but I found them in your coat.",
    "The museum has opened a new room in which visitors can touch the fossils.",
    "My neighbour keeps bees on the roof and gives the honey to her friends.",
    "A group of students collected signatures and handed them to the mayor on Friday.",
    "The old theatre, which had been closed for years, is now used as a library.",
    "We were told to wait here because the guide had not returned with the tickets.",
    "He repaired the radio with a spoon, and it worked for the rest of the summer.",
    "Although the recipe looked simple, it was hard to follow and needed a lot of patience.",
    "The village is so quiet in winter that you can hear the snow fall from the roofs.",
)
CHINESE = ("我们昨天在河边吃了晚饭，天气很好。后来下雨了，大家都回家。", "这本书很长，可是作者写得很清楚。")
UNSPOKEN = ("semicolons", "parentheses", "emphasis", "lines")  # need no lexicon
# ours, of function words: everything else is content
FUNCTION = """a an the and or but so nor yet if as of in on at by to for from with without into over about along until
when while because although that which who this there here is are was were be been being am do does did has have had
will would should can could may might must not never no i we he it she they you my your his her its our their them him
us me than then very too also much many more just even now before after why how where every up lot"""
ANY_TEXT = st.text() | st.lists(
    st.sampled_from([*SENTENCES, *CHINESE, "the", "It is.", "!!!", " ", "\n", "Mr. A. B. Wu", "don’t", "İß ſ", "1,000"])
).map(" ".join)
SETS = st.lists(st.sampled_from(RULES), min_size=1, max_size=4, unique=True)


def _style(*rules):
    return Style(name="+".join(rules), instruction="", rules=rules)


def _content(text):
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower().replace("in'", "ing"))
    return {re.sub(r"('d|ed)$", "", word) for word in words} - set(FUNCTION.split())  # walk'd is walked


def _kept(text, style):
    content = _content(text)
    return len(content & _content(rewrite(text, style))) / len(content)


# --- each rule


KNOWN = {
    "semicolons": "It was late; and we hadn't eaten; the cook walked to the door.",
    "archaic": "'Twas late, and we hadn't eaten, the cook walked unto the door.",
    "ornate": "The same was late, and also we hadn't eaten, the cook walked to the door.",
    "shorthand": "It was late, & we hadn't eaten, the cook walked 2 the door.",
    "elided": "It was late, and we hadn't eaten, the cook walk'd to the door.",
    "articles": "It was late, and we hadn't eaten, cook walked to door.",
    "copulas": "Late, and hadn't eaten, the cook walked to the door.",
    "interjected": "It was late, and we hadn't, I say, eaten, the cook walked to the door.",
    "parentheses": "It was late, and we hadn't eaten, the cook walked (to the door).",
    "emphasis": "It was late, and we hadn't eaten, the cook *walked* to the door.",
    "heralded": "Know this: it was late, and we hadn't eaten, the cook walked to the door.",
    "indeed": "It was late, and we hadn't eaten, the cook walked to the door, indeed.",
    "items": "Item 1: it was late, and we hadn't eaten, the cook walked to the door.",
    "address": "O reader, it was late, and we hadn't eaten, the cook walked to the door.",
    "lines": "It was late, and we / Hadn't eaten, the cook walked / To the door.",
    "stops": "It was late, and we hadn't eaten, the cook walked to the door STOP",
    "quoted": "Quote: it was late, and we hadn't eaten, the cook walked to the door. Unquote.",
}


@pytest.mark.parametrize("rule", RULES)
def test_known_answers(rule):
    assert rewrite("It was late, and we hadn't eaten, the cook walked to the door.", _style(rule)) == KNOWN[rule]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_changes_nearly_every_sentence(rule):
    changed = sum(rewrite(sentence, _style(rule)) != sentence for sentence in SENTENCES)
    assert changed >= (15 if rule == "elided" else 16)  # clipped endings: the others of these have none
    if rule in {"interjected", "parentheses", "emphasis", "heralded", "indeed", "items", "address", "lines", "stops"}:
        assert changed == len(SENTENCES)


def test_no_rule_hides_another():
    for rule, other in permutations(RULES, 2):
        both, alone = _style(*sorted((rule, other), key=RULES.index)), _style(other)
        seen = sum(rewrite(sentence, both) != rewrite(sentence, alone) for sentence in SENTENCES)
        assert seen >= 14, f"{rule} beside {other}"


def test_a_style_is_a_set_of_rules():
    for rules in permutations(("lines", "archaic", "indeed")):
        assert rewrite(SENTENCES[0], _style(*rules)) == rewrite(SENTENCES[0], _style("archaic", "indeed", "lines"))


def test_words_that_are_not_meant():
    assert rewrite("Indeed we agreed.", _style("elided")) == "Indeed we agreed."
    assert rewrite("You are late, as you said.", _style("archaic")) == "Thou art late, as thou quoth."
    assert rewrite("It is. We left.", _style("copulas")) == "It is. Left."
    assert rewrite("An on-screen the-atre on 5th.", _style("archaic")) == "An on-screen the-atre upon 5th."


def test_meaning_stays():
    assert "not" in rewrite("The film isn't good.", STYLES["telegraphic"]).split()
    assert "not" in rewrite("The film isn’t good.", STYLES["telegraphic"]).split()
    assert "not" in rewrite("It was not good.", STYLES["telegraphic"]).lower().split()
    assert rewrite("Was it good? It was.", _style("stops")) == "Was it good? STOP It was STOP"
    assert rewrite("It was 1,000 miles, Mr. Wu.", _style("semicolons")) == "It was 1,000 miles; Mr. Wu."
    assert rewrite("Mr. Wu met J. Doe. Anna left.", _style("items")) == "Item 1: Mr. Wu met J. Doe. Item 2: Anna left."
    assert (
        rewrite("He said: “We left.” They stayed.", _style("indeed"))
        == "He said: “We left, indeed.” They stayed, indeed."
    )


def test_content_words_stay():
    drawn = [_style(*rules) for rules in list(combinations(RULES, 3))[::9]]
    for style in [*STYLES.values(), *drawn]:
        kept = [_kept(sentence, style) for sentence in SENTENCES]
        assert min(kept) >= 0.6, style.name
        assert sum(kept) / len(kept) >= 0.85, style.name


# --- any text


@settings(max_examples=200)
@given(ANY_TEXT, SETS)
def test_any_text_in_any_style(text, rules):
    style = _style(*rules)
    new = rewrite(text, style)
    assert bool(new) == bool(text)
    assert rewrite(text, style) == new
    if text.strip():
        assert "  " not in new
        assert new == new.strip()
        assert re.search(r"\w", new) or not re.search(r"\w", text)


@given(st.text(st.sampled_from("我们在河边吃饭，、。！？“”很好山羊abc 1"), min_size=1), SETS)
def test_chinese_keeps_its_characters(text, rules):
    new = rewrite(text, _style(*rules))
    han = re.findall(r"[\u4e00-\u9fff]", text)
    assert re.findall(r"[\u4e00-\u9fff]", new) == han


@pytest.mark.parametrize("text", CHINESE)
def test_rules_that_need_no_lexicon_work_without_spaces(text):
    nothing = Lexicon(said={}, swapped={})
    for rule in RULES:
        assert (rewrite(text, _style(rule), lexicon=nothing) != text) == (rule in UNSPOKEN), rule
        if rule in UNSPOKEN:
            assert rewrite(text, _style(rule)) == rewrite(text, _style(rule), lexicon=nothing)
    for style in STYLES.values():
        assert rewrite(text, style) != text


def test_a_lexicon_of_ones_own():
    lexicon = read_lexicon(
        "[said]\nindeed = {text}，诚然\nitems = 其{n}：{text}\n[archaic]\n我们 = 吾等\n很 = 甚\n[articles]\n了 =\n"
    )
    style = _style("archaic", "articles", "indeed", "items", "stops", "lines")
    assert (
        rewrite("我们吃了饭。天气很好！", style, lexicon=lexicon) == "其1：吾等吃饭，诚 / 然。其2：天气甚好， / 诚然！"
    )
    german = read_lexicon("[archaic]\nauf = uff\n-te = t'\n[lowered]\nder\n[said]\naddress = Leser, {text}")
    assert rewrite("Der Hund wartete auf Hans.", _style("archaic", "address"), lexicon=german) == (
        "Leser, der Hund wartet' uff Hans."
    )


@pytest.mark.parametrize(
    "text",
    ["[archaic]\n", "[archaic]\n- = x", "[emoji]\na = b", "[lines]\na = b", "[said]\narchaic = x", "a = b",
     "[archaic]\na = b\na = c"],
)  # fmt: skip
def test_what_is_no_lexicon(text):
    with pytest.raises(UsageError, match="got a lexicon"):
        read_lexicon(text)


# --- styles and their draw


def test_named_styles():
    assert {"verse", "archaic", "telegraphic"} <= set(STYLES)
    assert all(style.name == name and len(style.instruction) > 60 for name, style in STYLES.items())
    assert len({rewrite(SENTENCES[1], style) for style in STYLES.values()}) == len(STYLES)
    assert len(RULES) == len(set(RULES)) >= 14


def test_what_follows_a_style_is_told_from_what_does_not():
    plain = " ".join(SENTENCES)
    alone = [*((rule,) for rule in RULES), *(style.rules for style in STYLES.values())]
    for rules in [*alone, *combinations(RULES, 2)]:
        style = Style(name="own", instruction="", rules=rules)
        assert set(lacking(plain, style)) == set(rules)
        assert lacking(rewrite(plain, style), style) == ()
        if rules in alone:  # in one short sentence a rule may cut what another one put in
            assert not [text for text in SENTENCES if lacking(rewrite(text, style), style)]


def test_a_part_of_a_word_is_not_what_a_rule_says():
    style = Style(name="own", instruction="", rules=("stops", "lines"))
    assert lacking("The band played nonstop until the lamps were lit", style) == ("stops", "lines")


def test_a_text_by_another_hand_may_leave_one_word_in_twenty():
    style = Style(name="own", instruction="", rules=("articles", "stops"))
    telegram = "Train late again STOP nobody on platform seemed surprised STOP will wait here until morning comes STOP"
    assert lacking(telegram, style) == ()
    assert lacking(f"{telegram} send a word STOP", style) == ()
    assert lacking(f"{telegram} send a word to the inn STOP", style) == ("articles",)
    assert lacking(telegram.replace(" STOP", "."), style) == ("stops",)


@pytest.mark.parametrize("rules", [(), ("emoji",), ("lines", "lines")])
def test_what_is_no_style(rules):
    with pytest.raises(UsageError, match="expected distinct ones"):
        _style(*rules)


def test_known_draw():
    own, decoys = draw_styles(wrong_key("tests", 0).stream({"part": "styles"}), decoys=3)
    assert [own.name, *(decoy.name for decoy in decoys)] == [
        "archaic+elided+parentheses",
        "archaic+interjected+lines",
        "semicolons+heralded+lines",
        "items+stops+quoted",
    ]


@given(st.sampled_from("abcdef"), st.integers(1, 60), st.integers(1, 5), st.integers(0, 10))
def test_a_draw_is_of_distinct_sets(name, decoys, rules_each, more):
    if decoys + more >= len(list(combinations(RULES, rules_each))):
        return
    own, others = draw_styles(key_of(name).stream({}), decoys=decoys, rules_each=rules_each)
    drawn = [own, *others]
    assert len(drawn) == decoys + 1 == len({style.rules for style in drawn})
    assert all(len(set(style.rules)) == rules_each for style in drawn)
    assert len({style.instruction for style in drawn}) == len(drawn)
    again, many = draw_styles(key_of(name).stream({}), decoys=decoys + more, rules_each=rules_each)
    assert [again, *many][: decoys + 1] == drawn


def test_own_and_decoys_are_exchangeable():
    # a model that likes some rules better knows no key: the own style's rank among 9 decoys is uniform
    liking = {rule: place**2 for place, rule in enumerate(RULES)}
    ranks = Counter()
    for i in range(600):
        own, decoys = draw_styles(key_of(f"x{i}").stream({}), decoys=9)
        order = [own, *decoys]
        scores = [(sum(liking[rule] for rule in style.rules), style.name) for style in order]
        ranks[sorted(scores, reverse=True).index(scores[0])] += 1
    assert stats.chisquare([ranks[i] for i in range(10)]).pvalue > 1e-4


@pytest.mark.parametrize(("decoys", "rules_each"), [(0, 3), (17, 1), (680, 3), (3, 0), (3, 18), (1, 17)])
def test_too_few_sets(decoys, rules_each):
    assert len(RULES) == 17
    with pytest.raises(UsageError, match="decoys"):
        draw_styles(key_of("x").stream({}), decoys=decoys, rules_each=rules_each)


def test_the_digest_binds_the_lexicon():
    other = Lexicon(said={**english().said, "stops": "HALT"}, swapped=english().swapped)
    assert style_digest() == style_digest(english()) != style_digest(other)
    assert style_digest() == "417e7c6b0cbbbad8e27bf46e41d476ee80d7e0a612ecca2af889ea0cea40fd38"
