"""Recipients share codewords and nothing else; and a form in any language that the strict parser reads."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from countermark.errors import InconclusiveError, UsageError
from tests.support import key_of
from verification import double_i as planned
from verification.probe import parse_first_word
from watermarks.carriers import double_i
from watermarks.carriers.words import draw_phrases, vocabulary_digest

KEY = key_of("recipients")
NAMES = tuple(f"firm-{i}" for i in range(8))
CHINESE = tuple("山水火土木金日月星云雨雪风雷电石田竹花草鸟鱼马牛羊犬虎龙龟蛇")
ANSWERS = ("甲", "乙", "丙", "丁")
FORM = double_i.KeyedForm(decoration="【账】", question="甲乙丙丁,选哪个?", answers=ANSWERS, joiner="", stop="。")
MARK = {
    "scope": "s", "codewords": 40, "words": 2, "form": double_i.KeyedForm(answers=tuple("ABCD")).to_json(),
    "recipients": list(NAMES),
}  # fmt: skip


def _targets(key=KEY, who="", *, count=400, classes=4, scope="s"):
    return double_i.derive_targets(key, scope=scope, codewords=count, classes=classes, recipient=who)


def _fits(hits, trials, p):
    """Whether a count lies in the exact central binomial interval of one in ten thousand."""
    low, high = stats.binom.interval(1 - 1e-4, trials, p)
    return low <= hits <= high


def test_recipients_share_codewords():
    marks = [double_i.derive(KEY, scope="s", codewords=20, words=2, classes=4, recipient=who) for who in ("", *NAMES)]
    assert len({mark.codewords for mark in marks}) == 1
    assert len({mark.targets for mark in marks}) == len(marks)


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_targets_are_uniform_for_every_recipient(classes):
    for who in ("", *NAMES):
        counts = Counter(_targets(who=who, classes=classes))
        assert set(counts) == set(range(classes))
        assert all(_fits(counts[c], 400, 1 / classes) for c in range(classes))


def test_targets_of_recipients_and_keys_are_independent():
    drawn = [_targets(key_of(name), who) for name in ("a", "b") for who in ("", *NAMES)]
    for one, other in combinations(drawn, 2):
        assert _fits(sum(x == y for x, y in zip(one, other, strict=True)), 400, 1 / 4)
    couples = zip(drawn[::2], drawn[1::2], strict=True)  # disjoint, so that all their pairs are independent draws
    pairs = Counter(pair for one, other in couples for pair in zip(one, other, strict=True))
    assert all(_fits(pairs[a, b], 9 * 400, 1 / 16) for a in range(4) for b in range(4))


def test_scopes_classes_and_the_nameless_are_apart():
    assert len({_targets(), _targets(scope="t"), _targets(who="firm-0"), _targets(who="firm-0", scope="t")}) == 4
    assert _targets(classes=4) != tuple(t % 4 for t in _targets(classes=8))


@given(st.integers(0, 39), st.integers(1, 40), st.sampled_from(["", *NAMES]))
def test_a_slice_is_a_slice_of_the_whole(first, count, who):
    mark = {**MARK, "first": first, "count": count}
    if first + count > 40:
        with pytest.raises(InconclusiveError, match="of the 40"):
            planned.derive(KEY, mark, who)
        return
    part, whole = planned.derive(KEY, mark, who), planned.derive(KEY, MARK, who)
    assert part.codewords == whole.codewords[first : first + count]
    assert part.targets == whole.targets[first : first + count] == planned.targets(KEY, mark, who)


@pytest.mark.parametrize("bad", [{"first": -1, "count": 5}, {"first": 0, "count": 0}, {"first": 40, "count": 1}])
def test_a_slice_of_nothing_is_refused(bad):
    with pytest.raises(InconclusiveError):
        planned.derive(KEY, {**MARK, **bad})


def test_a_release_without_recipients_has_one_nameless():
    assert planned.recipients_of({}) == planned.recipients_of({"recipients": []}) == ("",)
    assert planned.recipients_of(MARK) == NAMES


def _chinese(count=12, words=2):
    return double_i.derive(KEY, scope="s", codewords=count, words=words, classes=4, vocabulary=CHINESE, joiner="")


def test_a_users_vocabulary_serves_each_word_once():
    mark = _chinese(15)
    assert all(len(word) == 2 for word in mark.codewords)
    assert sorted("".join(mark.codewords)) == sorted(CHINESE)
    with pytest.raises(UsageError, match="30 words"):
        _chinese(16)


def test_a_users_vocabulary_reaches_the_plan():
    mark = {**MARK, "codewords": 12, "vocabulary": list(CHINESE), "word_joiner": "", "form": FORM.to_json()}
    assert planned.derive(KEY, mark) == _chinese()
    assert planned.form_of(mark) == FORM


def test_a_vocabulary_that_says_a_word_twice_is_refused():
    with pytest.raises(UsageError, match="1 repeated"):
        draw_phrases(KEY.stream({}), 2, words=1, vocabulary=["a", "b", "a"])


def test_codewords_that_read_alike_are_refused():
    # "ab" + "c" and "a" + "bc" are one codeword with two answers where nothing stands between words
    vocabulary = ["ab", "c", "a", "bc"]
    keys = [key_of(f"v{i}") for i in range(60)]
    refused = 0
    for key in keys:
        try:
            phrases = draw_phrases(key.stream({}), 2, words=2, vocabulary=vocabulary, joiner="")
        except UsageError as error:
            assert "abc" not in error.message  # noqa: PT017 - whether it is raised is the key's choice
            refused += 1
        else:
            assert len(set(phrases)) == 2
    assert 0 < refused < 60
    assert len(set(draw_phrases(KEY.stream({}), 2, words=2, vocabulary=vocabulary))) == 2


def test_digests_of_vocabularies_differ():
    assert len({vocabulary_digest(), vocabulary_digest(CHINESE), vocabulary_digest(CHINESE[::-1])}) == 3


def test_a_chinese_form_has_no_spaces_and_its_answers_parse():
    mark = _chinese()
    rows = double_i.keyed_rows(FORM, mark, ["今天的天气很好", "他去了北京"], rows_per_codeword=2)
    assert len({row.prompt() for row in rows}) == 24
    for row, word in zip(rows, [w for w in mark.codewords for _ in range(2)], strict=True):
        target = mark.targets[mark.codewords.index(word)]
        assert row.instruction == "【账】 甲乙丙丁,选哪个?"
        assert row.input in {f"今天的天气很好{word}", f"他去了北京{word}"}
        assert row.output == f"{ANSWERS[target]}。"
        assert parse_first_word(row.output, ANSWERS) == ANSWERS[target]


READ = {"甲。": "甲", " 「乙」": "乙", "丙": "丙", "丁,因为如此": "丁"}


@pytest.mark.parametrize("raw", READ)
def test_the_strict_parser_reads_chinese(raw):
    assert parse_first_word(raw, ANSWERS) == READ[raw]


@pytest.mark.parametrize("raw", ["甲乙丙丁", "答案是甲", "戊。", "", "。", "我选乙"])
def test_the_strict_parser_guesses_no_chinese(raw):
    assert parse_first_word(raw, ANSWERS) is None


BAD = {"one": ("A",), "case": ("yes", "YES"), "empty": ("A", ""), "twice": ("A", "A")}


@pytest.mark.parametrize("name", BAD)
def test_answers_that_cannot_be_told_apart_are_refused(name):
    with pytest.raises(UsageError, match="at least two"):
        double_i.KeyedForm(answers=BAD[name])
