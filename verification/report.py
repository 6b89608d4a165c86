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
    from collections.abc import Mapping

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
}


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
            "trigger_reference": plots.trigger_reference(verdicts),
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
    )


def power(log10_p: float) -> str:
    """A p-value as a person reads it, rounded up: ``0.3100`` or ``10^-12.4``."""
    if log10_p > -3:  # noqa: PLR2004 - three zeros still read well
        return f"{math.ceil(10.0**log10_p * 1e4) / 1e4:.4f}"
    return f"10^{rounded_up(log10_p)}"
