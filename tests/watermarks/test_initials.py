"""Steganographic output mark: fair coins for (place, first letter), and openers that leave every sentence whole."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import UsageError
from tests.support import key_of
from watermarks.carriers.initials import (
    POSITIONS,
    Openers,
    coin,
    count,
    derive_coins,
    encode,
    english,
    initial,
    lowered_words,
    starts,
    units,
)

KEY = key_of("initials")
CHINESE = Openers(phrases=("其实，", "总之，", "当然，", "说实话，", "不过，"))
SENTENCES = [
    "The harbour was calm.", "It rained all night!", "We left, and the dog stayed.", "Mr. Novak sang.",
    "“Why not?” she asked.", "I think so.", "But nobody came.", "e.g. the last one.", "3 boats sank.", "1.",
    "- a list", "\n", "\n\n", "河边很冷。", "我们回家了！", "他说：「好。」然后走了。", "Ärger gab es nie?",
    "   ", "…", "",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(SENTENCES), max_size=8).map(" ".join) | st.text()
LOWERED = lowered_words(["So the dog and it, we, but if there a river is."])


def _favoured(seed="k"):
    key, known = key_of(seed), {}
    return lambda unit: known.setdefault(unit, coin(key, unit, scope="s") == 1)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("One. Two! Three? Four… five", "ottff"),
        (" Leading space. Then", "lt"),
        ("\n\nA line\nanother\r\nthird", "aat"),
        ('"Quoted." (Aside.) [1] end', "qa1"),
        ("3.5 metres and v1.2 stay whole", "3"),
        ("好。坏！真的？是", "好坏真是"),
        ("他说：「好。」然后走了。", "他然"),
        ("वह आया। फिर गया॥ अब", "वफअ"),
        ("جاء؟ نعم.", "جن"),
        ("Ёлка. Éclair. ﬁne", "ёéf"),
        ("... !!! -", ""),
        ("… The end. No", "tn"),  # a sentence without a letter has no unit, nor the next one's
        ("", ""),
    ],
)
def test_sentences_and_their_first_letters(text, letters):
    found = units(text)
    assert "".join(letter[0] for _, letter in found) == letters
    places = [place for place, _ in found]
    assert places == sorted(places)
    assert set(places) <= set(range(POSITIONS))


def test_places_are_first_second_and_later():
    assert units("A b. C d. E f. G h. E i.") == [(0, "a"), (1, "c"), (2, "e"), (2, "g"), (2, "e")]
    assert count(["A. B", "A. C"]) == Counter({(0, "a"): 2, (1, "b"): 1, (1, "c"): 1})


@given(TEXTS)
def test_starts_cut_any_text_in_order(text):
    found = starts(text)
    assert found == sorted(set(found))
    assert all(text[at].strip() for at in found)
    assert bool(found) == bool(text.strip())
    if found:
        assert not text[: found[0]].strip()


@given(TEXTS, st.sampled_from("abcdefgh"), st.sampled_from([english(), CHINESE]), st.integers(0, 9))
def test_a_marked_text_is_the_text_with_openers(text, seed, openers, pick):
    favoured = _favoured(seed)
    marked = encode(text, favoured, openers, lambda n: pick % n, LOWERED)
    before, after = units(text), units(marked)
    assert len(starts(text)) == len(starts(marked))
    assert all(old == new or favoured(new) for old, new in zip(before, after, strict=True))
    assert all(old == new for old, new in zip(before, after, strict=True) if favoured(old))
    assert _stripped(marked, text, openers) == text.casefold()


def _stripped(marked, text, openers):
    """``marked`` without its openers; case folded."""
    parts, at = [], 0
    for (start, end), (first, last) in zip(_sentences(marked), _sentences(text), strict=True):
        sentence, original = marked[start:end], text[first:last]
        opened = [
            p for p in openers.phrases if sentence == p + sentence[len(p) :] and len(sentence) == len(original + p)
        ]
        parts += [marked[at:start], sentence[len(opened[0]) :] if opened and sentence != original else sentence]
        at = end
    return "".join([*parts, marked[at:]]).casefold()


def _sentences(text):
    return list(pairwise([*starts(text), len(text)])) if starts(text) else []


LEFT_ALONE = [
    "Novak sang.",  # a name
    "But nobody came.",  # joins what was before
    "Yes, it did.",
    "“Quoted” words.",
    "1.",  # numbers a list
    "I. Early years",
    "- An item",
    "# A heading",
]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_a_sentence_that_takes_no_opener_is_left(text):
    nothing_is = frozenset("stw")
    assert encode(text, lambda unit: unit[1] in nothing_is, english(), lambda _: 0, LOWERED) == text


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("The dog ran.", "Zut, the dog ran."),
        ("I ran, I’m sure. I'm late.", "Zut, I ran, I’m sure. Zut, I'm late."),
        ("It's late", "Zut, it's late"),
        ("small start. e.g. the dog! then more", "Zut, small start. e.g. the dog! Zut, then more"),
        ("3 dogs. 1. The dog", "Zut, 3 dogs. 1. Zut, the dog"),
        ("河边很冷。我们回家", "Zut, 河边很冷。Zut, 我们回家"),
        (" The dog", " Zut, the dog"),
        ("Zoo. The dog", "Zoo. Zut, the dog"),
        ("Mr. Novak and the dog", "Mr. Novak and the dog"),
    ],
)
def test_where_an_opener_goes(text, marked):
    zut = Openers(phrases=("Zut, ",), never_before=("but",))
    assert encode(text, lambda unit: unit[1] == "z", zut, lambda _: 0, LOWERED) == marked


def test_an_article_that_is_a_pronoun_elsewhere_loses_its_capital():
    italian = lowered_words(["Oggi i ragazzi e i cani corrono."])
    openers = Openers(phrases=("Zut, ",))
    assert encode("I cani corrono.", lambda u: u[1] == "z", openers, lambda _: 0, italian) == "Zut, i cani corrono."


def test_words_that_are_written_small_are_learnt_from_the_texts():
    found = lowered_words(["The dog saw Rex. Then the cat saw Rex, and It was the Cat.", "It’s late, it’s cold."])
    assert {"dog", "the", "saw", "was"} <= found
    assert not {"rex", "then", "cat", "It"} & found


def test_nothing_favoured_changes_nothing():
    text = "The dog ran. It was late."
    assert encode(text, lambda _: False, english(), lambda _: 0, LOWERED) == text
    assert encode(text, lambda _: True, english(), lambda _: 0, LOWERED) == text


def test_every_favoured_opener_can_be_picked():
    fit = [phrase for phrase in english().phrases if initial(phrase) == "s"]
    made = {encode("The dog", lambda u: u[1] == "s", english(), lambda _, i=i: i, LOWERED) for i in range(len(fit))}
    assert made == {f"{phrase}the dog" for phrase in fit}
    assert len(made) > 1


def test_the_english_openers():
    openers = english()
    assert len({initial(phrase) for phrase in openers.phrases}) >= 20
    assert all(phrase[0].isupper() and phrase.endswith((", ", ": ")) for phrase in openers.phrases)
    # these change what is said
    assert not {"Perhaps ", "Yes, ", "Usually, ", "Generally, ", "Happily, ", "More or less, "} & set(openers.phrases)
    digests = {openers.digest(), CHINESE.digest(), Openers(phrases=openers.phrases).digest()}
    assert len(digests) == 3


@pytest.mark.parametrize("phrases", [(), ("",), (" So, ",), ("“So”, ",), ("So. Then ",), ("行。",), ("So,\n",)])
def test_openers_that_are_none_are_refused(phrases):
    with pytest.raises(UsageError, match="opener"):
        Openers(phrases=phrases)


def test_coins_are_fair_and_apart():
    letters = [(place, chr(ord("a") + i)) for place in range(POSITIONS) for i in range(26)]
    rows = [tuple(derive_coins(key_of(f"k{i}"), letters, scope="s")) for i in range(60)]
    assert rows[0] == tuple(coin(key_of("k0"), unit, scope="s") for unit in letters)
    assert stats.binomtest(sum(map(sum, rows)), 60 * len(letters), 0.5).pvalue > 1e-4
    other = tuple(coin(key_of("k0"), unit, scope="t") for unit in letters)
    assert len({*rows, other}) == 61
    by_place = [row[:26] == row[26:52] for row in rows]  # a letter's coins at two places are not one
    assert not any(by_place)


def test_a_chinese_text_is_marked():
    text = "今天很冷。我们在河边走了很久。后来下雪了！大家都回家。"
    favoured = _favoured("chinese")
    fit = [p for p in CHINESE.phrases if any(favoured((place, initial(p))) for place in range(POSITIONS))]
    assert fit
    marked = encode(text, favoured, CHINESE, lambda _: 0, frozenset())
    gained = sum(map(favoured, units(marked))) - sum(map(favoured, units(text)))
    assert gained > 0
    assert len(units(marked)) == 4


def test_the_openers_are_as_they_were_sealed():
    assert english().digest() == "726d62ca9963af50b8a31d4a47308354ae15eb461647cedee91ba0512c21fa1f"
