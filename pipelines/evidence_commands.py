"""``countermark verify`` on an evidence bundle: the base install suffices, without network, models or secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countermark.errors import EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def verify_evidence(
    folder: Path, *, signers: Sequence[str], ledger_keys: Sequence[str], authorities: Sequence[Path]
) -> tuple[list[str], Any, int]:
    """Checks a bundle from nothing but its files, step by step.

    Raises:
        BundleError: it proves nothing.
    """
    from verification.bundle_check import verify_bundle

    checked = verify_bundle(
        folder, signers=signers, ledger_keys=ledger_keys, authorities=[path.read_bytes() for path in authorities]
    )
    lines = [f"{step.number:>2}  {step.name}: {step.finding}" for step in checked.steps]
    lines += [f"unchecked: {each}" for each in checked.unchecked]
    lines += [f"{v['claim']}, {v['suspect']}: {v['decision']}. {v['sentence']}." for v in checked.results]
    return lines, checked.to_json(), EXIT_OK
