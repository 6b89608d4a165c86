"""The audit's report: one self-contained HTML page without scripts, from ``report.json`` alone.

The same content gives the same bytes. Every string that reaches the page goes through :func:`verification.visible`
and the template engine's escaping: a model that writes HTML, reverses the line or writes a megabyte changes nothing
but the few lines that quote it. Every rounded number is rounded against the claim.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import MissingAssetError, UsageError
from countermark.manifest import digest
from countermark.version import FORMAT_VERSION, __version__
from verification.audit_plots import plain_alpha
from verification.audit_view import view
from verification.plan import FOLDER
from verification.report import MAX_EXAMPLE_CHARACTERS, UNITS, power
from verification.verdict import rounded
from verification.visible import pieces, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment, StrictUndefined, Template
    from markupsafe import Markup

    Row = Mapping[str, Any]

MAX_EXAMPLES = 24
MAX_FIELD_CHARACTERS = 600
"""No string of the content is shown at greater length, whoever wrote it."""
_CARRIERS_SHOWN = 3
_CARRIER_CHARACTERS = 160
_SILENT_PLAN: dict[str, Any] = {"sequential": None, "canaries": [], "budget": None, "timing": None, "signer": ""}
_SILENT_VERDICT: dict[str, Any] = {"sequential": None, "exploratory": [], "drift": None}
"""What a plan or verdict leaves out where it says nothing."""
_THOUSANDTH = Decimal("0.001")


def audit_content(
    plan: Row,
    verdicts: Sequence[Row],
    *,
    spent: Row,
    examples: Sequence[Row],
    error_rates: Sequence[Row],
    bundle: Row,
    power: Row | None = None,
    standing: str | None = None,
    arms: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """The content of ``report.json``: plain JSON, floats to 12 digits, quotations cut to their bounded length.

    Args:
        plan: the sealed plan as JSON; its digest stands in the report.
        verdicts: of every claim and control, as JSON, in the plan's order.
        spent: ``queries``, ``tokens`` and, where it was measured, ``seconds``.
        examples: ``suspect``, ``arm``, ``prompt``, ``raw``, ``parsed`` of some answers; at most 24 are kept.
        error_rates: ``name``, ``value``, ``low``, ``high``, ``trials`` of each study of this kind of test.
        bundle: ``digest`` and ``signer``.
        power: ``power``, ``alpha``, ``chance``, ``strengths`` and ``methods`` (``name``, and ``needed`` triggers at
            each strength, null where none suffice).
        standing: what the key ring or ledger says of the key, in words.
        arms: for each claim, how many probes each arm has.

    Raises:
        UsageError: there is no verdict that is no control: a report of nothing would read like an acquittal.
    """
    if not any(not verdict["control"] for verdict in verdicts):
        raise UsageError(
            f"got {len(verdicts)} verdicts and no claim among them, expected at least one", hint="audit a claim first"
        )
    content = {
        "format": FORMAT_VERSION,
        "kind": "audit_report",
        "version": __version__,
        "plan_digest": digest(plan),
        "plan": {**_SILENT_PLAN, **plan, "claims": [_claim(c) for c in plan["claims"]]},
        "verdicts": [{**_SILENT_VERDICT, **v} for v in verdicts],
        "spent": dict(spent),
        "examples": [_example(e) for e in examples[:MAX_EXAMPLES]],
        "error_rates": list(error_rates),
        "power": power,
        "bundle": dict(bundle),
        "standing": standing,
        "arms": arms,
    }
    return rounded(content)  # type: ignore[no-any-return]


def render_audit(content: Row) -> str:
    """The page for ``content`` (of :func:`audit_content`, or read back from ``report.json``).

    Raises:
        MissingAssetError: the report extra is not installed.
    """
    try:
        page = _template()
    except ImportError as error:
        raise MissingAssetError(
            f"got no package {error.name!r}, expected the report extra", hint="pip install 'countermark[report]'"
        ) from None
    return page.render(c=content, units=UNITS, **view(content))


def _template() -> Template:
    from jinja2 import StrictUndefined

    environment = _environment(StrictUndefined)
    return environment.get_template("audit.html.j2")


@lru_cache(maxsize=1)
def _environment(undefined: type[StrictUndefined]) -> Environment:
    """Built once: reading the template takes longer than filling it."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=undefined,
        finalize=_finalized, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        power=power, weight=weight, up=rounded_above, down=rounded_below, rate=rate, alpha=plain_alpha, count=_count,
        quoted=_quoted,
    )  # fmt: skip
    return environment


def weight(log10_e: float) -> str:
    """An e-value as a person reads it, rounded down: ``10^13.2``."""
    return f"10^{math.floor(log10_e * 10) / 10:.1f}"


def rounded_above(value: float) -> str:
    """A share to three decimals, never below what it is."""
    return f"{_exact(value).quantize(_THOUSANDTH, rounding=ROUND_CEILING):f}"


def rounded_below(value: float) -> str:
    """A share to three decimals, never above what it is."""
    return f"{_exact(value).quantize(_THOUSANDTH, rounding=ROUND_FLOOR):f}"


def rate(value: float, *, up: bool = True) -> str:
    """An error rate to three figures, rounded up (or down): ``0.0371``, ``0.000037``."""
    exact = _exact(value)
    step = Decimal((0, (1,), exact.adjusted() - 2))
    shown = f"{exact.quantize(step, rounding=ROUND_CEILING if up else ROUND_FLOOR):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _count(value: int) -> str:
    return f"{value:,}"


def _claim(claim: Row) -> dict[str, Any]:
    """What a person wants to know of a planned claim; its whole mark stands in ``plan.json``."""
    mark = claim["mark"]
    return {
        **{name: claim[name] for name in ("claim", "statistic", "parser", "decoding", "probes")},
        "suspects": [{"kind": FOLDER, "address": "", **suspect} for suspect in claim["suspects"]],
        "answers": list(claim["answers"]),
        "carriers": len(claim["carriers"]),
        "carriers_shown": [text[:_CARRIER_CHARACTERS] for text in claim["carriers"][:_CARRIERS_SHOWN]],
        "recipients": len(mark.get("recipients") or ()),
        "first": mark.get("first"),
        "count": mark.get("count"),
    }


def _example(example: Row) -> dict[str, Any]:
    kept: dict[str, Any] = {name: example[name] for name in ("suspect", "arm")}
    for name in ("prompt", "raw"):
        text = _storable(example[name])
        kept[name], kept[f"{name}_characters"] = text[:MAX_EXAMPLE_CHARACTERS], len(text)
    parsed = example["parsed"]
    kept["parsed"] = None if parsed is None else _storable(parsed)[:MAX_EXAMPLE_CHARACTERS]
    return kept


def _storable(text: str) -> str:
    """A lone surrogate is no UTF-8, so it cannot stand in a JSON file."""
    return text.encode("utf-8", "replace").decode()


def _finalized(value: Any) -> Any:  # noqa: ANN401 - whatever a template prints
    """Every string that the template prints, made visible and given an end; markup of our own passes."""
    return visible(value, MAX_FIELD_CHARACTERS) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _quoted(text: str, characters: int | None = None) -> Markup:
    """What a model wrote, its hidden characters as framed code points, cut at the bounded length."""
    from markupsafe import Markup, escape

    shown = Markup()
    for kind, part in pieces(text, MAX_EXAMPLE_CHARACTERS):
        if kind != "cut":
            shown += escape(part) if kind == "plain" else Markup('<span class="codepoint">{}</span>').format(part)
    more = (characters or len(text)) - min(len(text), MAX_EXAMPLE_CHARACTERS)
    if more > 0:
        shown += Markup(' <span class="cut">… {} more characters</span>').format(f"{more:,}")
    return shown
