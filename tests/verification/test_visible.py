"""What a model writes is shown with every character visible, and an end."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verification.visible import pieces, short, visible

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
anything = st.text(alphabet=st.characters(), max_size=300)


@given(anything, st.integers(1, 100))
def test_nothing_hidden_is_left_and_there_is_an_end(text, limit):
    shown = visible(text, limit)
    assert all(unicodedata.category(c) not in HIDDEN for c in shown)
    assert len(shown) <= 10 * limit + 30
    shown.encode()


@given(anything)
def test_all_of_a_short_text_is_shown(text):
    kinds = list(pieces(text, len(text)))
    back = "".join(part if kind == "plain" else chr(int(part.replace("U+", "0x"), 0)) for kind, part in kinds)
    assert back == text.replace("\n", "↵")
    assert all(kind != "cut" for kind, _ in kinds)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Yes.", "Yes."),
        ("答案是 C", "答案是 C"),
        ("naïve e\u0301", "naïve e\u0301"),
        ("a\u202eb", "a[U+202E]b"),
        ("a\u200db\ufe0f", "a[U+200D]b[U+FE0F]"),
        ("\x1b[0m\t", "[U+001B][0m[U+0009]"),
        ("\ud800\U000e0041\u3164", "[U+D800][U+E0041][U+3164]"),
        ("a\nb", "a↵b"),
        ("Z" + "\u0301" * 5, "Z\u0301\u0301\u0301[U+0301][U+0301]"),
        ("x" * 12, "xxxxxxxxxx[… 2 more characters]"),
    ],
)
def test_examples(text, shown):
    assert visible(text, 10) == shown


@given(anything, st.integers(2, 40))
def test_a_short_name_fits(text, limit):
    assert len(short(text, limit)) <= limit
