"""``countermark mark``, on a run, a Double-I release or a dataset release; ``plan vocabulary``."""

from __future__ import annotations

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
    RunOption,
    SetOption,
    config_kind,
    data_override,
    finish,
    load_dataset,
    load_release_config,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TargetArgument = Annotated[
    str, typer.Argument(metavar="CONFIG|DATASET", help="A YAML config; or a dataset, with --config.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="The config, where a dataset is named first.")]
YAML = (".yaml", ".yml")


def register(app: typer.Typer, plan_app: typer.Typer, stage_command: Callable[[str, str], Any]) -> None:
    """Adds ``mark`` and ``plan vocabulary``; ``stage_command`` makes a run's own verb."""
    plan_app.command("vocabulary")(_vocabulary)

    @app.command()
    def mark(
        target: TargetArgument,
        config: ConfigOption = None,
        run: RunOption = None,
        data: DataOption = None,
        check: Annotated[
            bool, typer.Option("--check", help="Re-opens a dataset release: the mark is there, and what searches find.")
        ] = False,
        push: Annotated[
            str | None, typer.Option("--push-to-hub", metavar="REPO", help="Uploads a dataset release when it is made.")
        ] = None,
        token_file: Annotated[Path | None, typer.Option("--token-file", help="Hub token, for --push-to-hub.")] = None,
        fresh: Annotated[bool, typer.Option("--fresh", help="Starts over; the owner's keys are kept.")] = False,
        set_: SetOption = None,
        inputs: InputOption = None,
        keys: KeysOption = None,
        key_id: KeyIdOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Marks data before release: your own dataset, your own instruct rows, or a run's generated sets.

        `countermark mark DATASET --config configs/classify-sentiment.yaml --out DIR` marks a file, folder, URL or hub
        id. A config with `kind: release` marks instruct rows, one copy for each recipient.
        """
        path, overrides = resolved(target, config, data)
        kind = config_kind(path)
        if kind == "dataset":
            from pipelines.dataset import commands

            dataset = load_dataset(path, [*(set_ or []), *overrides], keys, key_id)
            folder = run or Path("runs") / dataset.name
            if check:
                lines, body, code = commands.check_dataset(dataset, folder, dry_run=dry_run, quiet=quiet)
            else:
                lines, body, code = commands.mark_dataset(dataset, folder, fresh=fresh, dry_run=dry_run, quiet=quiet)
            if push:
                url = push if dry_run else commands.push_dataset(folder, push, token_file)
                lines, body = [*lines, f"{'would push' if dry_run else 'pushed'} to {url}"], {**body, "repository": url}
            finish(lines, body, as_json=as_json, code=code)
            return
        if check or push:
            raise UsageError(f"got --check or --push-to-hub with a {kind} config, expected a config of kind: dataset")
        if kind == "release":
            from pipelines.release_commands import mark_release

            release = load_release_config(path, [*(set_ or []), *overrides], keys, key_id)
            folder = run or Path("runs") / release.name
            lines, body, code = mark_release(release, folder, fresh=fresh, dry_run=dry_run, quiet=quiet)
            finish(lines, body, as_json=as_json, code=code)
        else:
            refuse_data(overrides)
            if fresh:
                raise UsageError("got --fresh with a run's config, expected a release's", hint="`run --fresh` has it")
            stage_command("mark", "")(path, run, set_, inputs, keys, key_id, as_json, dry_run, quiet)


def refuse_data(given: list[str]) -> None:
    """A run generates its data and trains its suspects: nothing that was named may be passed over."""
    if given:
        raise UsageError(
            "got a dataset, suspect, control or system prompt with a run's config, expected a release's",
            hint="a config with `kind: dataset` marks your own data and audits suspects of it",
        )


def _vocabulary(
    target: TargetArgument,
    out: Annotated[Path, typer.Option("--out", help="The file to write, a word a line.")],
    config: ConfigOption = None,
    most: Annotated[
        float, typer.Option("--most", help="Largest change of a label's share that a word may cause.")
    ] = 0.1,
    set_: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Leaves out words that lean to a class of a dataset, on a classifier of its unmarked rows, before any key."""
    from pipelines.dataset.vocabulary import plan_vocabulary

    path, overrides = resolved(target, config, None)
    dataset = load_dataset(path, [*(set_ or []), *overrides], None, None)
    lines, body, code = plan_vocabulary(dataset, out, most=most, dry_run=dry_run)
    finish(lines, body, as_json=as_json, code=code)


def resolved(target: str, config: Path | None, data: str | None) -> tuple[Path, list[str]]:
    """The config's path, and the dataset as an override where one is named."""
    if config is not None:
        if data:
            raise UsageError("got a dataset twice, as argument and as --data, expected it once")
        return config, data_override(target)
    if not target.endswith(YAML):
        raise UsageError(
            f"got {target!r} without --config, expected a YAML config, or a dataset with --config",
            hint="countermark mark DATASET --config configs/classify-sentiment.yaml --out DIR",
        )
    return Path(target), data_override(data)
