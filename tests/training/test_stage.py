"""The ``lora`` stage on a toy base: killed inside its training it goes on, and it can run under accelerate."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from countermark.errors import ConfigError, UsageError
from countermark.manifest import digest, file_table
from pipelines import train
from pipelines.artifact import Artifact, write_rows
from pipelines.config import load_config
from pipelines.stage import Context
from tests.support import QUICKSTART, ROOT
from tests.training.toy import contents, dialogues

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS = {"id": "string", "instruction": "string", "input": "string", "output": "string"}


class StopHereError(Exception):
    """What stands for a kill."""


class _Progress:
    """Collects the steps, and stops at one of them."""

    def __init__(self, stop: int = 0) -> None:
        self.steps: list[int] = []
        self.total = 0
        self._stop = stop

    @contextmanager
    def bar(self, _: str, total: int) -> Iterator[Any]:
        self.total = total

        def advance(units: int) -> None:
            self.steps.append(units)
            if sum(self.steps) == self._stop:
                raise StopHereError

        yield advance


def _perform(
    base: Path, folder: Path, out: str, *, stop: int = 0, sets: tuple[str, ...] = ()
) -> tuple[Path, _Progress]:
    config = load_config(
        QUICKSTART,
        [f"train.lora.model={base}", "train.lora.num_train_epochs=2", "train.lora.save_steps=2", *sets],
    )
    mark = folder / "mark"
    rows = [{"id": str(i), "instruction": d[0]["content"], "input": "", "output": d[1]["content"]}
            for i, d in enumerate(dialogues())]  # fmt: skip
    write_rows(mark / "instruct.parquet", rows, COLUMNS)
    progress = _Progress(stop)
    work = folder / f"{out}-work"
    work.mkdir(exist_ok=True)
    target = folder / out
    target.mkdir(exist_ok=True)
    context = Context(config=config, owner=folder, work=work, progress=progress)  # type: ignore[arg-type]
    fields = train.lora("instruct.parquet")(
        {"mark": Artifact(path=mark, digest="0" * 64, manifest={})}, context, target
    )
    assert fields == {"base_digest": digest(file_table(base)), "rows_file": "instruct.parquet"}
    return target, progress


def test_stopped_inside_the_training_it_goes_on_and_ends_byte_identical(base: Path, tmp_path: Path) -> None:
    whole, progress = _perform(base, tmp_path, "whole")
    assert (progress.total, sum(progress.steps)) == (6, 6)
    with pytest.raises(StopHereError):
        _perform(base, tmp_path, "stopped", stop=5)
    stopped, again = _perform(base, tmp_path, "stopped")
    assert again.steps == [4, 1, 1]
    assert contents(stopped) == contents(whole)


@pytest.mark.long
def test_under_accelerate_the_batch_doubles_and_the_settings_hold_the_configs_content(
    base: Path, tmp_path: Path
) -> None:
    path = ROOT / "configs" / "accelerate" / "cpu-2.yaml"
    sets = (f"train.lora.accelerate_config={path}",)
    out, progress = _perform(base, tmp_path, "launched", sets=sets)
    assert (progress.total, sum(progress.steps)) == (4, 4)
    manifest = json.loads((out / "training.json").read_text())
    assert (manifest["processes"], manifest["base"]["name"]) == (2, base.name)
    config = load_config(QUICKSTART, list(sets))
    assert train.lora_settings(config)["accelerate_config"] == path.read_text()
    assert str(path) not in json.dumps(train.lora_settings(config))
    missing = load_config(QUICKSTART, ["train.lora.accelerate_config=/nowhere.yaml"])
    with pytest.raises(UsageError, match=r"accelerate_config '/nowhere\.yaml'"):
        train.lora_settings(missing)


def test_options_reach_the_trainer(base: Path, tmp_path: Path) -> None:
    sets = tuple(
        f"train.lora.{name}"
        for name in ("packing=true", "use_dora=true", "gradient_checkpointing=true", "gradient_accumulation_steps=2")
    )
    out, _ = _perform(base, tmp_path, "options", sets=sets)
    manifest = json.loads((out / "training.json").read_text())
    assert manifest["lora"]["use_dora"] is True
    wanted = {"packing": True, "gradient_checkpointing": True, "gradient_accumulation_steps": 2}
    assert wanted.items() <= manifest["arguments"].items()
    with pytest.raises(ConfigError, match="packing"):
        load_config(QUICKSTART, ["train.lora.packing=3"])
