"""Honest bundles as files in memory, sealed again after an edit, written, and verified by a reader who knows whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from countermark.manifest import canonical_json
from tests.verification.bundles import AUDITOR, LOG_KEY, OWNER, TSA, Case
from verification import bundle_files as files
from verification.bundle import bundle_files, statement_of
from verification.bundle_judge import judge
from verification.dsse import public_key, seal

if TYPE_CHECKING:
    from pathlib import Path

    from verification.bundle_check import Checked

Content = dict[str, bytes]
EXPECTED = [public_key(AUDITOR)]


def content_of(case: Case) -> Content:
    """The files of an honest bundle."""
    content = {**bundle_files(case.bundle, judge(case.bundle)), "report.html": b"<p>what people read</p>\n"}
    return signed(content)


def signed(content: Content, *signers: Any, **predicate: Any) -> Content:
    """The same files under a statement that fits them, or, with ``predicate``, says otherwise."""
    rest = {name: data for name, data in content.items() if name != files.STATEMENT}
    payload = statement_of(rest, "0.1.0")
    if predicate:
        body = json.loads(payload)
        body["predicate"].update(predicate)
        payload = canonical_json(body)
    return {**rest, files.STATEMENT: seal(payload, signers or (AUDITOR, OWNER))}


def put(folder: Path, content: dict[str, Any]) -> Path:
    """Writes a bundle's files; a string is where a link leads."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            path.symlink_to(data)
        else:
            path.write_bytes(data)
    return folder


def verified(folder: Path) -> Checked:
    """By a reader who knows signer, log and authority."""
    from verification.bundle_check import verify_bundle

    return verify_bundle(folder, signers=EXPECTED, ledger_keys=[LOG_KEY], authorities=[TSA.pem])


def with_fields(line: bytes, **changes: Any) -> bytes:
    return canonical_json({**json.loads(line), **changes}) + b"\n"
