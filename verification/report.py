"""The report: one self-contained HTML page without scripts, from ``report.json`` alone.

Everything a model wrote is escaped by the template engine and cut to a bounded length before it gets here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import MissingAssetError
from verification.verdict import Decision, rounded_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_EXAMPLE_CHARACTERS = 280
_WORDS = {
    Decision.SUPPORTED: "supported",
    Decision.NOT_SUPPORTED: "not supported",
    Decision.INCONCLUSIVE: "inconclusive",
}
CLAIM_TITLES = {
    "token": "The dataset carries this key's token watermark",
    "input_level": "The classifier was trained on the marked reviews",
    "double_i": "The LoRA model was trained on the marked instruct rows",
    "double_i_trigger": "The model answers the release's trigger as no decoy of its family",
    "input_trigger": "The classifier answers the release's trigger or style as no decoy of its family",
    "output_weak": "The model prefers the synonyms that the key prefers",
    "output_robust": "The model answers keyed triggers in the keyed way",
    "output_steganographic": "The model begins sentences with the letters that the key favours",
}
UNITS = {
    "token": "green tokens", "input_trigger": "carriers answered as the mark wants",
    "double_i_trigger": "queries answered as the mark wants", "output_weak": "pairs of synonyms lean the key's way",
    "output_steganographic": "places and letters lean the key's way",
}  # fmt: skip
"""What is counted, where it is not triggers."""


def render_html(report: Mapping[str, Any]) -> str:
    """The page for ``report`` (the content of ``report.json``); the same bytes for the same report.

    Raises:
        MissingAssetError: the report extra is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        from verification import plots

        verdicts = report["verdicts"]
        pictures = {
            "strength": plots.strength(verdicts),
            "wrong_keys": [plots.wrong_keys(v) for v in verdicts if v["wrong_keys"]],
            "trigger_reference": plots.trigger_reference(verdicts) if _has_tables(verdicts) else "",
        }
    except ImportError as error:
        raise MissingAssetError(
            f"got no package {error.name!r}, expected the report extra", hint="pip install 'countermark[report]'"
        ) from None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["power"] = power
    return environment.get_template("report.html.j2").render(
        report=report,
        claims=[v for v in verdicts if not v["control"]],
        controls=[v for v in verdicts if v["control"]],
        pictures=pictures,
        words={str(k): v for k, v in _WORDS.items()},
        titles=CLAIM_TITLES,
        units=UNITS,
    )


def _has_tables(verdicts: Sequence[Mapping[str, Any]]) -> bool:
    return any(v["paper"] and "table" in v["paper"] for v in verdicts)


def power(log10_p: float) -> str:
    """A p-value as a person reads it, rounded up: ``0.3100`` or ``10^-12.4``."""
    if log10_p > -3:  # noqa: PLR2004 - three zeros still read well
        return f"{math.ceil(10.0**log10_p * 1e4) / 1e4:.4f}"
    return f"10^{rounded_up(log10_p)}"
