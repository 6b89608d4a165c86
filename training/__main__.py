"""``python -m training JOB.json``, alone or under ``accelerate launch``: one job, an ``out`` complete or absent."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from countermark.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_OK, CountermarkError, UsageError
from countermark.files import atomic_write, building, locked, make_dir
from countermark.manifest import canonical_json
from training.launch import ERROR_FILE, LAUNCHED, progress_line

if TYPE_CHECKING:
    from training.jobfile import JobFile


def main(arguments: list[str]) -> int:
    """Performs the job and returns the exit code; errors are two lines on stderr, of the main process only."""
    main_process = int(os.environ.get("RANK", "0")) == 0
    if os.environ.get(LAUNCHED):
        _end_with_launcher()
    try:
        if len(arguments) != 1 or arguments[0].startswith("-"):
            raise UsageError(  # noqa: TRY301
                f"got {len(arguments)} arguments, expected one job file", hint="python -m training JOB.json"
            )
        _perform(Path(arguments[0]), main_process=main_process)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except CountermarkError as error:
        return _tell(error) if main_process else error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever a library raises, a person reads two lines
        unexpected = CountermarkError(
            f"got an unexpected {type(error).__name__} ({error}), expected none", hint="this may be a bug: report it"
        )
        return _tell(unexpected) if main_process else EXIT_INTERNAL
    return EXIT_OK


def _perform(path: Path, *, main_process: bool) -> None:
    from training.jobfile import load_job

    loaded = load_job(path)
    if not main_process:
        _train(loaded, loaded.out, main_process=False)
        return
    if loaded.out.exists():
        raise UsageError(
            f"got {loaded.out}, which exists, expected a new folder", hint="remove it, or choose another out"
        )
    hint = "wait for it, or choose another scratch"
    with locked(make_dir(loaded.scratch), hint=hint), building(loaded.out) as out:
        _train(loaded, out, main_process=True)


def _train(loaded: JobFile, out: Path, *, main_process: bool) -> None:
    import torch

    from training.sft import train

    done, total = 0, 0

    def start(steps: int) -> None:
        nonlocal total
        total = steps

    def step(units: int) -> None:
        nonlocal done
        done += units
        if main_process:
            sys.stderr.write(progress_line(done, total) + "\n")

    try:
        train(loaded.job, out=out, scratch=loaded.scratch, on_start=start, on_step=step)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _tell(error: CountermarkError) -> int:
    sys.stderr.write(error.diagnostics() + "\n")
    told = os.environ.get(ERROR_FILE)
    if told:
        body = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
        atomic_write(Path(told), canonical_json(body))
    return error.exit_code


def _end_with_launcher() -> None:
    """The launcher holds the other end of stdin: where it is killed, training ends too, and leaves no orphan."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
