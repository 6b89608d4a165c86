"""A folder in which something is marked: nothing is released under a commitment to other data or another config."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from countermark.errors import IntegrityError, UsageError
from countermark.manifest import read_json
from pipelines.progress import default_progress
from pipelines.records import open_record
from pipelines.run import open_run
from pipelines.stage import COMMITMENT_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipelines.artifact import Artifact
    from pipelines.config import RunConfig
    from pipelines.run import RunFolder

RELEASE = "release"


@contextmanager
def open_marking(folder: Path, config: Any, *, quiet: bool, fresh: bool = False) -> Iterator[RunFolder]:  # noqa: ANN401
    """A run folder whose commitment, where it has one, is to this config and these data.

    Before anything is released a commitment to others is made anew, under the same key; the key ring lists them all.

    Raises:
        UsageError: something was released under another commitment.
    """
    progress = default_progress(quiet=quiet)
    with open_run(folder, cast("RunConfig", config), progress, fresh=fresh, until=RELEASE) as run:
        if not _committed_to(run, config):
            if run.artifact_path(RELEASE).exists():
                raise UsageError(
                    f"got other data or another marking config than the release in {folder} was made with",
                    hint="name the data that it was made of, choose another folder with --out, or start over with "
                    "--fresh",
                )
            run.start_over()
        yield run


def open_released(folder: Path) -> None:
    """Refuses a folder in which nothing was begun: looking at it would make it."""
    if not (folder / "config.json").exists():
        raise UsageError(f"got no release in {folder}, expected one", hint="name its folder with --out")


def check_still_committed(commitment: Artifact, config: Any, *, agreed: bool = True) -> None:  # noqa: ANN401
    """The data must be at the end of marking what they were when the commitment was made, as far as was ``agreed``.

    Raises:
        UsageError: they changed meanwhile.
    """
    committed = read_json(commitment.path / COMMITMENT_FILE)["config_digest"]
    if committed != config.marking_digest() or not agreed:
        raise UsageError(
            f"got other data in {config.dataset} after marking than before, expected the same",
            hint="it changed meanwhile: mark a copy",
        )


def check_record(run: RunFolder) -> None:
    """Without the owner's sealed record and key a release is worth nothing: both must be there and whole.

    Raises:
        IntegrityError: they are not. KeyFileError: the ring cannot be opened.
    """
    context, release = run.context(RELEASE), run.artifact(RELEASE)
    if not context.ring_path().exists():
        raise IntegrityError(
            f"got no key ring {context.ring_path()}, expected the one that the release was marked with",
            hint="restore it: without it nothing can be shown of the release",
        )
    open_record(context.key(), context.owner, RELEASE, release.manifest["record_sha256"])


def _committed_to(run: RunFolder, config: Any) -> bool:  # noqa: ANN401
    made = run.artifact_path("keys") / COMMITMENT_FILE
    return not made.exists() or read_json(made)["config_digest"] == config.marking_digest()
