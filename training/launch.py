"""Starts ``accelerate launch -m training`` for callers: progress and errors come back as in process."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from countermark.errors import CountermarkError, IntegrityError, UsageError
from countermark.manifest import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

ERROR_FILE = "COUNTERMARK_TRAINING_ERROR_FILE"
LAUNCHED = "COUNTERMARK_TRAINING_LAUNCHED"
_PROGRESS = re.compile(r"training: step (\d+) of (\d+)")
_KEPT_LINES = 20
_TOLD_LINES = 3


def run(
    job_path: Path,
    accelerate_config: Path,
    *,
    on_start: Callable[[int], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Performs a job file under an accelerate config, and returns when its ``out`` is complete.

    Killed with this process: the workers end when their stdin closes. Callbacks as in :func:`training.sft.train`.

    Raises:
        UsageError: the config is missing or unreadable, or the job cannot be done. IntegrityError: its checkpoint is
            damaged. CountermarkError: the launch failed otherwise; the message holds its last lines.
    """
    environment = os.environ | {LAUNCHED: "1"} | _device(accelerate_config)
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate_config),
        "-m", "training", str(job_path),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="countermark-") as folder:
        error_file = Path(folder) / "error.json"
        environment[ERROR_FILE] = str(error_file)
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            kept = _follow(process, on_start, on_step)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
            for stream in (process.stdin, process.stderr):
                if stream is not None:
                    stream.close()
        if process.returncode != 0:
            raise _failure(error_file, kept)


def progress_line(done: int, total: int) -> str:
    """What the main process prints after each optimizer step."""
    return f"training: step {done} of {total}"


def _follow(
    process: subprocess.Popen[str], on_start: Callable[[int], None], on_step: Callable[[int], None]
) -> list[str]:
    kept: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
    done, total = 0, 0
    for line in process.stderr or ():
        match = _PROGRESS.fullmatch(line.strip())
        if match is None:
            kept.append(line.strip())
            continue
        if not total:
            total = int(match[2])
            on_start(total)
        on_step(int(match[1]) - done)
        done = int(match[1])
    process.wait()
    return list(kept)


def _device(config: Path) -> dict[str, str]:
    """Accelerate reads ``use_cpu`` but does not tell the processes it starts."""
    import yaml

    if not config.is_file():
        raise UsageError(f"got no file {config}, expected an accelerate config", hint="see configs/accelerate/")
    try:
        body = yaml.safe_load(config.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"got {config}, which is no YAML ({error}), expected an accelerate config") from None
    if not isinstance(body, dict):
        raise UsageError(f"got {config} without keys, expected an accelerate config", hint="see configs/accelerate/")
    return {"ACCELERATE_USE_CPU": "true"} if body.get("use_cpu") is True else {}


def _failure(error_file: Path, kept: list[str]) -> CountermarkError:
    if not error_file.exists():
        tail = " | ".join([line for line in kept if line][-_TOLD_LINES:])
        return CountermarkError(
            f"got an accelerate launch that failed ({tail}), expected a trained model",
            hint="check the accelerate config against this machine",
        )
    told = read_json(error_file)
    kinds = {kind.exit_code: kind for kind in (UsageError, IntegrityError)}
    return kinds.get(told["exit_code"], CountermarkError)(told["message"], hint=told["hint"])
