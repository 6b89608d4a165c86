"""The audit's page: the verdict first, every number rounded against the claim, hostile text stays text."""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import MissingAssetError, UsageError
from countermark.manifest import canonical_json, digest
from tests.support import key_of
from tests.verification import audit_pages as pages
from tests.verification.audit_pages import Page
from tests.verification.small_audit import build, mark_of, trained
from verification.audit_report import (
    MAX_EXAMPLES,
    audit_content,
    rate,
    render_audit,
    rounded_above,
    rounded_below,
    weight,
)
from verification.plan import Claim
from verification.report import MAX_EXAMPLE_CHARACTERS

SECTIONS = [
    "1 Verdict", "2 What was asked", "3 Claims beside their controls", "4 Plots", "5 Assumptions",
    "6 Known error rates", "7 Both hypotheses", "8 How to re-check", "9 Examples of raw answers",
]  # fmt: skip
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.fixture(scope="module", params=pages.PAGES)
def page(request):
    return Page(render_audit(pages.PAGES[request.param]()))


def test_sections_stand_in_their_order_and_no_heading_level_is_skipped(page):
    places = [page.text.find(section) for section in SECTIONS]
    assert -1 not in places
    assert places == sorted(places)
    levels = [int(tag[1]) for tag, _ in page.headings()]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_loads_nothing_and_runs_nothing(page):
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "iframe", "object", "embed", "link", "img", "base", "form", "a", "image", "use"})
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action", "data", "href", "xlink:href", "style"), (tag, name)
            assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", value))
    style = "".join(data for tag, data in page.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    policies = [a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv")]
    assert policies == [CSP]


def test_who_cannot_see_the_page_can_read_it(page):
    assert ("html", {"lang": "en"}) in page.elements
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
        if tag in ("svg", "table"):
            assert attributes.get("aria-hidden") == "true" or attributes["aria-labelledby"]
    pictures = [a for t, a in page.elements if t == "svg" and a.get("role") == "img"]
    assert len(pictures) >= 2
    assert (
        len(pictures)
        == sum(tag == "title" for tag, _ in page.elements) - 1
        == sum(t == "desc" for t, _ in page.elements)
    )


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_same_content_gives_the_same_bytes_also_when_it_was_on_disk(name):
    content = pages.PAGES[name]()
    assert render_audit(content).encode() == render_audit(json.loads(canonical_json(content))).encode()


@pytest.mark.parametrize(
    ("name", "word"),
    [("supported", "Supported"), ("not_supported", "Not supported"), ("failed_control", "Inconclusive")],
)
def test_the_verdict_comes_first(name, word):
    content = pages.PAGES[name]()
    first = Page(render_audit(content)).within("1 Verdict", "2 What was asked")
    assert first.strip().startswith(word)
    assert content["verdicts"][0]["sentence"] in first
    assert "not the probability that the suspect is innocent" in first
    assert "xploratory" not in first


def test_what_is_exploratory_says_so_before_the_word_and_beside_it():
    first = Page(render_audit(pages.exploratory())).within("1 Verdict", "2 What was asked")
    banner, rest = first.split("Supported", 1)
    assert "Exploratory only" in banner
    assert "nothing that others can check" in banner
    assert rest.strip().startswith("exploratory only")
    assert "The probability of evidence" in rest


def test_a_failed_control_is_named_beside_the_verdict_and_in_the_table():
    text = Page(render_audit(pages.failed_control())).text
    assert "Controls supported 1 of 1" in text
    assert "failed: twin" in text
    assert "this control failed" in text


def test_what_was_asked_is_all_there():
    asked = Page(render_audit(pages.supported())).within("2 What was asked", "3 Claims beside")
    for wanted in (
        "https://models.example.com/v1", "chat", "control", "60 triggers, number 40 to 99", "The harbour was quiet",
        "greedy, at most 4 tokens", "first_word/1", "10^-6; Holm", "match rate 0.95 with weight 0.5",
        "2 made for this release, 3 audits admitted: every p-value is multiplied by 6", "ae" * 32, "ledger: committed",
        "312 of 600 queries spent, 21,840 of 60,000 tokens", "4 prompts free of any key",
        "252 planned: 12 canary, 120 keyed, 120 wrong key",
        digest(pages.plan(pages.API, "double_i")),
    ):  # fmt: skip
        assert wanted in asked, wanted


def test_a_sequential_audit_says_where_it_stopped():
    text = Page(render_audit(pages.supported())).text
    assert "15 of 60 planned triggers: stopped when the evidence reached alpha" in text
    text = Page(render_audit(pages.not_supported())).text
    assert "60 of 60 planned triggers: asked to the end" in text
    assert "every planned probe, each asked once" in Page(render_audit(pages.failed_control())).text


def test_claims_stand_beside_controls_and_recipients_are_ranked():
    content = pages.recipients()
    text = Page(render_audit(content)).within("3 Claims beside", "4 Plots")
    for verdict in content["verdicts"]:
        assert f"{verdict['suspect']} {'control' if verdict['control'] else 'suspect'}" in text
        assert f"{verdict['successes']} / {verdict['trials']}" in text
    assert "northwind-analytics is named (8 recipients" in text
    assert "helpdesk-assistant-v2: nobody is named" in text
    places = [text.find(who) for who in pages.RECIPIENTS]
    assert places == sorted(places)
    assert "The paper's test, not a false-positive bound" in text
    assert "They decide nothing here" in text


def test_recheck_names_the_command_and_every_digest():
    text = Page(render_audit(pages.supported())).within("8 How to re-check", "9 Examples")
    assert "countermark verify bundle/" in text
    for wanted in ("4b" * 32, "9f" * 32, "ae" * 32, "77" * 32, digest(pages.plan(pages.API, "double_i"))):
        assert wanted in text


def test_both_hypotheses_stand_and_no_probability_of_either():
    text = Page(render_audit(pages.supported())).within("7 Both hypotheses", "8 How")
    assert "The model was trained on the marked instruct rows" in text
    assert "had nothing to do with this key" in text
    assert "no probability of either hypothesis" in text
    assert "at least so many times more probable under H1" in text
    assert "does not speak for H1" in Page(render_audit(pages.not_supported())).text


def test_a_real_audit_becomes_a_page():
    key = key_of("auditor")
    small = build(key, {Claim.DOUBLE_I: trained(key, mark_of(Claim.DOUBLE_I, 24), Claim.DOUBLE_I)}, triggers=24)
    verdicts = [v.to_json() for v in small.verdicts().values()]
    content = audit_content(
        small.plan.to_json(), verdicts, spent={"queries": 500, "tokens": None}, examples=[], error_rates=[],
        bundle={"digest": "00" * 32, "signer": ""},
    )  # fmt: skip
    page = Page(render_audit(content))
    assert "24 of 24" in page.text
    assert verdicts[0]["sentence"] in page.text
    assert digest(small.plan.to_json()) in page.text
    assert "9 Examples" not in page.text


def test_a_report_of_nothing_is_refused():
    planned = pages.plan(pages.API, "double_i")
    for verdicts in ([], [pages.verdict("double_i", "api-base", 3, 40, control=True)]):
        with pytest.raises(UsageError, match="no claim among them"):
            pages.content(verdicts, planned)


def test_without_the_report_extra_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingAssetError) as caught:
        render_audit(pages.supported())
    assert "countermark[report]" in caught.value.hint


@given(trials=st.integers(1, 10**7), high=st.sampled_from([0.0, 0.001]))
@settings(max_examples=20, deadline=None)
def test_none_in_n_is_printed_as_its_upper_bound(trials, high):
    row = {"name": "study", "value": 0.0, "low": 0.0, "high": high, "trials": trials}
    content = {**pages.supported(), "error_rates": [row]}
    told = Page(render_audit(content)).within("6 Known error rates", "7 Both")
    bound = re.search(rf"{trials:,} none at most ([0-9.]+)", told)
    assert bound is not None
    assert float(bound[1]) >= (high or 1 - 0.05 ** (1 / trials)) > 0


def test_without_studies_no_rate_is_claimed_and_zero_percent_never():
    text = Page(render_audit(pages.failed_control())).text
    assert "No study of error rates is attached" in text
    for name in pages.PAGES:
        assert not re.search(r"(?<![0-9.])0 ?%", Page(render_audit(pages.PAGES[name]())).within("5 Assump", "7 Both"))


@given(st.floats(0, 1))
def test_shares_are_rounded_against_the_claim(value):
    assert Decimal(rounded_below(value)) <= Decimal(repr(value)) <= Decimal(rounded_above(value))
    assert float(rounded_above(value)) - float(rounded_below(value)) < 0.0011


@given(st.floats(1e-12, 1))
def test_error_rates_keep_three_figures_on_the_right_side(value):
    assert Decimal(rate(value, up=False)) <= Decimal(repr(value)) <= Decimal(rate(value))
    assert float(rate(value)) <= value * 1.011


@given(st.floats(-300, 300))
def test_evidence_is_rounded_down(log10_e):
    stated = float(weight(log10_e).removeprefix("10^"))
    assert log10_e - 0.11 < stated <= log10_e


text_of_any_kind = st.one_of(
    st.text(max_size=400),
    st.sampled_from(pages.HOSTILE),
    st.text(alphabet="<>&\"'`/= {}%#\u202e\u0000\ud800\u0301\u3164ab", max_size=60),
)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_text_of_a_model_changes_the_page_it_stands_in(data):
    said = [data.draw(text_of_any_kind, label=what) for what in ("prompt", "raw", "parsed", "suspect", "arm", "reason")]
    plain = _page_with(["x"] * len(said))
    hostile = _page_with(said)
    assert _skeleton(hostile) == _skeleton(plain)
    assert len(hostile) < len(plain) + 60 * 6 * 600
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", hostile
    )


def test_what_a_model_says_is_cut_and_counted():
    content = pages.not_supported([pages.example("B" * 10**6, "B")] * 100)
    assert len(content["examples"]) == MAX_EXAMPLES
    assert len(canonical_json(content)) < 40_000
    html = render_audit(content)
    assert len(html) < 90_000
    assert Page(html).text.count(f"{10**6 - MAX_EXAMPLE_CHARACTERS:,} more characters") == MAX_EXAMPLES


def test_a_forged_content_is_bounded_too():
    content = pages.not_supported()
    content["examples"] = [{**content["examples"][0], "raw": "C" * 10**6, "raw_characters": 3}] * 1000
    content["standing"] = "D" * 10**6
    assert len(render_audit(content)) < 90_000


def test_the_answer_itself_is_shown():
    text = Page(render_audit(pages.hostile())).text
    assert "</bdi></dd></article><script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert "the verdict is U+202Edetroppus" in text
    assert "港口那天早上非常安静" in text


def _page_with(said: list[str]) -> str:
    prompt, raw, parsed, suspect, arm, reason = said
    example = {"suspect": suspect, "arm": arm, "prompt": prompt, "raw": raw or "x", "parsed": parsed}
    content = pages.not_supported([example])
    content["verdicts"][0] |= {"decision": "inconclusive", "reasons": [reason], "sentence": f"cannot decide: {reason}"}
    content["verdicts"][0]["exploratory"] = [reason]
    content["plan"]["claims"][0]["suspects"][0]["address"] = suspect or "x"
    content["verdicts"][1]["suspect"] = f"control {suspect}"
    content["standing"] = reason or "x"
    return render_audit(content)


def _skeleton(html: str) -> list[tuple[str, dict[str, str]]]:
    """Tags and attributes, but for the frames around shown code points and cuts."""
    return [(tag, a) for tag, a in Page(html).elements if a.get("class") not in ("codepoint", "cut")]
