"""A run folder: locked, resumable, and exactly one artifact a stage.

::

    runs/quickstart/
    ├── artifacts/<stage>/    verified folders, complete or absent
    ├── owner/                0700: key ring, passphrase (demo), sealed marking records
    ├── work/<stage>/         journals of unfinished stages
    ├── config.json           the resolved config this folder belongs to
    ├── run.json              seconds and digests by stage (clocks live here, never in manifests)
    ├── events.jsonl          one line an event
    └── report.html report.json
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from countermark import libraries
from countermark.errors import IntegrityError, UsageError
from countermark.files import PRIVATE_DIR_MODE, append_line, locked, make_dir, storage_errors, sweep_partial
from countermark.manifest import canonical_json, read_checked_json, write_checked_json
from pipelines.artifact import Artifact, new_artifact, open_artifact
from pipelines.stage import Context, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipelines.config import RunConfig
    from pipelines.progress import Progress
    from verification.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What ``run.json`` remembers of a stage; ``skipped`` says that this invocation did not need to do it."""

    name: str
    seconds: float
    digest: str
    skipped: bool


class RunFolder:
    """One run folder under its lock; use it through :func:`open_run`."""

    def __init__(self, root: Path, config: RunConfig, progress: Progress, *, fresh: bool = False) -> None:
        self.root = root
        self.config = config
        self.progress = progress
        self._state: dict[str, Any] = {"stages": {}}
        if (root / "run.json").exists() and not fresh:
            self._state = read_checked_json(root / "run.json")
        self._opened: dict[str, Artifact] = {}
        self._ledger: Ledger | None = None
        self._told = 0

    def bind(self, until: str | None = None) -> None:
        """Ties this folder to its config; another config is refused, since plan and answers must not change hands.

        As long as stage ``until`` is not complete, another config takes the place of the first, and what was made for
        that one goes. Where a dataset lies is no part of it: commitments bind its content.
        """
        path = self.root / "config.json"
        resolved = self.config.model_dump()
        if not path.exists():
            write_checked_json(path, resolved)
            return
        differing = _differences(_content_bound(read_checked_json(path)), _content_bound(resolved))
        if differing and until is not None and not self.artifact_path(until).exists():
            self.start_over()
        elif differing:
            raise UsageError(
                f"got a config that differs in {', '.join(differing[:3])} from the one {self.root} was made with, "
                "expected the same",
                hint="choose another folder with --out, or start over with --fresh",
            )

    def start_over(self) -> None:
        """Removes what this folder made but ``owner/`` and ``events.jsonl``: nothing deletes keys or traces."""
        _clear(self.root)
        self._state, self._opened = {"stages": {}}, {}
        write_checked_json(self.root / "config.json", self.config.model_dump())
        self.note("fresh")

    def artifact_path(self, stage: str) -> Path:
        """Where a stage's artifact is, or will be."""
        return self.root / "artifacts" / stage

    def perform(self, stage: Stage, inputs: Mapping[str, Artifact] | None = None) -> StageRecord:
        """Does ``stage``, or verifies and skips it if its artifact is complete.

        Raises:
            IntegrityError: the artifact is damaged, or does not come from these inputs.
        """
        inputs = inputs if inputs is not None else {name: self.artifact(name) for name in stage.inputs}
        path = self.artifact_path(stage.name)
        if path.exists():
            return self._skip(stage, inputs, path)
        started = time.monotonic()
        self._event("start", stage.name)
        context = self.context(stage.name)
        work = make_dir(context.work)
        fields = stage.fields(inputs, self.config)
        with new_artifact(path, fields) as out, storage_errors(out):
            fields |= stage.run(inputs, context, out)
        artifact = self._opened[stage.name] = open_artifact(path)
        seconds = round(time.monotonic() - started, 3)
        self._remember(stage.name, seconds, artifact.digest)
        shutil.rmtree(work, ignore_errors=True)
        self.progress.say(f"  done in {seconds:.1f} s, {artifact.digest[:12]}")
        return StageRecord(name=stage.name, seconds=seconds, digest=artifact.digest, skipped=False)

    def context(self, stage: str) -> Context:
        """What a stage of this run may use besides its inputs."""
        return Context(
            config=self.config, owner=self.root / "owner", work=self.root / "work" / stage, progress=self.progress
        )

    def artifact(self, stage: str) -> Artifact:
        """The verified artifact of a stage of this run.

        Raises:
            UsageError: the stage has not run.
        """
        if stage not in self._opened:
            path = self.artifact_path(stage)
            if not path.exists():
                raise UsageError(
                    f"got no artifact of stage {stage!r} in {self.root}, expected it to be complete",
                    hint="run the stage before it first, or `countermark run` for all stages",
                )
            self._opened[stage] = open_artifact(path, self._known_digest(stage))
        return self._opened[stage]

    def seconds(self) -> dict[str, float]:
        """Seconds of work by stage, over all invocations."""
        return {name: entry["seconds"] for name, entry in self._state["stages"].items()}

    def note(self, event: str) -> None:
        """Logs an event of the whole run."""
        self._event(event, "run")

    def tell(self) -> None:
        """Brings the configured ledger up to this folder's events; what it knows is not told twice."""
        where = self.config.keys.ledger
        if where is None:
            return
        from pipelines.ledgering import append_run, open_ledger

        if self._ledger is None:
            self._ledger = open_ledger(where)
        lines = (self.root / "events.jsonl").read_bytes().count(b"\n")
        append_run(self._ledger, self.root, since=self._told)
        self._told = lines

    def close(self) -> None:
        """Lets go of the ledger."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _skip(self, stage: Stage, inputs: Mapping[str, Artifact], path: Path) -> StageRecord:
        artifact = self._opened[stage.name] = open_artifact(path, self._known_digest(stage.name))
        expected = stage.fields(inputs, self.config)
        for name, value in expected.items():
            if artifact.manifest.get(name) != value:
                raise IntegrityError(
                    f"got {path}/manifest.json with another {name}, expected the one of this run's config and inputs",
                    hint="an artifact was exchanged or an earlier stage was redone; start over with --fresh",
                )
        known = self._state["stages"].get(stage.name)
        if known is None:  # killed between the rename and run.json
            self._remember(stage.name, 0.0, artifact.digest)
            known = self._state["stages"][stage.name]
        return StageRecord(name=stage.name, seconds=known["seconds"], digest=artifact.digest, skipped=True)

    def _known_digest(self, stage: str) -> str | None:
        entry = self._state["stages"].get(stage)
        return entry["digest"] if entry else None

    def _remember(self, stage: str, seconds: float, digest: str) -> None:
        self._state["stages"][stage] = {"seconds": seconds, "digest": digest}
        computed = {"computed": libraries.reading()} if "torch" in sys.modules else {}
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        self._state["machine"] = self._state.get("machine", {}) | machine | computed
        write_checked_json(self.root / "run.json", self._state)
        self._event("done", stage, digest=digest, seconds=seconds, **computed)

    def _event(self, event: str, stage: str, **fields: Any) -> None:  # noqa: ANN401
        body = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, "stage": stage, **fields}
        append_line(self.root / "events.jsonl", canonical_json(body).decode())
        self.tell()


@contextmanager
def open_run(
    root: Path, config: RunConfig, progress: Progress, *, fresh: bool = False, until: str | None = None
) -> Iterator[RunFolder]:
    """Locks ``root`` against a second process and opens it.

    ``fresh`` starts over (see :meth:`RunFolder.start_over`); ``until`` names the stage after which no other config may
    take this folder over (see :meth:`RunFolder.bind`).

    Raises:
        RunLockedError: another process works there.
        UsageError: the folder belongs to another config.
    """
    make_dir(root)
    make_dir(root / "owner", mode=PRIVATE_DIR_MODE)
    with locked(root, hint="wait for it, or choose another folder with --out"):
        for folder in (root, root / "artifacts", root / "owner", root / "owner" / "records"):
            sweep_partial(folder)
        run = RunFolder(root, config, progress, fresh=fresh)
        try:
            if fresh:
                run.start_over()
            run.bind(until)
            if (root / "events.jsonl").exists():
                run.tell()  # what a crash left untold
            yield run
        finally:
            run.close()


def _clear(root: Path) -> None:
    """Removes what a run makes, by name: keys, the event log and whatever is not ours stay."""
    for name in ("artifacts", "work"):
        if (root / name).exists():
            shutil.rmtree(root / name)
    for name in ("report.html", "report.json", "config.json", "run.json"):
        (root / name).unlink(missing_ok=True)


def _content_bound(body: dict[str, Any]) -> dict[str, Any]:
    """A config without where the data of a release lie: what they are is in its commitment."""
    return {k: v for k, v in body.items() if body.get("kind", "run") == "run" or k not in {"dataset", "heldout"}}


def _differences(old: Any, new: Any, at: str = "") -> list[str]:  # noqa: ANN401
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(set(old) | set(new))
        return [d for name in names for d in _differences(old.get(name), new.get(name), f"{at}.{name}" if at else name)]
    return [] if old == new else [at or "config"]
