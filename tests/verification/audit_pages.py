"""Contents of audit reports that look like real ones, the same numbers every time, and a strict reader of pages."""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

from scipy import stats

from verification.audit_report import audit_content
from verification.plan import FIXED_N, SEQUENTIAL_STOPPING
from verification.statistics import clopper_pearson, holm, log10_binomial_tail, log10_e_value, log10_fisher, rank_p
from verification.verdict import rounded_up

VOID = {"meta", "br", "hr", "img", "link", "input"}
INLINE = {"span", "code", "em", "strong", "sub", "bdi", "q"}
ALPHA = 1e-6
CHANCE = 0.25
PLANNED = 60
PRIOR = [[0.4, 0.25], [0.7, 0.25], [0.95, 0.5]]
CLASSES = ["A", "B", "C", "D"]
RECIPIENTS = (
    "northwind-analytics", "blue-harbour", "cedar-and-sons", "delta-labs",
    "example-university-department-of-linguistics", "fjord", "gamma-press", "helios",
)  # fmt: skip
ERROR_RATES = [
    {"name": "e-process, a look after every answer, alpha 0.05", "value": 0.0371, "low": 0.0359, "high": 0.0383,
     "trials": 100_000},
    {"name": "keyed binomial at n = 40, alpha 10^-6", "value": 0.0, "low": 0.0, "high": 3.7e-5, "trials": 100_000},
]  # fmt: skip
POWER = {
    "power": 0.95, "alpha": ALPHA, "chance": CHANCE, "strengths": [0.4, 0.6, 0.8, 0.95],
    "methods": [
        {"name": "e-process", "needed": [310, 66, 32, 21]},
        {"name": "keyed binomial", "needed": [270, 57, 27, 17]},
        {"name": "Fisher exact", "needed": [None, 190, 84, 52]},
    ],
}  # fmt: skip
PLAIN = "C."
HOSTILE = (
    "</bdi></dd></article><script>alert(1)</script><img src=x onerror=alert(2)>\"' style='display:none' {{ 7 * 7 }}",
    "the verdict is \u202edetroppus ton\u202c \u2066and\u2069 \u200bhides\ufeff \x00\x07\x1b[31mred \U000e0041 \u3164",
    "A" * 100_000,
    "Z" + "\u0300\u0301\u0302\u0303\u0304\u0305" * 40,
    "港口那天早上非常安静。" * 60,
    "الجواب هو ب لأن السؤال غير واضح تماما",
    "line\r\nafter\n\n\n\u2028line",
)


def verdict(
    claim: str,
    suspect: str,
    hits: int,
    trials: int,
    *,
    control: bool = False,
    path: list[float] | None = None,
    decision: str = "",
    family: int = 1,
    **more: Any,
) -> dict[str, Any]:
    """A verdict's JSON with numbers that belong together."""
    log10_p, log10_e = log10_binomial_tail(hits, trials, CHANCE), log10_e_value(hits, trials, CHANCE)
    sequential = None
    if path is not None:
        log10_p, log10_e = min(0.0, -max(0.0, *path)), path[-1]
        stopped = "alpha" if log10_p <= math.log10(ALPHA) else "exhausted"
        sequential = {
            "looks": trials, "log10_e_path": path, "triggers": trials, "planned": PLANNED, "stopped": stopped,
            "log10_p_anytime": log10_p,
        }  # fmt: skip
    adjusted = min(0.0, log10_p + math.log10(family))
    decision = decision or ("supported" if adjusted <= math.log10(ALPHA) else "not_supported")
    body = {
        "claim": claim, "suspect": suspect, "control": control, "decision": decision, "method": "keyed binomial",
        "alpha": ALPHA, "queries": 3 * trials, "log10_p": log10_p, "log10_p_holm": adjusted, "successes": hits,
        "trials": trials, "chance": CHANCE, "effect": asdict(clopper_pearson(hits, trials)), "log10_e": log10_e,
        "log10_floor": None, "wrong_keys": None, "recipients": None, "paper": None, "reasons": [],
        "assumptions": ["assumes that the suspect's maker did not learn the targets from us"], "sequential": sequential,
        "exploratory": [], "drift": None, "p_value": 10.0**log10_p,
    } | more  # fmt: skip
    said = f"Exploratory only: {'; '.join(body['exploratory'])}. " if body["exploratory"] else ""
    if decision == "inconclusive":
        said += "The evidence cannot decide: " + "; ".join(body["reasons"])
    else:
        said += (
            f"The probability of evidence at least this strong, if {suspect} had nothing to do with this key's {claim} "
            f"mark, is at most 10^{rounded_up(log10_p)}"
        )
    return {"sentence": said, **body}


def course(matches: str) -> tuple[int, int, list[float]]:
    """Hits, trials and the path of log10 E of a row of matches (``x``) and misses."""
    path = [log10_e_value(matches[:i].count("x"), i, CHANCE) for i in range(1, len(matches) + 1)]
    return matches.count("x"), len(matches), path


def wrong_keys(hits: int, trials: int) -> dict[str, Any]:
    others = [int(stats.binom.ppf((i + 0.5) / 199, trials, CHANCE)) for i in range(199)]
    return {"statistic": hits, "others": others, "count": len(others), "rank_p": rank_p(hits, others)}


def paper(table: list[list[int]]) -> dict[str, Any]:
    label = "the paper's test, not a false-positive bound"
    return {"label": label, "form": "cre1", "table": table, "fisher_log10_p": log10_fisher(table)}


def plan(suspects: list[tuple[str, bool, str, str]], *claims: str, sequential: bool = True, **more: Any) -> dict:
    """A plan's JSON over the same suspects for every claim."""
    named = [dict(zip(("name", "control", "kind", "address"), s, strict=True), digest="cd" * 32) for s in suspects]
    listed = [
        {
            "claim": claim, "statistic": "keyed binomial", "mark": {"scope": "s", "first": 40, "count": PLANNED},
            "suspects": named, "answers": CLASSES, "extra_answers": ["Yes", "No"], "carrier_labels": [],
            "carriers": ["The harbour was quiet that", "She wrote to the council"], "parser": "first_word/1",
            "decoding": "greedy, at most 4 tokens", "probes": "77" * 32,
        }
        for claim in claims
    ]  # fmt: skip
    body = {
        "format": 1, "alpha": ALPHA, "commitments_made": 2, "audits_admitted": 3, "wrong_keys": 199,
        "commitment": {"sha256": "ae" * 32, "config_digest": "1b" * 32, "public_value": None},
        "wrong_key_seed": "5e" * 32, "claims": listed, "correction": "Holm over the claims",
        "stopping": SEQUENTIAL_STOPPING if sequential else FIXED_N,
    }  # fmt: skip
    if sequential:
        body["sequential"] = {"prior": PRIOR, "look": 1}
        body["budget"] = {"queries": 600, "tokens": 60_000}
        body["canaries"] = ["What is the capital of France?"] * 4
        body["timing"] = {
            "evidence": "ledger", "commitment_time": "2025-03-01T09:12:44Z", "suspect_released": "2025-06-11",
        }  # fmt: skip
    return {**body, **more}


def content(verdicts: list[dict], planned: dict, **more: Any) -> dict[str, Any]:
    """The report's content, with examples, error rates and power unless told otherwise."""
    body: dict[str, Any] = {
        "spent": {"queries": 312, "tokens": 21_840, "seconds": 402.5},
        "examples": [example(PLAIN, "C"), example("I am not sure what you mean.", None, arm="wrong_key")],
        "error_rates": ERROR_RATES, "power": POWER, "bundle": {"digest": "4b" * 32, "signer": "9f" * 32},
        "standing": "active since 2025-02-11",
    } | more  # fmt: skip
    return audit_content(planned, verdicts, **body)


def example(raw: str, parsed: str | None, *, arm: str = "keyed", prompt: str = "(ledger) copper violin?") -> dict:
    return {"suspect": "api", "arm": arm, "prompt": prompt, "raw": raw, "parsed": parsed}


API = [
    ("api", False, "chat", "https://models.example.com/v1"),
    ("api-base", True, "chat", "https://models.example.com/base/v1"),
]
DRIFT = {
    "word": "unchanged", "method": "equal word for word, greedy decoding", "compared": 4, "differ": 0, "log10_p": None
}  # fmt: skip


def supported(**more: Any) -> dict[str, Any]:
    """One endpoint, supported by the e-process."""
    hits, trials, path = course("xxx-xxxxxxxxxxx")
    verdicts = [
        verdict("double_i", "api", hits, trials, path=path, wrong_keys=wrong_keys(hits, trials), drift=DRIFT,
                paper=paper([[15, 1], [3, 13]]), **more),
        verdict("double_i", "api-base", 17, PLANNED, control=True, paper=paper([[4, 12], [3, 13]]), drift=DRIFT),
        verdict("double_i", "api/wrong_key", 5, trials, control=True),
    ]  # fmt: skip
    return content(verdicts, plan(API, "double_i"), arms={"double_i": {"keyed": 120, "wrong_key": 120, "canary": 12}})


def exploratory() -> dict[str, Any]:
    """The same, of which nobody can show when the commitment was made."""
    return supported(exploratory=["nothing that others can check shows when the commitment was made"])


def not_supported(examples: list[dict] | None = None) -> dict[str, Any]:
    """One endpoint asked to the end, for nothing."""
    hits, trials, path = course("--x-x---x--" * 5 + "--x-x")
    verdicts = [
        verdict("double_i", "api", hits, trials, path=path, wrong_keys=wrong_keys(hits, trials)),
        verdict("double_i", "api-base", 14, PLANNED, control=True),
    ]
    more = {} if examples is None else {"examples": examples}
    return content(verdicts, plan(API, "double_i"), **more)


def failed_control() -> dict[str, Any]:
    """At fixed n; a control is supported too."""
    names = [("shop", False, "classifier_http", "https://reviews.example.com/classify"), ("twin", True, "folder", "")]
    verdicts = [
        verdict("input_level", "shop", 39, 40, decision="inconclusive", reasons=["control twin was supported too"],
                wrong_keys=wrong_keys(39, 40),
                paper={"label": "the paper's test", "wsr": 0.931, "wsr_low": 0.805, "wsr_high": 0.985,
                       "wsr_queries": 320}),
        verdict("input_level", "twin", 38, 40, control=True),
    ]  # fmt: skip
    return content(verdicts, plan(names, "input_level", sequential=False), error_rates=[], power=None, standing=None)


def recipients() -> dict[str, Any]:
    """Two suspects with long names, eight recipients, two claims."""
    hits = (38, 14, 12, 11, 10, 9, 8, 6)
    raw = [min(0.0, log10_binomial_tail(h, 40, CHANCE)) for h in hits]
    ranked = [
        {"recipient": who, "matches": h, "trials": 40, "log10_p": p, "log10_p_holm": q}
        for who, h, p, q in zip(RECIPIENTS, hits, raw, holm(raw), strict=True)
    ]
    named = {"word": "one", "named": [RECIPIENTS[0]], "recipients": 8, "ranked": ranked}
    nobody = {**named, "word": "none", "named": [], "ranked": ranked[1:]}
    long = "https://a-rather-long-host-name.inference.example.com:8443/v1/deployments/production/storefront-bot-2025"
    names = [
        ("storefront-bot", False, "completions", long), ("helpdesk-assistant-v2", False, "chat", "https://x.example"),
        ("base", True, "folder", ""),
    ]  # fmt: skip
    verdicts = []
    for who, h, naming in (("storefront-bot", 38, named), ("helpdesk-assistant-v2", 14, nobody)):
        verdicts.append(
            verdict("double_i", who, h, 40, recipients=naming, wrong_keys=wrong_keys(h, 40), family=3,
                    paper=paper([[h // 3, 16 - h // 3], [2, 14]]))
        )  # fmt: skip
        verdicts.append(verdict("double_i", f"{who}/wrong_key", 11, 40, control=True))
    verdicts.append(verdict("double_i", "base", 9, 40, control=True))
    verdicts.append(verdict("output_robust", "storefront-bot", 31, 32, family=3, wrong_keys=wrong_keys(31, 32)))
    verdicts.append(verdict("output_robust", "base", 8, 32, control=True))
    return content(verdicts, plan(names, "double_i", "output_robust", sequential=False))


def hostile() -> dict[str, Any]:
    """A suspect that answers whatever might break a page."""
    return not_supported([example(raw, raw[:9], prompt=raw[::-1]) for raw in HOSTILE])


PAGES = {
    "supported": supported, "exploratory": exploratory, "not_supported": not_supported,
    "failed_control": failed_control, "recipients": recipients, "hostile": hostile,
}  # fmt: skip


class Page(HTMLParser):
    """Every element, attribute and text of a page; fails on a tag that is closed but was not opened last."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag not in INLINE:
            self.texts.append(("", " "))

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        return " ".join("".join(data for tag, data in self.texts if tag != "style").split())

    def within(self, start: str, stop: str) -> str:
        return self.text.split(start, 1)[1].split(stop, 1)[0]

    def headings(self) -> list[tuple[str, str]]:
        return [(tag, attrs.get("id", "")) for tag, attrs in self.elements if re.fullmatch("h[1-6]", tag)]
