"""The report: hostile text stays text, the same bytes twice, no script and nothing loaded from anywhere."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import key_of
from tests.verification.small_audit import build, mark_of, trained
from verification.plan import Claim
from verification.report import power, render_html

KEY = key_of("reporter")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><a href='javascript:alert(3)'>&lt;b&gt; {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def report():
    asked = (Claim.INPUT_LEVEL, Claim.DOUBLE_I)
    small = build(KEY, {c: trained(KEY, mark_of(c, 24), c) for c in asked}, triggers=24, token=True)
    return {
        "run": {"name": "r", "seed": 1, "version": "0", "key_id": "ck_1", "commitment": "ab" * 32, "alpha": 1e-4},
        "verdicts": [v.to_json() for v in small.verdicts().values()],
        "utility": [
            {"suspect": "s", "metric": "accuracy", "value": 0.9, "low": 0.8, "high": 1.0, "questions": 9, "twin": 0.8}
        ],
        "notes": ["20 of 100 reviews carry a trigger.", "Generated and dropped: too short 3."],
        "plan_file": "artifacts/plan/plan.json",
        "examples": [{"label": "negative", "text": "A film."}],
        "assumptions": ["assumes"],
        "seconds": 12.5,
        "stages": [{"name": "keys", "seconds": 0.1, "digest": "cd" * 32, "skipped": False}],
    }


class Page(HTMLParser):
    """Every element and attribute of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def _assert_harmless(page: Page) -> None:
    forbidden = {"script", "iframe", "object", "embed", "link", "img", "base", "form", "foreignobject", "a", "image"}
    assert forbidden.isdisjoint(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href", "action", "data", "srcset"):
            assert value.startswith("#")
        assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", value))


def test_the_page_loads_nothing_and_runs_nothing(report):
    html = render_html(report)
    _assert_harmless(Page(html))
    assert "<script" not in html.lower()
    assert "@import" not in html
    urls = set(re.findall(r"https?://[^\s\"'<>)]+", html))
    assert all(
        url.startswith(("http://www.w3.org/", "http://purl.org/", "http://creativecommons.org/")) for url in urls
    )


def test_the_same_report_gives_the_same_bytes(report):
    assert render_html(report).encode() == render_html(report).encode()


def test_the_page_says_what_the_verdicts_say(report):
    text = Page(render_html(report)).text
    for verdict in report["verdicts"]:
        assert f"{verdict['successes']} / {verdict['trials']}" in text
        assert verdict["sentence"] in text or verdict["control"]
    assert report["run"]["commitment"] in text


def _poison(value):
    """``value`` with hostile text wherever a person, a model or a config put text."""
    free = {"examples", "assumptions", "text", "label", "metric", "dropped"}
    if isinstance(value, dict):
        return {k: (_spoil(v) if k in free else _poison(v)) for k, v in value.items()}
    return [_poison(v) for v in value] if isinstance(value, list) else value


def _spoil(value):
    if isinstance(value, dict):
        return {f"{k}{HOSTILE}" if not isinstance(v, str) else k: _spoil(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_spoil(v) for v in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_text_stays_text(report):
    bad = _poison(report)
    bad["run"] = {**bad["run"], "name": HOSTILE, "key_id": HOSTILE}
    bad["stages"] = [{**bad["stages"][0], "name": HOSTILE, "digest": HOSTILE}]
    html = render_html(bad)
    page = Page(html)
    _assert_harmless(page)
    assert "<script" not in html.lower()
    assert page.text.count("{{ 7 * 7 }}") >= 5
    assert "alert(1)</script>" in page.text  # it is there, as text


def test_hostile_names_in_plots_stay_text(report):
    short = "<script>x</script>\"'&"
    bad = {**report, "verdicts": [{**v, "suspect": short} for v in report["verdicts"]]}
    page = Page(render_html(bad))
    _assert_harmless(page)


def test_dollars_in_a_name_are_no_mathematics(report):
    bad = {**report, "verdicts": [{**v, "suspect": "costs $\\bad{$ 5"} for v in report["verdicts"]]}
    assert "costs $" in render_html(bad)


@pytest.mark.parametrize(
    ("log10_p", "shown"), [(0.0, "1.0000"), (-0.5, "0.3163"), (-3.0, "10^-3.0"), (-312.26, "10^-312.2")]
)
def test_p_values_as_people_read_them(log10_p, shown):
    assert power(log10_p) == shown


@given(st.floats(-400, 0))
def test_what_people_read_is_never_below_p(log10_p):
    shown = power(log10_p)
    stated = float(shown.removeprefix("10^")) if shown.startswith("10^") else math.log10(float(shown))
    assert stated >= log10_p - 1e-12
    assert stated <= log10_p + 0.11
