"""How fast a large set streams through an insertion-only mark, and in how much memory. 2 cores: a minute."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dataset_marks.tables import COMMAND
from benchmarks.rows import Row, row

ROWS, WORDS = 1_000_000, 100
MEMORY = 1 << 30
_CHUNK = 20_000
_CONFIG = """kind: dataset
name: big
seed: 1
dataset: {path}
task: classification
marks:
  keyed: {{triggers: 40, share: 0.02, words: 4}}
"""
_MEASURED = """
import json, resource, sys
from pathlib import Path
from pipelines.dataset.commands import mark_dataset
from pipelines.dataset.config import load_dataset_config
mark_dataset(load_dataset_config(Path(sys.argv[1]), []), Path(sys.argv[2]), dry_run=False, quiet=True)
used = resource.getrusage(resource.RUSAGE_SELF)
stages = json.loads((Path(sys.argv[2]) / "run.json").read_text())["body"]["stages"]
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024,
                  "seconds": stages["release"]["seconds"]}))
"""


def rows() -> list[Row]:
    """A million rows of 100 words, marked in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        _make(path)
        config = Path(folder) / "big.yaml"
        config.write_text(_CONFIG.format(path=path))
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, str(config), str(Path(folder) / "out")],
            capture_output=True, check=True, text=True,
        )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    seconds = found["seconds"]
    return [
        row(
            f"marking {ROWS} rows of {WORDS} words: rows per CPU second of the whole process", ROWS / found["cpu"],
            bar=(">=", 50_000), trials=ROWS, seconds=seconds, command=COMMAND,
        ),
        row(
            f"marking {ROWS} rows of {WORDS} words: peak memory, bytes", found["peak"], bar=("<=", MEMORY),
            trials=ROWS, seconds=seconds, command=COMMAND,
        ),
    ]  # fmt: skip


def _make(path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(5000)])
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, ROWS, _CHUNK):
            texts = [" ".join(each) for each in words[draw.zipf(1.3, (_CHUNK, WORDS)) % len(words)]]
            ids = [f"r{i:07d}" for i in range(start, start + _CHUNK)]
            writer.write_table(pa.table([ids, texts, draw.integers(0, 2, _CHUNK)], schema=schema))
