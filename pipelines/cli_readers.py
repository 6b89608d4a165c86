"""Commands that read: ``detect``, ``radioactivity``, ``verify``, ``runs``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from countermark.errors import UsageError
from pipelines.cli_common import (
    JsonOption,
    KeyIdOption,
    SetOption,
    finish,
    load_run_config,
)

STATEMENT = "statement.json"
"""The file that makes a folder an evidence bundle."""


def detect(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Texts: .txt (one text a file), .jsonl, .csv, .parquet.")
    ],
    config: Annotated[Path, typer.Option("--config", help="Config that names the model and the token scheme.")],
    keys: Annotated[Path, typer.Option("--keys", help="Key ring file.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file with the passphrase.")],
    key_id: Annotated[
        list[str] | None, typer.Option("--key-id", help="Key of the ring (default: its primary). Repeatable.")
    ] = None,
    all_keys: Annotated[bool, typer.Option("--all-keys", help="Tries every key of the ring.")] = False,
    scheme: Annotated[
        list[str] | None,
        typer.Option("--scheme", metavar="NAME[:P=V,...]", help="Scheme (default: the config's). Repeatable."),
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="Scope of the sub-key, such as a recipient. Repeatable.")
    ] = None,
    statistic: Annotated[str, typer.Option("--statistic", help="Statistic of the scheme (default: its first).")] = "",
    device: Annotated[str, typer.Option("--device", help="cpu, or a torch device such as cuda.")] = "cpu",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Looks for token watermarks in texts: counted inputs, statistic, exact log10 p.

    One key: per text and for the corpus. Several keys, schemes or scopes: ranked for the corpus, Holm over all.
    """
    from pipelines.detection import Search, detect_files

    overrides = [*(set_ or []), f"keys.passphrase_file={json.dumps(str(passphrase_file.absolute()))}"]
    loaded = load_run_config(config, overrides, keys, None)
    what = Search(
        key_ids=tuple(key_id or ()),
        all_keys=all_keys,
        schemes=tuple(scheme or ()),
        scopes=tuple(scope or ()),
        statistic=statistic,
        device=device,
    )
    lines, body, code = detect_files(files, loaded, what)
    finish(lines, body, as_json=as_json, code=code)


def radioactivity(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES", help="Prompts (closed) or texts to read: .txt, .jsonl, .csv, .parquet."),
    ],
    config: Annotated[Path, typer.Option("--config", help="Config that names the model and the token scheme.")],
    keys: Annotated[Path, typer.Option("--keys", help="Key ring file.")],
    passphrase_file: Annotated[Path, typer.Option("--passphrase-file", help="0600 file with the passphrase.")],
    suspect: Annotated[str, typer.Option("--suspect", help="Model folder, LoRA adapter folder or hub id.")],
    base: Annotated[str | None, typer.Option("--base", help="Base model of an adapter; it is a control too.")] = None,
    control: Annotated[
        list[str] | None, typer.Option("--control", help="A model that never saw marked text. Repeatable.")
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="closed, reading, or reading-marked (texts that carry this key's own mark).")
    ] = "closed",
    statistic: Annotated[str, typer.Option("--statistic", help="Statistic of the scheme (default: its first).")] = "",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 128,
    wrong_keys: Annotated[int, typer.Option("--wrong-keys", min=1, help="Keys to rank among.")] = 999,
    system: Annotated[str | None, typer.Option("--system", help="System prompt of every question.")] = None,
    contexts: Annotated[
        list[Path] | None, typer.Option("--contexts", help="Owner's texts: only their contexts are scored. Repeatable.")
    ] = None,
    at_least: Annotated[int, typer.Option("--contexts-at-least", min=1, help="How often a context occurs there.")] = 1,
    out: Annotated[Path, typer.Option("--out", help="Journal of answers.")] = Path("runs/radioactivity"),
    key_id: KeyIdOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Asks whether a suspect was trained on text under this key's token watermark: exact log10 p, controls beside."""
    from pipelines.radioactivity import MODES, Exposure, expose

    chosen = next((known for known in MODES if known == mode), None)
    if chosen is None:
        raise UsageError(f"got --mode {mode!r}, expected one of: {', '.join(MODES)}")
    overrides = [*(set_ or []), f"keys.passphrase_file={json.dumps(str(passphrase_file.absolute()))}"]
    what = Exposure(
        suspect=suspect, base=base, controls=tuple(control or ()), mode=chosen, statistic=statistic,
        max_new_tokens=max_new_tokens, wrong_keys=wrong_keys, journal=out, system=system,
        contexts=tuple(contexts or ()), contexts_at_least=at_least,
    )  # fmt: skip
    lines, body, code = expose(files, load_run_config(config, overrides, keys, key_id), what)
    finish(lines, body, as_json=as_json, code=code)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An evidence bundle, a run folder or an artifact.")],
    signer: Annotated[
        list[str] | None, typer.Option("--signer", help="Public key (hex) of who must have signed. Repeatable.")
    ] = None,
    ledger_key: Annotated[
        list[str] | None, typer.Option("--ledger-key", help="Verifier key of the log that you trust. Repeatable.")
    ] = None,
    authority: Annotated[
        list[Path] | None, typer.Option("--authority", help="Certificate (PEM) of a time-stamping authority.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Checks evidence from nothing but its files; or every byte of an artifact, or of a run, against its manifest."""
    if (folder / STATEMENT).exists():
        from pipelines.evidence_commands import verify_evidence

        lines, body, code = verify_evidence(
            folder, signers=signer or (), ledger_keys=ledger_key or (), authorities=authority or ()
        )
        finish(lines, body, as_json=as_json, code=code)
        return
    if signer or ledger_key or authority:
        raise UsageError(
            f"got {folder} without {STATEMENT}, expected an evidence bundle with --signer, --ledger-key or --authority"
        )
    from pipelines.commands import verify_path

    lines, body = verify_path(folder)
    finish(lines, body, as_json=as_json)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where run folders are.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Lists run folders with their complete stages and decisions."""
    from pipelines.commands import list_runs

    lines, body = list_runs(folder)
    finish(lines, body, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Adds them to the root command."""
    for command in (detect, radioactivity, verify, runs):
        app.command()(command)
