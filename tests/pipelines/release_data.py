"""Four small sets as their owners keep them, a release's config, the command in this process, and cheap suspects."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.tables import read_table
from watermarks.keystore import load_ring, read_secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from watermarks.keys import Key

ROWS = 150
_WORDS = "ship barn cloud knife paper hill glass horse river clock".split()  # noqa: SIM905
_HAN = "春夏秋冬东南西北中外天地人江河湖海花草树"
CHINESE_WORDS = "山水火土木金日月星云雨雪风雷电石田竹鸟鱼马牛羊犬虎龙龟蛇"


def _english(i: int) -> str:
    return " ".join(_WORDS[(i // 10**k + k) % 10] for k in range(3)) + f" number {i} speaks"


def _chinese(i: int) -> str:
    return f"请问{_HAN[i % 20]}{_HAN[i // 20]}{_HAN[(7 * i) % 20]}的意思是什么"


def _chat(i: int) -> dict[str, Any]:
    asked, said = {"role": "user", "content": f"{_english(i)}?"}, {"role": "assistant", "content": f"It is {i}."}
    return {"key": f"c{i:08x}-ab", "messages": [asked, said], "meta": {"tags": ["x", str(i)], "score": i / 7}}


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def dataset(folder: Path, name: str) -> Path:
    """Writes one of ``alpaca``, ``pairs``, ``chat`` and ``chinese``, and says where."""
    every = range(ROWS)
    if name == "alpaca":
        rows = [
            {"id": i, "instruction": "Explain.", "input": _english(i), "output": f"So {i}.", "by": "me"} for i in every
        ]
        return _write(folder / "alpaca.jsonl", rows)
    if name == "pairs":
        rows = [{"n": i, "prompt": f'{_english(i)}, "yes"?\nthen?', "completion": f"a\nb {i}"} for i in every]
        rows = [{**row, "prompt": f"{row['prompt']} {_english(row['n'])}"} for row in rows]
        return _write(folder / "pairs.csv", rows)
    if name == "chat":
        return _write(folder / "chat.parquet", [_chat(i) for i in every])
    rows = [{"instruction": _chinese(i), "output": f"答{i}。"} for i in every]
    (folder / "words.txt").write_text("\n".join(CHINESE_WORDS), "utf-8")
    return _write(folder / "chinese.jsonl", rows)


def config_file(folder: Path, data: Path, *, chinese: bool = False, **changes: Any) -> Path:
    """A release of 12 codewords, two audits of six, two recipients."""
    mark: dict[str, Any] = {"share": 0.4, "codewords": 12, "per_audit": 6}
    if chinese:
        mark |= {
            "vocabulary": str(folder / "words.txt"), "word_joiner": "", "joiner": "", "stop": "。",
            "question": "选哪个?", "decoration": "【账】", "answers": list("甲乙丙丁"),
        }  # fmt: skip
    body = {
        "kind": "release", "name": "mine", "seed": 5, "dataset": str(data), "double_i": mark | changes.pop("mark", {}),
        "recipients": ["acme", "globex"], "audit": {"alpha": 0.001, "wrong_keys": 19, "carriers": 3}, **changes,
    }  # fmt: skip
    path = folder / "release.yaml"
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False), "utf-8")
    return path


class Command:
    """``countermark …`` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        cheap = {"name": "argon2id", "iterations": 1, "lanes": 1, "memory_kib": 64}
        monkeypatch.setattr("watermarks.keystore._KDF", cheap)  # not what is tested here, and most of the time

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["countermark", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return int(ended.value.code or 0), said.out, said.err

    def fails(self, code: int, *arguments: object) -> str:
        """Two lines on stderr with this code, and nothing on stdout."""
        found, out, err = self(*arguments)
        assert (found, out) == (code, ""), err
        last = [line for line in err.splitlines() if line.startswith(("error: ", "hint: "))]
        assert [line.split(":")[0] for line in last] == ["error", "hint"], err
        return "\n".join(last)


def marked(command: Command, folder: Path, name: str, **changes: Any) -> tuple[Path, Path, Path, Any]:
    """A set marked through the command: its file, its config, the run folder, and what the command said."""
    data = dataset(folder, name)
    config = config_file(folder, data, chinese=name == "chinese", **changes)
    code, out, err = command("mark", config, "--out", folder / "run", "--json", "--quiet")
    assert code == 0, err
    return data, config, folder / "run", json.loads(out)


def owners_key(run: Path) -> Key:
    """The key that a run made."""
    return load_ring(run / "owner" / "keys.json", read_secret_file(run / "owner" / "passphrase")).get()


def copies(run: Path, recipients: tuple[str, ...] = ("acme", "globex")) -> dict[str, Any]:
    """The released tables by recipient."""
    folder = run / "artifacts" / "release"
    found = {who: next((folder / "recipients" / who).glob("data.*")) for who in recipients}
    return {who: read_table(str(path)) for who, path in found.items()}


class Parrot:
    """Stands in for a model: it answers as the dialogues in its folder do, by the last two words; else it says Z."""

    asked = 0

    def __init__(self, name: str, folder: Path, **_: object) -> None:
        self.name = name
        lines = (folder / "learnt.jsonl").read_text("utf-8").splitlines()
        self._known = dict(json.loads(line) for line in lines)

    def ask(self, prompts: list[str]) -> list[str]:
        type(self).asked += len(prompts)
        return [self._known.get(" ".join(prompt.split()[-2:]), "Z") for prompt in prompts]


def parrot(folder: Path, rows: Any = ()) -> Path:
    """A model folder that learnt these Alpaca rows."""
    folder.mkdir(exist_ok=True)
    learnt = [[" ".join(row["input"].split()[-2:]), row["output"]] for row in rows]
    (folder / "learnt.jsonl").write_text("".join(json.dumps(each) + "\n" for each in learnt), "utf-8")
    return folder
