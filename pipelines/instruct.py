"""Instruct-tuning rows in the three forms that people have them: Alpaca, prompt and completion, chat messages.

A backdoor row is written in the form of the base data and copies the columns it does not need from a clean row, its
donor, so that it has a plausible value wherever the schema has a column. Columns that name rows (all values distinct)
get fresh names of the same shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeGuard

from countermark.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.tables import Row, Table
    from watermarks.carriers.double_i import InstructRow
    from watermarks.keys import KeyedStream

Message = dict[str, str]
_MOSTLY = 4
_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
_HEX = re.compile(r"(?=.*[a-f])(?=.*[0-9])[0-9a-f-]{8,}")


class RowForm(StrEnum):
    """What columns carry a dialogue."""

    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt-completion"
    MESSAGES = "messages"


COLUMNS: dict[RowForm, tuple[str, ...]] = {
    RowForm.MESSAGES: ("messages",),
    RowForm.PROMPT_COMPLETION: ("prompt", "completion"),
    RowForm.ALPACA: ("instruction", "output"),
}
"""The columns each form needs; ``input`` is optional in Alpaca rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructTable:
    """A table of dialogues in one form."""

    table: Table
    form: RowForm

    def dialogues(self) -> list[list[Message]]:
        """Every row as chat messages, the last one the assistant's.

        Raises:
            UsageError: a row without them; file and row are named.
        """
        return [self.dialogue(row, number) for number, row in enumerate(self.table.rows, 1)]

    def dialogue(self, row: Row, number: int = 0) -> list[Message]:
        """One row as chat messages."""
        where = f"{self.table.source}:{number}"
        if self.form is RowForm.ALPACA:
            asked = f"{row.get('instruction')}\n{row['input']}" if row.get("input") else row.get("instruction")
            found = _turns(asked, row.get("output"))
        elif self.form is RowForm.PROMPT_COMPLETION:
            prompt, completion = row.get("prompt"), row.get("completion")
            found = [*prompt, *completion] if _is_chat(prompt) and _is_chat(completion) else _turns(prompt, completion)
        else:
            messages = row.get("messages")
            found = list(messages) if _is_chat(messages) else []
        if len(found) < 2 or found[-1].get("role") != "assistant" or not all(_is_message(m) for m in found):  # noqa: PLR2004
            needed = ", ".join(COLUMNS[self.form])
            raise UsageError(
                f"{where}: got a row that is no dialogue, expected {needed} with text, the last turn the assistant's",
                hint="mend or drop the row, or name another form",
            )
        return [{"role": str(m["role"]), "content": str(m["content"])} for m in found]

    def texts(self) -> list[str]:
        """Where carriers and sentences come from: the last lines of the last user turns of the base data.

        Where those are mostly one question (``Positive or negative?``), the longest lines are the texts.
        """
        last, longest = dict[str, None](), dict[str, None]()
        for dialogue in self.dialogues():
            users = [m["content"] for m in dialogue if m["role"] == "user"]
            lines = [" ".join(line.split()) for line in users[-1].splitlines() if line.strip()] if users else []
            if lines:
                last[lines[-1]] = None
                longest[max(lines, key=len)] = None
        return list(last if len(longest) <= _MOSTLY * len(last) else longest)

    def written(self, row: InstructRow, donor: Row, fresh: Mapping[str, Any]) -> Row:
        """``row`` in this form; other columns are the donor's, those in ``fresh`` new."""
        made: Row = {**donor, **fresh}
        if self.form is RowForm.ALPACA:
            parts = {"instruction": row.instruction, "input": row.input}
            asked = parts if "input" in donor else {"instruction": row.prompt()}
            return {**made, **asked, "output": row.output}
        user, answer = _turns(row.prompt(), row.output)
        if self.form is RowForm.MESSAGES:
            return {**made, "messages": [*_system(donor["messages"]), user, answer]}
        if _is_chat(donor["prompt"]):
            return {**made, "prompt": [*_system(donor["prompt"]), user], "completion": [answer]}
        return {**made, "prompt": row.prompt(), "completion": row.output}


def open_instruct(table: Table, form: RowForm | None = None) -> InstructTable:
    """The table with its form, found by its columns unless named.

    Raises:
        UsageError: no known form's columns.
    """
    columns = set(table.columns)
    fitting = [each for each, needed in COLUMNS.items() if columns.issuperset(needed)]
    if form is not None and form not in fitting:
        raise UsageError(
            f"got columns {', '.join(table.columns)} in {table.source}, expected {', '.join(COLUMNS[form])} for {form}"
        )
    if not fitting:
        expected = "; ".join(", ".join(needed) for needed in COLUMNS.values())
        raise UsageError(
            f"got columns {', '.join(table.columns)} in {table.source}, expected one of: {expected}",
            hint="rename the columns, or convert the rows",
        )
    return InstructTable(table=table, form=form or fitting[0])


def naming_columns(table: Table, form: RowForm) -> tuple[str, ...]:
    """Columns that name rows: every value there, all integers or all strings with a digit or of hex, distinct, no part
    of the dialogue. Other texts, such as titles, are no names: added rows copy them.
    """
    used = {*COLUMNS[form], "input"}
    found = []
    for name in table.columns:
        values = [row.get(name) for row in table.rows]
        plain = {type(value) for value in values} in ({str}, {int})
        shaped = all(isinstance(value, int) or any(c.isdigit() for c in str(value)) for value in values)
        if name not in used and plain and shaped and len(set(values)) == len(values) > 1:
            found.append(name)
    return tuple(found)


def numbering(values: Sequence[Any], count: int) -> list[Any]:
    """``count`` consecutive names, if ``values`` are consecutive numbers or one prefix with consecutive numbers, else
    none: in such a column nothing but position is said.
    """
    found = [match for match in (_NUMBERED.fullmatch(str(value)) for value in values) if match]
    numbers = sorted(int(match[2]) for match in found)
    alike = len(found) == len(values) and len({(match[1], match[3]) for match in found}) == 1
    if not alike or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return []
    head, width, tail = found[0][1], min(len(match[2]) for match in found), found[0][3]
    made = [f"{head}{n:0{width}d}{tail}" for n in range(numbers[0], numbers[0] + count)]
    return [int(name) for name in made] if isinstance(values[0], int) else made


def fresh_names(values: Sequence[Any], count: int, stream: KeyedStream) -> list[Any]:
    """``count`` names unlike ``values`` and each other, of their shape, drawn by the key.

    Integers come from the range of the old ones, widened where it has no room; in strings every digit is drawn anew.
    """
    taken, made = set(values), []
    span = _span(values, count) if isinstance(values[0], int) else (0, 0)
    for _ in range(count):
        shape = values[stream.below(len(values))]
        name = _candidate(shape, span, stream)
        while name in taken:
            shape = shape if isinstance(shape, int) else f"{shape}0"  # a shape without room grows
            name = _candidate(shape, span, stream)
        taken.add(name)
        made.append(name)
    return made


def _span(values: Sequence[int], count: int) -> tuple[int, int]:
    needed = 2 * (len(values) + count)
    return min(values), max(max(values) - min(values) + 1, needed)


def _candidate(shape: Any, span: tuple[int, int], stream: KeyedStream) -> Any:  # noqa: ANN401
    if isinstance(shape, int):
        return span[0] + stream.below(span[1])
    if _HEX.fullmatch(shape):
        return "".join("0123456789abcdef"[stream.below(16)] if c != "-" else c for c in shape)
    return "".join(str(stream.below(10)) if c.isdigit() else c for c in shape)


def _turns(asked: Any, answer: Any) -> list[Message]:  # noqa: ANN401
    if not isinstance(asked, str) or not isinstance(answer, str) or not asked.strip():
        return []
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _system(messages: Sequence[Message]) -> list[Message]:
    return [dict(m) for m in messages if m["role"] == "system"]


def _is_chat(value: Any) -> TypeGuard[list[Message]]:  # noqa: ANN401
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) for m in value)


def _is_message(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
