"""``countermark plan audit`` and ``audit``: a run's own stages, or a release and any suspect that can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countermark.errors import UsageError
from pipelines.cli_common import (
    DataOption,
    DryRunOption,
    InputOption,
    JsonOption,
    KeyIdOption,
    KeysOption,
    QuietOption,
    SetOption,
    config_kind,
    finish,
    load_dataset,
    load_release_config,
)
from pipelines.cli_groups import grouped
from pipelines.cli_releases import ConfigOption, TargetArgument, refuse_data, resolved

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.audited import AuditRequest

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder (default: runs/NAME of the config).")]
SuspectOption = Annotated[
    str | None,
    typer.Option("--suspect", help="Model folder, LoRA adapter, hub id, URL (https://HOST/v1), or recorded:FILE."),
]
BaseOption = Annotated[str | None, typer.Option("--base", help="Base model of an adapter; it is a control too.")]
ControlOption = Annotated[
    list[str] | None, typer.Option("--control", help="A model that never saw the release. Repeatable.")
]
NameOption = Annotated[str, typer.Option("--name", help="Names this audit; each spends its own triggers.")]
SystemOption = Annotated[str | None, typer.Option("--system", help="System prompt of every query.")]
ApiOption = Annotated[str, typer.Option("--api", help="What a URL speaks: chat, completions or classifier.")]
ModelOption = Annotated[str, typer.Option("--model", help="The model, as the endpoint calls it.")]
KeyFileOption = Annotated[Path | None, typer.Option("--api-key-file", help="0600 file with the endpoint's API key.")]
KeyVariableOption = Annotated[
    str, typer.Option("--api-key-env", metavar="NAME", help="Environment variable that holds the API key.")
]
MappingOption = Annotated[
    Path | None, typer.Option("--mapping", help="JSON: request and place of the label, for --api classifier.")
]
TemplateOption = Annotated[
    Path | None, typer.Option("--template", help="Text with {text} where the prompt goes, for --api completions.")
]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=1, help="Requests under way at once.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for a whole answer.")]
RetriesOption = Annotated[int, typer.Option("--retries", min=0, help="Further tries of a query that failed.")]
PricesOption = Annotated[
    str, typer.Option("--prices", metavar="IN,OUT", help="Of a million tokens of prompts and of answers.")
]
LooksOption = Annotated[
    bool | None,
    typer.Option("--sequential/--fixed-n", help="Stop as soon as an e-process decides (default for paid endpoints)."),
]
QueriesOption = Annotated[int | None, typer.Option("--max-queries", min=1, help="Budget in queries.")]
TokensOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Budget in tokens.")]
ReleasedOption = Annotated[
    str, typer.Option("--suspect-released", metavar="UTC", help="When the suspect came out, as far as you know.")
]
TimestampOption = Annotated[
    Path | None, typer.Option("--timestamp", help="RFC 3161 time stamp (DER) of the commitment.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="The evidence bundle (default: evidence/NAME of the run folder).")
]
OpenOption = Annotated[
    str, typer.Option("--open", help="leaves: show the planned triggers alone; key: open the key, for good.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What both commands take."""

    config: ConfigOption = None
    run: RunOption = None
    suspect: SuspectOption = None
    base: BaseOption = None
    control: ControlOption = None
    name: NameOption = "suspect"
    system: SystemOption = None
    api: ApiOption = "chat"
    model: ModelOption = ""
    api_key_file: KeyFileOption = None
    api_key_env: KeyVariableOption = ""
    mapping: MappingOption = None
    template: TemplateOption = None
    concurrency: ConcurrencyOption = 4
    timeout: TimeoutOption = 60.0
    retries: RetriesOption = 8
    prices: PricesOption = "0,0"
    looks: LooksOption = None
    max_queries: QueriesOption = None
    max_tokens: TokensOption = None
    suspect_released: ReleasedOption = ""
    timestamp: TimestampOption = None
    data: DataOption = None
    set_: SetOption = None
    keys: KeysOption = None
    key_id: KeyIdOption = None

    def folder(self, name: str) -> Path:
        """The run folder of the config ``name``."""
        return self.run or Path("runs") / name

    def given(self) -> list[str]:
        """What a run's config has no use for: it may not be passed over."""
        named = [self.suspect, self.base, self.system, self.model, self.api_key_env, self.suspect_released]
        paths = [self.api_key_file, self.mapping, self.template, self.timestamp]
        counts = [self.max_queries, self.max_tokens, self.looks]
        return [str(each) for each in (*named, *paths, *(self.control or ())) if each] + [
            str(each) for each in counts if each is not None
        ]

    def release(self, target: str) -> tuple[Any, Any] | None:
        """The release's config and its kind; None for a run's config."""
        path, overrides = resolved(target, self.config, self.data)
        chosen = [*(self.set_ or []), *overrides]
        kind = config_kind(path)
        if kind == "release":
            from pipelines.release_audit import DoubleIRelease

            return load_release_config(path, chosen, self.keys, self.key_id), DoubleIRelease()
        if kind == "dataset":
            from pipelines.dataset.auditing import DatasetRelease

            return load_dataset(path, chosen, self.keys, self.key_id), DatasetRelease()
        refuse_data([*overrides, *self.given()])
        return None

    def request(self, kind: Any) -> AuditRequest:  # noqa: ANN401 - a kind of release
        """The audit that these options ask for."""
        from pipelines.asked import Access
        from pipelines.audit_commands import requested
        from pipelines.audited import Terms

        price_in, price_out = _prices(self.prices)
        access = Access(
            api=self.api, model=self.model, key_file=self.api_key_file, key_variable=self.api_key_env,
            mapping=self.mapping, template=self.template, concurrency=self.concurrency, timeout=self.timeout,
            retries=self.retries, price_in=price_in, price_out=price_out,
        )  # fmt: skip
        terms = Terms(
            looks=self.looks, queries=self.max_queries, tokens=self.max_tokens, suspect_released=self.suspect_released,
            timestamp=_bytes(self.timestamp),
        )  # fmt: skip
        return requested(
            kind, suspect=self.suspect, base=self.base, controls=self.control or [], name=self.name,
            system=self.system, access=access, terms=terms,
        )  # fmt: skip


def register(app: typer.Typer, plan_app: typer.Typer, stage_command: Callable[[str, str], Any]) -> None:
    """Adds both; ``stage_command`` makes a run's own."""

    @plan_app.command("audit")
    @grouped
    def plan_audit(
        target: TargetArgument,
        *,
        options: Options,
        power: Annotated[float, typer.Option("--power", min=0.01, max=0.999, help="Wanted power of the table.")] = 0.95,
        plot: Annotated[Path | None, typer.Option("--plot", help="Draws the power table into this SVG file.")] = None,
        inputs: InputOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Seals an audit plan: claims, triggers, carriers, prompts, alpha, budget, controls; says what it can show.

        With `--dry-run` nothing is sealed and no trigger spent: queries, cost and power are shown.
        """
        found = options.release(target)
        if found is None:
            stage_command("plan", "")(*_own(target, options, inputs), as_json, dry_run, quiet)
            return
        from pipelines.audit_commands import planned
        from pipelines.progress import default_progress
        from pipelines.run import open_run

        loaded, kind = found
        with open_run(options.folder(loaded.name), loaded, default_progress(quiet=quiet)) as opened:
            lines, body, code = planned(opened, options.request(kind), power=power, dry_run=dry_run, plot=plot)
        finish(lines, body, as_json=as_json, code=code)

    @app.command()
    @grouped
    def audit(
        target: TargetArgument,
        *,
        options: Options,
        out: OutOption = None,
        opening: OpenOption = "leaves",
        ledger_key: Annotated[
            list[str] | None,
            typer.Option("--ledger-key", help="Verifier key (or .pub file) of the ledger. Repeatable."),
        ] = None,
        inputs: InputOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Turns the sealed plan and its answers into verdicts; for a release, plans and asks first.

        A config with `kind: release` or `kind: dataset` audits `--suspect`: a folder, a LoRA adapter over `--base`, an
        endpoint behind a URL, or recorded answers; and writes a bundle that `countermark verify` checks.
        """
        found = options.release(target)
        if found is None:
            refuse_data([str(out)] if out else [])
            stage_command("audit", "")(*_own(target, options, inputs), as_json, dry_run, quiet)
            return
        loaded, kind = found
        how: dict[str, Any] = {
            "out": out, "opening": opening, "ledger_keys": ledger_key or [], "dry_run": dry_run, "quiet": quiet,
        }  # fmt: skip
        if kind.unit == "codewords":
            from pipelines.release_commands import audit_release as decide
        else:
            from pipelines.dataset.commands import audit_dataset as decide  # type: ignore[assignment]
        lines, body, code = decide(loaded, options.folder(loaded.name), options.request(kind), **how)
        finish(lines, body, as_json=as_json, code=code)


def _own(target: str, options: Options, inputs: list[str] | None) -> tuple[Any, ...]:
    """What a run's own stage takes of it."""
    config = resolved(target, options.config, options.data)[0]
    return config, options.run, options.set_, inputs, options.keys, options.key_id


def _prices(text: str) -> tuple[float, float]:
    try:
        price_in, price_out = (float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(f"got --prices {text!r}, expected two numbers such as 0.15,0.60") from None
    return price_in, price_out


def _bytes(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"got --timestamp {path} ({error.strerror}), expected a file") from None
