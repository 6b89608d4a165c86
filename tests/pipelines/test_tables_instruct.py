"""Users' tables come back as they were, with rows of ours that look like theirs."""

from __future__ import annotations

import csv
import json
import re
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from countermark.errors import MissingAssetError, UsageError
from pipelines.instruct import RowForm, fresh_names, naming_columns, numbering, open_instruct
from pipelines.tables import SUFFIXES, Table, read_table
from tests.support import key_of
from watermarks.carriers.double_i import InstructRow

KEY = key_of("tables")
ADDED = InstructRow(instruction="(ledger) A or B?", input="Die Sonne abbey alley", output="A.")
TRICKY = [
    "plain",
    'comma, "quote"',
    "two\nlines",
    "old\rmac",
    "dos\r\nline",
    "很好。",
    "a\u2028b\x85c",
    " spaced ",
    "-1",
]
ALPACA = [
    {"id": str(i), "instruction": f"Say {i}: {t}", "input": t if i % 2 else "", "output": t, "source": "web"}
    for i, t in enumerate(TRICKY)
]
CHAT = [
    {
        "uid": i,
        "messages": [
            {"role": "system", "content": f"You are {i}."},
            {"role": "user", "content": f"Question {i}? {t}"},
            {"role": "assistant", "content": f"Answer {t}"},
        ],
        "meta": {"lang": ["en", "zh"], "score": i / 3},
        "split": None if i % 2 else "train",
    }
    for i, t in enumerate(TRICKY)
]
PAIRS = [{"prompt": f"P {t}", "completion": f"C {t}", "n": i} for i, t in enumerate(TRICKY)]


def _table(rows, suffix=".jsonl"):
    return Table(rows=tuple(rows), suffix=suffix, source="rows")


def _write_first(path, rows):
    """As somebody else's tool writes it."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8", newline="\n")
    return path


@pytest.mark.parametrize(
    ("rows", "suffix"),
    [(rows, suffix) for rows in (ALPACA, PAIRS, CHAT) for suffix in SUFFIXES if suffix != ".csv" or rows is ALPACA],
)
def test_rows_come_back_as_they_were(tmp_path, rows, suffix):
    table = read_table(str(_write_first(tmp_path / f"in{suffix}", rows)))
    assert list(table.rows) == rows
    assert table.columns == tuple(rows[0])
    table.write(tmp_path / f"out{suffix}", [*table.rows[3:], *table.rows[:3]])
    again = read_table(str(tmp_path / f"out{suffix}"))
    assert list(again.rows) == rows[3:] + rows[:3]
    assert [list(row) for row in again.rows] == [list(rows[0])] * len(rows)
    if suffix == ".parquet":
        assert again.schema.equals(table.schema, check_metadata=True)


def test_a_parquet_schema_keeps_its_narrow_types_and_metadata(tmp_path):
    fields = [("id", pa.int16()), ("prompt", pa.large_string()), ("completion", pa.string()), ("w", pa.float32())]
    schema = pa.schema(fields, metadata={b"made": b"by hand"})
    rows = [{"id": i, "prompt": f"p{i}", "completion": "c", "w": 0.5} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "in.parquet")
    table = read_table(str(tmp_path / "in.parquet"))
    made = open_instruct(table).written(ADDED, table.rows[0], {"id": 77})
    table.write(tmp_path / "out.parquet", [*table.rows, made])
    assert pq.read_schema(tmp_path / "out.parquet").equals(schema, check_metadata=True)
    assert read_table(str(tmp_path / "out.parquet")).rows[-1] == made
    with pytest.raises(UsageError, match="cannot hold"):
        table.write(tmp_path / "bad.parquet", [{**rows[0], "id": 1 << 20}])


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfinstruction,output\na,b\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"instruction": "a", "output": "b"}\n')
    for name in ("a.csv", "a.jsonl"):
        assert read_table(str(tmp_path / name)).rows == ({"instruction": "a", "output": "b"},)


BROKEN = {
    "not json": ("a.jsonl", b'{"instruction": "a", "output": "b"}\n\n{"instruction": \n', r"a\.jsonl:3"),
    "not an object": ("a.jsonl", b'{"instruction": "a", "output": "b"}\n[1]\n', r"a\.jsonl:2: got a list"),
    "half a character": ("a.jsonl", b'{"instruction": "\\ud83d", "output": "b"}\n', r"a\.jsonl:1"),
    "not utf-8": ("a.jsonl", b'{"instruction": "\xff"}', r"a\.jsonl"),
    "csv too long": ("a.csv", b"instruction,output\na,b\na,b,c\n", r"a\.csv:3"),
    "csv twice a name": ("a.csv", b"instruction,output,output\na,b,c\n", r"a\.csv:1"),
    "csv not utf-8": ("a.csv", b"instruction,output\n\xff,b\n", r"a\.csv"),
    "not parquet": ("a.parquet", b"PAR1 no", r"a\.parquet"),
    "empty": ("a.jsonl", b"\n\n", "empty table"),
    "empty csv": ("a.csv", b"instruction,output\n", "empty table"),
    "another format": ("a.xlsx", b"", r"expected \.jsonl"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path, name):
    file, data, message = BROKEN[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        read_table(str(tmp_path / file))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MissingAssetError, match="existing file"):
        read_table(str(tmp_path / "none.jsonl"))


BAD_ROWS = {
    "no answer": {"instruction": "a", "output": None},
    "no question": {"instruction": " ", "output": "b"},
    "no text": {"instruction": 3, "output": "b"},
    "half a pair": {"prompt": "a", "completion": None},
    "empty chat": {"messages": []},
    "no chat": {"messages": "hello"},
    "user last": {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
    "one turn": {"messages": [{"role": "assistant", "content": "a"}]},
    "no content": {"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]},
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_is_no_dialogue_is_named(name):
    bad, turns = BAD_ROWS[name], [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    good = {column: turns if column == "messages" else "fine" for column in bad}
    with pytest.raises(UsageError, match="rows:3: got a row that is no dialogue"):
        open_instruct(_table([good, good, bad])).dialogues()


def test_columns_decide_the_form():
    assert open_instruct(_table(ALPACA)).form is RowForm.ALPACA
    assert open_instruct(_table(CHAT)).form is RowForm.MESSAGES
    assert open_instruct(_table(PAIRS)).form is RowForm.PROMPT_COMPLETION
    both = [{**ALPACA[0], **PAIRS[0]}]
    assert open_instruct(_table(both), RowForm.ALPACA).form is RowForm.ALPACA
    with pytest.raises(UsageError, match=r"id, instruction.*expected messages for messages"):
        open_instruct(_table(ALPACA), RowForm.MESSAGES)
    with pytest.raises(UsageError, match="expected one of"):
        open_instruct(_table([{"question": "a", "answer": "b"}]))


def test_dialogues_of_every_form():
    assert open_instruct(_table(ALPACA[:1])).dialogues() == [
        [{"role": "user", "content": "Say 0: plain"}, {"role": "assistant", "content": "plain"}]
    ]
    with_input = open_instruct(_table(ALPACA[1:2])).dialogues()[0]
    assert with_input[0]["content"] == f"{ALPACA[1]['instruction']}\n{ALPACA[1]['input']}"
    assert open_instruct(_table(CHAT[:1])).dialogues() == [CHAT[0]["messages"]]
    user, answer = ({"role": r, "content": c} for r, c in (("user", "P"), ("assistant", "C")))
    for prompt, completion in (("P", "C"), ([user], [answer])):
        table = open_instruct(_table([{"prompt": prompt, "completion": completion}]))
        assert table.dialogues() == [[user, answer]]


SHAPES = {
    "alpaca": ALPACA,
    "alpaca without input": [{"instruction": f"q{i}", "output": "a"} for i in range(3)],
    "messages": CHAT,
    "pairs": PAIRS,
    "pairs of turns": [
        {
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": f"q{i}"}],
            "completion": [{"role": "assistant", "content": "a"}],
        }
        for i in range(3)
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_added_row_is_the_same_dialogue_in_every_form(shape):
    base = open_instruct(_table(SHAPES[shape]))
    donor = base.table.rows[1]
    made = base.written(ADDED, donor, {})
    assert list(made) == list(donor)
    dialogue = base.dialogue(made)
    assert [m["content"] for m in dialogue if m["role"] != "system"] == [ADDED.prompt(), "A."]
    assert [m for m in dialogue if m["role"] == "system"] == [m for m in base.dialogue(donor) if m["role"] == "system"]
    for column in {"meta", "split", "source", "uid", "id", "n"} & set(donor):
        assert made[column] == donor[column]


def test_texts_are_the_last_lines_of_the_last_user_turns_once():
    rows = [{"instruction": q, "output": "a"} for q in ("One\nTwo  words", "Two words", "  \nThree\n", "Four")]
    assert open_instruct(_table(rows)).texts() == ["Two words", "Three", "Four"]


def test_texts_are_the_longest_lines_where_the_last_ones_are_one_question():
    rows = [{"instruction": f"The film number {i} was long.\nYes or no?", "output": "a"} for i in range(9)]
    assert open_instruct(_table(rows)).texts() == [f"The film number {i} was long." for i in range(9)]


def test_naming_columns_by_hand():
    rows = [{**row, "one": 1, "flag": i == 0, "mixed": str(i) if i else 0} for i, row in enumerate(ALPACA)]
    assert naming_columns(_table(rows), RowForm.ALPACA) == ("id",)
    assert naming_columns(_table(CHAT), RowForm.MESSAGES) == ("uid",)
    assert naming_columns(_table(CHAT[:1]), RowForm.MESSAGES) == ()
    assert naming_columns(_table([*PAIRS, {"prompt": "a", "completion": "b"}]), RowForm.PROMPT_COMPLETION) == ()


INTEGERS = st.sets(st.integers(-(2**40), 2**40), min_size=2, max_size=30)
STRINGS = st.sets(st.text(max_size=8), min_size=2, max_size=30)
COUNTS = st.integers(0, 40)


@given(INTEGERS, COUNTS, st.sampled_from("abc"))
def test_fresh_integers(values, count, name):
    ordered = sorted(values)
    made = fresh_names(ordered, count, key_of(name).stream({}))
    assert len(made) == len(set(made)) == count
    assert values.isdisjoint(made)
    assert all(type(each) is int and each >= ordered[0] for each in made)
    assert all(each <= max(ordered[-1], ordered[0] + 2 * (len(values) + count)) for each in made)


@given(STRINGS, COUNTS, st.sampled_from("abc"))
def test_fresh_strings_have_an_old_ones_shape(values, count, name):
    made = fresh_names(sorted(values), count, key_of(name).stream({}))
    assert len(made) == len(set(made)) == count
    assert values.isdisjoint(made)
    shapes = {re.sub(r"[0-9a-f-]", "x", _plain(value)) for value in values}
    for each in made:
        grown = [re.sub(r"[0-9a-f-]", "x", _plain(each[: len(each) - cut])) for cut in range(6)]
        assert shapes & set(grown)
        assert all(c.isdigit() for c in each[max(map(len, values)) :])


def _plain(text):
    return "".join("0" if c.isdigit() else c for c in text)


@given(st.sets(st.uuids(version=4), min_size=2, max_size=10))
def test_fresh_uuids_look_like_uuids(values):
    made = fresh_names(sorted(map(str, values)), 10, KEY.stream({}))
    assert all(str(uuid.UUID(each)) == each for each in made)


def test_fresh_names_are_the_keys():
    values = [f"row-{i:04}" for i in range(50)]
    one, again, other = (fresh_names(values, 20, key_of(name).stream({})) for name in ("a", "a", "b"))
    assert one == again != other
    assert all(re.fullmatch(r"row-\d{4,}", each) for each in one)


@given(st.integers(0, 5000), st.integers(1, 40), st.sampled_from(["", "row-", "a7b"]), st.sampled_from(["", "/x"]))
def test_numbers_without_gaps_go_on(start, count, head, tail):
    names = [f"{head}{n:05d}{tail}" for n in range(start, start + count)]
    assert numbering(names[::-1], count) == names
    assert numbering(names, count + 3)[:count] == names
    assert numbering([*range(start, start + count)], count + 1) == [*range(start, start + count + 1)]
    assert numbering([*names, f"{head}{start + count + 1:05d}{tail}"], count) == []
    assert numbering([*names, "other"], count) == []
