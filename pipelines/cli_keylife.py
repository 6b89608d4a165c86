"""Commands ``keys …`` that lead a key through its life."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from countermark.errors import UsageError
from pipelines.cli_common import DryRunOption, JsonOption, finish
from pipelines.cli_groups import grouped
from pipelines.cli_keyoptions import (
    FdOption,
    FileOption,
    KeyArgument,
    LedgerOption,
    PassphraseOptions,
    PurposeOption,
    RingArgument,
    ScopeOption,
    UntilOption,
    key_scope,
    moment,
    passphrase_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def register(app: typer.Typer) -> None:
    """Adds the commands to the group ``keys``."""
    app.command("add")(grouped(_add))
    for verb, command in _STEPS.items():
        app.command(verb)(grouped(command))
    app.command("destroy")(grouped(_destroy))
    app.command("passphrase")(grouped(_passphrase))
    app.command("remember")(_remember)
    app.command("forget")(_forget)
    app.command("events")(grouped(_events))
    app.command("sync")(grouped(_sync))


def _add(
    ring: RingArgument,
    purpose: PurposeOption = "",
    scope: ScopeOption = None,
    *,
    passphrase: PassphraseOptions,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Rotation, step 1: a new key, which can verify and not yet mark."""
    from pipelines.keycommands import add_key

    meant = key_scope(scope)
    here = passphrase.place(ring, ledger=ledger)
    lines, body = add_key(here, purpose=purpose, scope=meant, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


def _step(verb: str, help_text: str) -> Callable[..., None]:
    """A command that takes a key one step on: the transition of that name in ``watermarks.keylife``."""

    def command(
        ring: RingArgument,
        key_id: KeyArgument,
        *,
        passphrase: PassphraseOptions,
        ledger: LedgerOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
    ) -> None:
        from pipelines.keycommands import change, utc_now
        from watermarks import keylife

        here = passphrase.place(ring, ledger=ledger)
        transition = getattr(keylife, verb)
        lines, body = change(here, lambda opened: transition(opened, key_id, now=utc_now()), dry_run=dry_run)
        finish(lines, body, as_json=as_json)

    command.__doc__ = help_text
    return command


def _dated_step(verb: str, help_text: str) -> Callable[..., None]:
    """The same for a step after which a key's service may end at a date."""

    def command(
        ring: RingArgument,
        key_id: KeyArgument,
        until: UntilOption = None,
        *,
        passphrase: PassphraseOptions,
        ledger: LedgerOption = None,
        as_json: JsonOption = False,
        dry_run: DryRunOption = False,
    ) -> None:
        from pipelines.keycommands import change, utc_now
        from watermarks import keylife

        end, transition = moment(until), getattr(keylife, verb)
        here = passphrase.place(ring, ledger=ledger)
        lines, body = change(
            here, lambda opened: transition(opened, key_id, now=utc_now(), until=end), dry_run=dry_run
        )  # fmt: skip
        finish(lines, body, as_json=as_json)

    command.__doc__ = help_text
    return command


_STEPS = {
    "distribute": _step(
        "distribute", "Rotation, step 2: records that those who verify have the key (see `keys export`)."
    ),
    "promote": _dated_step(
        "promote",
        "Rotation, step 3: the key marks from now on; the old primary only verifies, until DATE if one is given.",
    ),
    "retire": _dated_step("retire", "The key marks no more and only verifies, until DATE if one is given."),
    "revoke": _step(
        "revoke", "The key is not trusted any more: evidence under it is still verified, and reported as revoked."
    ),
    "restore": _step(
        "restore", "One step back: revoked to verify-only, retired to active, an end of service taken away."
    ),
}  # fmt: skip


def _destroy(
    ring: RingArgument,
    key_id: KeyArgument,
    request: Annotated[bool, typer.Option("--request", help="Asks for it; the wait begins.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Does it, once the wait is over.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Takes the request back.")] = False,
    wait_days: Annotated[int, typer.Option("--wait-days", min=1, max=365, help="With --request.")] = 7,
    *,
    passphrase: PassphraseOptions,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Destroys a key in two steps: --request, then after the wait --confirm. Nothing brings it back."""
    from pipelines.keycommands import change, utc_now
    from watermarks.keylife import cancel_destroy, confirm_destroy, request_destroy

    if request + confirm + cancel != 1:
        raise UsageError("got no one step, expected one of --request, --confirm, --cancel")
    wait = timedelta(days=wait_days)
    here = passphrase.place(ring, ledger=ledger)
    if request:
        lines, body = change(here, lambda r: request_destroy(r, key_id, now=utc_now(), wait=wait), dry_run=dry_run)
    else:
        step = confirm_destroy if confirm else cancel_destroy
        lines, body = change(here, lambda r: step(r, key_id, now=utc_now()), dry_run=dry_run)
    finish(lines, body, as_json=as_json)


def _passphrase(
    ring: RingArgument,
    same: Annotated[bool, typer.Option("--same", help="Keeps the passphrase: a new salt and today's cost.")] = False,
    new_passphrase_file: Annotated[Path | None, typer.Option("--new-passphrase-file", help="The new one.")] = None,
    new_passphrase_fd: Annotated[
        int | None, typer.Option("--new-passphrase-fd", metavar="N", help="The new one.")
    ] = None,
    *,
    passphrase: PassphraseOptions,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Seals the ring under another passphrase. Old copies still open with the old one."""
    from pipelines.keycommands import reseal

    new = passphrase_source(new_passphrase_file, new_passphrase_fd, option="--new-passphrase")
    if same and (new_passphrase_file is not None or new_passphrase_fd is not None):
        raise UsageError("got --same and a new passphrase, expected one of them")
    here = passphrase.place(ring, ledger=ledger)
    lines, body = reseal(here, None if same else new, dry_run=dry_run)
    finish(lines, body, as_json=as_json)


def _remember(
    ring: RingArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Entry to make in the operating system's keyring.")],
    passphrase_file: FileOption = None,
    passphrase_fd: FdOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Puts the passphrase into the operating system's keyring, once it has opened the ring."""
    from pipelines.passphrase import remember

    here = PassphraseOptions(passphrase_file=passphrase_file, passphrase_fd=passphrase_fd).place(ring)
    here.ring()
    if not dry_run:
        remember(name, here.passphrase)
    word = "would remember" if dry_run else "remembered"
    finish([f"{word} the passphrase of {ring} as {name}"], {"keyring": name, "dry_run": dry_run}, as_json=as_json)


def _forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Entry of the operating system's keyring.")],
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Takes a passphrase out of the operating system's keyring."""
    from pipelines.passphrase import forget

    if not dry_run:
        forget(name)
    finish(
        [f"{'would forget' if dry_run else 'forgot'} {name}"], {"keyring": name, "dry_run": dry_run}, as_json=as_json
    )


def _events(
    ring: RingArgument,
    *,
    passphrase: PassphraseOptions,
    as_json: JsonOption = False,
) -> None:
    """Prints everything that ever happened to the ring's keys, in order; nothing of it is secret."""
    from pipelines.keycommands import history

    lines, body = history(passphrase.place(ring))
    finish(lines, body, as_json=as_json)


def _sync(
    ring: RingArgument,
    *,
    passphrase: PassphraseOptions,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Tells the ledger the key events that it is not known to hold, as after a crash."""
    from pipelines.keycommands import sync

    lines, body = sync(passphrase.place(ring, ledger=ledger), dry_run=dry_run)
    finish(lines, body, as_json=as_json)
