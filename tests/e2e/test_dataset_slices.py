"""The shipped dataset configs on real texts and models, cut to what a minute allows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import configs
from tests.e2e.conftest import environment

CONFIGS = Path(configs.__file__).parent

pytestmark = pytest.mark.slow


def command_line(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["classify-sentiment", "classify-topic"])
def test_a_linear_classifier_of_a_shipped_config_is_supported_and_its_twin_is_not(tmp_path, name):
    done = command_line("run", CONFIGS / f"{name}.yaml", "--out", tmp_path / "run", "--json", "--set",
                        "train.classifier=null")  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdicts = {v["suspect"]: v for v in json.loads(done.stdout)["verdicts"]}
    assert verdicts["linear"]["decision"] == "supported"
    assert verdicts["linear-twin"]["decision"] == verdicts["linear/wrong_key"]["decision"] == "not_supported"
    assert (tmp_path / "run" / "report.html").exists()


def test_encoder_and_reader_go_through_the_whole_job(tmp_path):
    small = {
        "classify-topic": ["rows=96", "marks.keyed.triggers=4", "train.classifier.num_train_epochs=1",
                           "audit.heldout_rows=64"],
        "qa-extractive": ["marks.robust.triggers=4", "marks.robust.share=0.1", "train.reader.num_train_epochs=1",
                          "rows=64", "audit.heldout_rows=16"],
    }  # fmt: skip
    for name, settings in small.items():
        chosen = [part for each in settings for part in ("--set", each)]
        done = command_line("run", CONFIGS / f"{name}.yaml", "--out", tmp_path / name, "--json", *chosen)
        assert done.returncode in (1, 5), done.stderr  # four triggers cannot reach 1e-6
        report = json.loads((tmp_path / name / "report.json").read_bytes())
        assert {each["metric"] for each in report["utility"]} & {"accuracy", "exact_match"}
        assert all(v["decision"] != "supported" for v in report["verdicts"])
