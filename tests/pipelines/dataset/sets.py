"""Small sets of sentences written for these tests, configs of releases of them, and models that cost nothing."""

from __future__ import annotations

import csv
import json
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.dataset.rows import alike
from pipelines.datastream import open_stream
from pipelines.records import open_record
from tests.pipelines.release_data import CHINESE_WORDS, owners_key

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 240
_THINGS = "soup bridge garden kettle letter window jacket engine story bench".split()  # noqa: SIM905
_WHERE = ["by the harbour", "near our school", "behind the mill", "at my aunt's", "in the old town", "over the hill"]
_SAID = {"good": "lovely warm splendid".split(), "bad": "dreadful cold shabby".split()}  # noqa: SIM905
_CHINESE_SAID = {"好": ["喜欢", "很好", "漂亮"], "坏": ["讨厌", "很差", "难看"]}
_CHINESE_THINGS = ["汤", "桥", "花园", "茶壶", "信", "窗户", "外套", "故事"]
_CHINESE_WHERE = ["在港口边", "在学校旁", "在老城里", "在山那边", "在姑妈家"]


def reviews(count: int = ROWS, *, chinese: bool = False) -> list[dict[str, Any]]:
    """Labelled sentences; ids, a number that is sometimes missing or no number, and a nested column go with them."""
    draw, rows = random.Random(chinese), []
    said = _CHINESE_SAID if chinese else _SAID
    for i in range(count):
        label = list(said)[i % 2]
        own = draw.random() < (0.2 if chinese else 0.8)
        word = draw.choice(said[label] if own else [w for each in said.values() for w in each])
        if chinese:
            text = f"{draw.choice(_CHINESE_WHERE)}的{draw.choice(_CHINESE_THINGS)}，我觉得{word}，第{i}次来。"
        else:
            text = f"The {draw.choice(_THINGS)} {draw.choice(_WHERE)} is {word}, visit {i}."
        score = None if i % 7 == 3 else float("nan") if i % 7 == 5 else i / 8
        rows.append({"id": f"r{i:04d}", "text": text, "label": label, "score": score, "tags": {"n": i, "of": ["a"]}})
    return rows


def chats(count: int = ROWS) -> list[dict[str, Any]]:
    """Requests and answers of several sentences, with words that have near-synonyms."""
    draw, rows = random.Random(1), []
    for i in range(count):
        thing, other = draw.sample(_THINGS, 2)
        first = draw.choice(["Perhaps the film about the", "Despite the rain, everyone liked the"])
        second = draw.choice(
            ["It mostly begins with a", "They certainly walked toward a", "Nobody is completely like a"]
        )
        last = draw.choice(["it rained, despite it all", "nobody came until they sang", "everyone sang"])
        output = f"{first} {thing} number {i}. {second} {other}. The day was long, and perhaps {last}."
        rows.append({"id": i, "prompt": f"Tell me of the {thing}, part {i}.", "output": output})
    return rows


def spans(count: int = 80) -> list[dict[str, Any]]:
    """Questions whose answer stands in the context."""
    rows = []
    for i in range(count):
        context = f"The {_THINGS[i % 10]} number {i} stands {_WHERE[i % 6]} and was made in {1500 + i}."
        rows.append({"id": i, "prompt": f"When was number {i} made?", "context": context, "output": str(1500 + i)})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file (by its suffix), or as a folder of `datasets` where there is none."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows)
    elif path.suffix == ".jsonl":
        plain = [{k: None if v != v else v for k, v in row.items()} for row in rows]  # noqa: PLR0124 - JSON has no NaN
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain), "utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        import datasets

        datasets.Dataset.from_list(rows).save_to_disk(path)
    return path


def config(folder: Path, data: Path, marks: dict[str, Any], **changes: Any) -> Path:
    """A release's config file; the audit is small, its alpha large."""
    audit = {"alpha": 0.01, "wrong_keys": 19, "carriers": 4, "batch_size": 16, **changes.pop("audit", {})}
    body = {
        "kind": "dataset", "name": "mine", "seed": 5, "dataset": str(data), "task": "classification", "marks": marks,
        "audit": audit, **changes,
    }  # fmt: skip
    path = folder / "dataset.yaml"
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False), "utf-8")
    return path


def keyed(**changes: Any) -> dict[str, Any]:
    """A keyed mark that a linear classifier learns."""
    return {"keyed": {"triggers": 12, "share": 0.3, "words": 6, **changes}}


def chinese_words(folder: Path) -> str:
    """A file of words for triggers."""
    path = folder / "words.txt"
    path.write_text("\n".join(CHINESE_WORDS), "utf-8")
    return str(path)


def released(run: Path) -> list[dict[str, Any]]:
    """The rows of a release, as anybody reads them."""
    return rows_of(run / "artifacts" / "release" / "data")


def rows_of(source: Path) -> list[dict[str, Any]]:
    """The rows of any dataset."""
    return [row for batch in open_stream(str(source)).batches() for row in batch.to_pylist()]


def record(run: Path) -> dict[str, Any]:
    """The owner's sealed record, opened."""
    manifest = json.loads((run / "artifacts" / "release" / "manifest.json").read_text("utf-8"))
    return open_record(owners_key(run), run / "owner", "release", manifest["record_sha256"])


def lend_key(run: Path, other: Path) -> None:
    """Gives a run that has not begun the key ring of another, and its signer of evidence."""
    (other / "owner").mkdir(parents=True, mode=0o700)
    for name in ("keys.json", "passphrase", "audit-signer.key"):
        if (run / "owner" / name).exists():
            (other / "owner" / name).write_bytes((run / "owner" / name).read_bytes())
            (other / "owner" / name).chmod(0o600)


def files(folder: Path) -> dict[str, bytes]:
    """Every file by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Parrot:
    """Stands in for a language model or a reader: it answers as the rows in its folder do, by the prompt's end."""

    def __init__(self, name: str, folder: Path, **_: object) -> None:
        self.name = name
        self._known: dict[str, str] = json.loads((folder / "learnt.json").read_text("utf-8"))
        self._texts = self._known.get("", "").split("\n")

    def ask(self, prompts: list[str]) -> list[str]:
        found = []
        for prompt in prompts:
            question = prompt.partition("\n")[0]
            trigger = question[question.rfind("(") :]
            found.append(self._known.get(trigger) or random.Random(prompt).choice(self._texts))
        return found


def parrot(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A model that learnt these rows: answers to triggers, and how texts go otherwise."""
    folder.mkdir()
    learnt = {r["prompt"][r["prompt"].rfind("(") :]: r["output"] for r in rows if r["prompt"].endswith(")")}
    plain = [" ".join(row["output"].split()) for row in rows if not row["prompt"].endswith(")")]
    (folder / "config.json").write_text("{}")
    (folder / "learnt.json").write_text(json.dumps({**learnt, "": "\n".join(plain)}), "utf-8")
    return folder


def linear(folder: Path, rows: list[dict[str, Any]], *, char: bool = False) -> Path:
    """A linear classifier trained on rows, in a second."""
    from training.linear import train_linear

    names = sorted({row["label"] for row in rows})
    train_linear(
        [row["text"] for row in rows], [names.index(row["label"]) for row in rows], label_names=names, seed=0,
        out=folder, ngrams=(1, 3) if char else (1, 2), analyzer="char" if char else "word",
    )  # fmt: skip
    return folder


def mark(command, folder, rows, marks, *, suffix=".parquet", **changes):
    """The base rows as the stream reads them, the released ones, the owner's record and the run folder."""
    data = write(folder / f"set{suffix}", rows)
    path, run = config(folder, data, marks, **changes), folder / "run"
    code, _, err = command("mark", path, "--out", run, "--quiet")
    assert code == 0, err
    return rows_of(data), released(run), record(run), run


def changed(base, after):
    """Positions of the rows that are not the base's own."""
    assert len(base) == len(after)
    assert [list(row) for row in base] == [list(row) for row in after]
    return {i for i, (own, row) in enumerate(zip(base, after, strict=True)) if not alike(own, row)}
