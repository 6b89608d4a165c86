"""The main job on real models: what a report says, and that a finished run is verified and not redone."""

from __future__ import annotations

import base64
import fcntl
import json
import random
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipelines.artifact import read_rows, write_rows
from pipelines.generate import TOKENS_SCHEMA
from pipelines.ledger_stages import text_digest
from pipelines.ledgering import open_ledger, run_blind
from pipelines.stages import STAGES
from tests.canary import leaks, spellings
from tests.e2e.conftest import CONFIG, LEDGER, Finished, environment, run
from watermarks.keystore import load_ring, read_secret_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_report_has_the_documented_fields(finished: Finished) -> None:
    report = finished.report
    assert {"run", "seconds", "stages", "verdicts", "utility"} <= report.keys()
    assert [s["name"] for s in report["stages"]] == [*(s.name for s in STAGES), "report"]
    assert {"name", "seconds", "digest", "skipped"} <= report["stages"][0].keys()
    fields = {"claim", "suspect", "control", "decision", "p_value", "log10_p", "alpha", "queries", "method"}
    for verdict in report["verdicts"]:
        assert fields <= verdict.keys()
        assert verdict["claim"] in {"token", "input_level", "double_i"}
        assert verdict["decision"] in {"supported", "not_supported", "inconclusive"}
    assert {(u["suspect"], u["metric"]) for u in report["utility"]} == {
        ("classifier", "review_accuracy"), ("lora", "sentiment_accuracy"), ("lora", "boolq_accuracy"),
    }  # fmt: skip


def test_marked_dataset_is_found_and_no_control_is(finished: Finished) -> None:
    verdicts = {(v["claim"], v["suspect"]): v for v in finished.report["verdicts"]}
    assert verdicts["token", "dataset"]["decision"] == "supported"
    assert verdicts["token", "dataset"]["wrong_keys"]["rank_p"] == pytest.approx(1 / 50)
    assert {v["suspect"] for v in finished.report["verdicts"] if v["control"]} == {
        "human_text", "dataset/wrong_key", "classifier-twin", "classifier/wrong_key", "lora-twin", "base",
        "lora/wrong_key",
    }  # fmt: skip
    assert not [v for v in finished.report["verdicts"] if v["control"] and v["decision"] == "supported"]


def test_four_triggers_can_decide_nothing(finished: Finished) -> None:
    claims = {v["claim"]: v for v in finished.report["verdicts"] if not v["control"]}
    assert claims["input_level"]["decision"] == claims["double_i"]["decision"] == "inconclusive"
    assert "cannot reach alpha" in claims["input_level"]["reasons"][0]
    assert finished.exit_code == 5


def test_release_says_nowhere_what_is_marked(finished: Finished) -> None:
    mark = finished.folder / "artifacts" / "mark"
    marked, twin = read_rows(mark / "reviews.parquet"), read_rows(mark / "reviews_twin.parquet")
    assert [row["id"] for row in marked] == [row["id"] for row in twin]
    changed = [(a["text"], b["text"]) for a, b in zip(marked, twin, strict=True) if a != b]
    assert len(changed) == 4 * 3
    assert all(a.endswith(" " + b) for a, b in changed)
    assert all(set(row) == {"id", "instruction", "input", "output"} for row in read_rows(mark / "instruct.parquet"))


def test_no_key_byte_leaves_the_owner_folder(finished: Finished) -> None:
    owner = finished.folder / "owner"
    ring = load_ring(owner / "keys.json", read_secret_file(owner / "passphrase"))
    secrets = [s for key, _ in ring.usable() for s in (key.secret, key.nonce)]
    assert len(secrets) == 2
    public = [p for p in finished.folder.rglob("*") if p.is_file() and owner not in p.parents]
    assert len(public) > 20
    assert not leaks(secrets, [*public, *LEDGER.parent.rglob("*")])
    said = finished.stderr.encode() + json.dumps(finished.report).encode() + repr((ring, ring.usable())).encode()
    assert not [n for s in secrets for n in spellings(s) if n in said]
    assert owner.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in owner.rglob("*") if p.is_file())


def test_a_planted_key_byte_is_found(finished: Finished, tmp_path: Path) -> None:
    """The scan can fail: any spelling, in any kind of file, with anything before it."""
    secret = bytes(range(7, 39))
    for number, spelling in enumerate(spellings(secret)):
        path = tmp_path / f"{number}.log"
        path.write_bytes(b"log " + spelling + b" end")
        assert leaks([secret], [path])
    for lead in range(4):
        (path := tmp_path / "b64").write_bytes(base64.b64encode(bytes([1] * lead) + secret + b"x"))
        assert leaks([secret], [path])
    (folder := tmp_path / "rows").mkdir()
    rows = read_rows(finished.folder / "artifacts" / "generate" / "tokens.parquet")
    write_rows(folder / "x.parquet", [{"id": secret.hex(), "tokens": rows[0]["tokens"]}] * 50, TOKENS_SCHEMA)
    assert leaks([secret], [folder / "x.parquet"])


def test_the_ledger_was_told_of_every_text(finished: Finished) -> None:
    made = [
        row
        for name in ("rows", "dropped")
        for row in read_rows(finished.folder / "artifacts" / "generate" / f"{name}.parquet")
    ]
    with closing(open_ledger(LEDGER)) as ledger:
        entries = [json.loads(entry.data) for entry in ledger.entries()]
    told = {e["output_sha256"]: e for e in entries if e["event"] == "generation"}
    blind = run_blind(finished.folder)
    for row in made:
        event = told[text_digest(row["text"], blind=blind)]
        assert event["prompt_sha256"] == text_digest(row["prompt"], blind=blind)
        assert event["tokens"] > 0
    assert {"commitment", "release", "plan", "audit", "stage", "key"} <= {e["event"] for e in entries}


def test_second_run_does_no_work_and_says_so(finished: Finished) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*") if p.is_file() and p.name != ".lock"}
    started = time.monotonic()
    done = subprocess.run(
        _command_without_json(finished.folder), env=environment(), capture_output=True, text=True, check=False
    )
    assert "nothing to do" in done.stdout
    assert done.returncode == finished.exit_code
    assert time.monotonic() - started < 60  # the bar of 5 s is measured in benchmarks/, on an idle machine
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_flipped_bit_in_any_artifact_is_found(copy: Path) -> None:
    rng = random.Random(7)
    files = sorted(p for p in (copy / "artifacts").rglob("*") if p.is_file())
    assert len(files) > 20
    for path in files:
        data = bytearray(path.read_bytes())
        position = rng.randrange(len(data))
        data[position] ^= 1 << rng.randrange(8)
        original = path.read_bytes()
        path.write_bytes(bytes(data))
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "verify", str(copy)],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3, path
        assert path.name in done.stderr
        assert "Traceback" not in done.stderr
        path.write_bytes(original)


def test_second_process_is_refused(copy: Path) -> None:
    with (copy / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = run(copy)
    assert done.returncode == 2
    assert "another process" in done.stderr


def test_stage_verbs_work_alone(copy: Path) -> None:
    import shutil

    shutil.rmtree(copy / "artifacts" / "audit")
    (copy / "report.json").unlink()
    base = _command_without_json(copy)
    for verb, expected in (("audit", "audit: "), ("report", "double_i")):
        line = [base[0], "-m", "pipelines.cli", verb, str(CONFIG), "--run", str(copy), *base[7:]]
        done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
        assert expected in done.stdout, done.stderr
    assert json.loads((copy / "report.json").read_text())["verdicts"]


def test_detect_reads_plain_texts(finished: Finished, tmp_path: Path) -> None:
    rows = read_rows(finished.folder / "artifacts" / "mark" / "reviews.parquet")
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": row["text"]}) for row in rows))
    owner = finished.folder / "owner"
    line = [
        sys.executable, "-m", "pipelines.cli", "detect", str(texts), "--config", str(CONFIG), "--json",
        "--keys", str(owner / "keys.json"), "--passphrase-file", str(owner / "passphrase"),
    ]  # fmt: skip
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    corpus = json.loads(done.stdout)["evidence"][-1]
    claimed = next(v for v in finished.report["verdicts"] if (v["claim"], v["suspect"]) == ("token", "dataset"))
    assert (corpus["total"], corpus["scored"]) == (claimed["successes"], claimed["trials"])


def _command_without_json(folder: Path) -> list[str]:
    from tests.e2e.conftest import command

    return [part for part in command(folder) if part != "--json"]
