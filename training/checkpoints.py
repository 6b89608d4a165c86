"""Checkpoints that are complete or absent, hold no pickle, and resume to the same bytes.

``transformers`` writes a checkpoint in place: killed half-way, it leaves a folder from which it then fails to resume.
Here a checkpoint is built aside, with a manifest over every byte and the digest of its job, fsynced and renamed in.
Its parts are safetensors and JSON. What an epoch's order depends on is its number and the seed alone, so that a resumed
process finds the order that the killed one had.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from countermark.errors import IntegrityError, UsageError
from countermark.files import building, sweep_partial
from countermark.manifest import verify_folder, write_manifest
from training.state import load_tree, read_json, rng_state, save_tree, set_rng_state, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"checkpoint-(\d+)")
_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt"}
_DROPPED_SUFFIXES = {".md"}  # peft writes a card into everything it saves
_STATE = "trainer_state.json"


def latest_checkpoint(folder: Path, job_digest: str) -> Path | None:
    """The newest complete checkpoint under ``folder``, every byte verified; what a kill left half-made is removed.

    Raises:
        IntegrityError: the newest checkpoint is damaged, holds what no checkpoint holds, or belongs to another job.
    """
    sweep_partial(folder)
    found = _checkpoints(folder)
    if not found:
        return None
    latest = found[-1]
    manifest, _ = verify_folder(latest)
    if manifest.get("job") != job_digest:
        raise IntegrityError(
            f"got {latest} of job {str(manifest.get('job'))[:16]}…, expected one of job {job_digest[:16]}…",
            hint="rows, base, hyper-parameters, processes or versions differ: empty the scratch folder (work/<stage>)",
        )
    strange = [name for name in manifest["files"] if Path(name).suffix not in _SUFFIXES]
    if strange:
        raise IntegrityError(
            f"got {strange[0]!r} in {latest}, expected safetensors and JSON only", hint="give an empty scratch folder"
        )
    return latest


def refuse_sharding(*, active: bool = False) -> None:
    """Raises where DeepSpeed or FSDP is active: these checkpoints do not cover sharded state.

    Raises:
        UsageError: either is active.
    """
    for engine in ("DEEPSPEED", "FSDP"):
        if active or os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() in {"true", "1"}:
            raise UsageError(
                f"got a launch with {engine} or another sharding engine, expected data parallel training",
                hint="resumable checkpoints do not cover sharded state; use distributed_type MULTI_GPU or NO",
            )


class EpochOrder(Sampler[int]):
    """A sampler whose order is decided by the seed and the epoch's number, and by no generator's history."""

    def __init__(self, sampler: Any, seed: int) -> None:  # noqa: ANN401 - any with a generator
        self._sampler = sampler
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        self._sampler.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(self._sampler)


class DurableCheckpoints:
    """Mix into a ``transformers.Trainer``, before it; call :meth:`train_durably` instead of ``train``."""

    args: Any
    state: Any
    control: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    accelerator: Any
    callback_handler: Any
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool
    job_digest: str = ""
    _order: EpochOrder | None = None

    def train_durably(self, job_digest: str) -> None:
        """Trains to the end, from the newest checkpoint in ``output_dir`` if there is one.

        Raises:
            IntegrityError: that checkpoint is damaged or another job's. UsageError: sharded training.
        """
        refuse_sharding(active=self.is_deepspeed_enabled or self.is_fsdp_enabled)
        self.job_digest = job_digest
        found: list[Any] = [None]
        if self.args.process_index == 0:
            found[0] = latest_checkpoint(Path(self.args.output_dir), job_digest)
        if self.args.world_size > 1:
            broadcast_object_list(found)
        self.train(resume_from_checkpoint=str(found[0]) if found[0] else None)  # type: ignore[attr-defined]

    def create_model_card(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """No card in a checkpoint: TRL's names host paths."""

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def _get_train_sampler(self, *dataset: Any) -> Any:  # noqa: ANN401
        sampler = super()._get_train_sampler(*dataset)  # type: ignore[misc]
        if isinstance(sampler, RandomSampler | LengthGroupedSampler):
            sampler = self._order = EpochOrder(sampler, self.args.data_seed)
        return sampler

    def _run_epoch(self, **arguments: Any) -> Any:  # noqa: ANN401
        # set here and not left to the loaders: wrapped for a resume on several processes, they do not pass it on
        if self._order is not None:
            self._order.set_epoch(arguments["epoch"])
        return super()._run_epoch(**arguments)  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ANN401
        folder = output_dir or self.args.output_dir
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.args.should_save:
            model.save_pretrained(folder, state_dict=state_dict)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401, ARG002
        refuse_sharding(active=self.is_deepspeed_enabled or self.is_fsdp_enabled)
        self.store_flos()  # type: ignore[attr-defined]
        generators = gather_object([rng_state(self.args.device.type)])  # of every process, in the order of ranks
        if self.args.should_save:
            final = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            if not final.exists():
                with building(final) as folder:
                    self._fill(folder, generators)
            _rotate(final.parent, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _fill(self, folder: Path, generators: list[dict[str, Any]]) -> None:
        self._save(str(folder))
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        for rank, state in enumerate(generators):
            write_json(folder / f"rng-{rank:05d}.json", state)
        write_json(folder / _STATE, dataclasses.asdict(self.state))
        for path in folder.iterdir():
            if path.suffix in _DROPPED_SUFFIXES:
                path.unlink()
        write_manifest(folder, {"job": self.job_digest, "step": self.state.global_step})

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_tree(self.optimizer.state_dict(), Path(output_dir), "optimizer")
        save_tree(self.lr_scheduler.state_dict(), Path(output_dir), "scheduler")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            self.optimizer.load_state_dict(load_tree(Path(checkpoint), "optimizer"))
            self.lr_scheduler.load_state_dict(load_tree(Path(checkpoint), "scheduler"))

    def _save_scaler(self, output_dir: str) -> None:
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None:
            save_tree(scaler.state_dict(), Path(output_dir), "scaler")

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and (Path(checkpoint) / "scaler.json").exists():
            self.accelerator.scaler.load_state_dict(load_tree(Path(checkpoint), "scaler"))

    def _save_rng_state(self, output_dir: str) -> None:
        # _save_checkpoint gathers the generators of all processes; nothing else may write a pickle by this name
        write_json(Path(output_dir) / f"rng-{self.args.process_index:05d}.json", rng_state(self.args.device.type))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            set_rng_state(read_json(Path(checkpoint) / f"rng-{self.args.process_index:05d}.json"))


def _checkpoints(folder: Path) -> list[Path]:
    named = [(match, path) for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named, key=lambda pair: int(pair[0][1]))]


def _rotate(folder: Path, limit: int | None) -> None:
    """Keeps the newest ``limit`` checkpoints; a name never stands for a half-removed folder."""
    if limit is None or limit < 1:
        return
    for path in _checkpoints(folder)[:-limit]:
        doomed = path.with_name(f".partial-{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
