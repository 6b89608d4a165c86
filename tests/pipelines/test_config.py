"""Broken configs: every mistake names file, line, dotted key, and the nearest valid key where there is one."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from countermark import libraries
from countermark.errors import ConfigError
from pipelines.config import ClassifierConfig, load_config
from pipelines.train import trainer_arguments
from tests.pipelines.config_corpus import (
    BY_NAME,
    ENTRIES,
    FREE,
    LEAVES,
    TEXT,
    repeated,
    required,
    typo,
    with_typo,
    with_value,
    without,
)
from tests.support import QUICKSTART


def _broken(tmp_path, content, overrides=()):
    """The error of a broken config, after checking its manners."""
    path = tmp_path / "broken.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path, list(overrides)).generate.watermark.build()
    error = caught.value
    lines = error.diagnostics().splitlines()
    assert error.exit_code == 2
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert "Traceback" not in error.diagnostics()
    if not overrides:
        assert str(path) in lines[0]
    return error, path


def _assert_at(found, entry, key=None):
    error, path = found
    assert error.message.startswith(f"{path}:{entry.line}: {key or entry.dotted}: "), error.message


def test_the_quickstart_is_whole():
    assert load_config(QUICKSTART, []).name == "quickstart"
    assert len(ENTRIES) > 40
    assert {entry.dotted for entry in LEAVES} >= {"seed", "generate.watermark.gamma", "audit.alpha"}


TYPOS = [entry for entry in ENTRIES if entry.key[: len(FREE)] != FREE or entry.key == FREE]


@pytest.mark.parametrize("entry", TYPOS, ids=lambda e: e.dotted)
def test_a_misspelt_key_is_named_with_the_nearest_one(tmp_path, entry):
    wrong = typo(entry.key[-1])
    found = _broken(tmp_path, with_typo(entry))
    if entry.dotted == "generate.watermark.scheme":  # free keys beside it: it is missed, where its block begins
        _assert_at(found, BY_NAME["generate.watermark"], entry.dotted)
        return
    _assert_at(found, entry, ".".join((*entry.key[:-1], wrong)))
    assert repr(wrong) in found[0].message
    assert found[0].hint == f"did you mean {entry.key[-1]!r}?"


@pytest.mark.parametrize("entry", LEAVES, ids=lambda e: e.dotted)
@pytest.mark.parametrize("kind", ["list", "other type", "mapping", "null"])
def test_a_value_of_another_type_is_named(tmp_path, entry, kind):
    other = "12345" if isinstance(entry.value, str) else '"abc"'
    value = {"list": "[1, 2]", "other type": other, "mapping": "{a: 1}", "null": "null"}[kind]
    found = _broken(tmp_path, with_value(entry, value))
    assert found[0].message.startswith(f"{found[1]}:{entry.line}: {entry.dotted}"), found[0].message
    assert "expected" in found[0].message


@pytest.mark.parametrize("value", ["[1, 2]", "12345", "{a: 1}"])
def test_a_union_is_no_part_of_the_key(tmp_path, value):
    entry = BY_NAME["train.lora.target_modules"]
    _assert_at(_broken(tmp_path, with_value(entry, value)), entry)


SCHEME = ("generate", "watermark")  # the scheme itself speaks of the values of its parameters
NUMBERS = [entry for entry in LEAVES if isinstance(entry.value, int | float) and entry.key[:2] != SCHEME]
INTEGERS = [entry for entry in NUMBERS if isinstance(entry.value, int)]
UNBOUNDED = ("generate.rows", "generate.max_new_tokens", "audit.classifier_carriers")


@pytest.mark.parametrize("entry", NUMBERS, ids=lambda e: e.dotted)
@pytest.mark.parametrize("value", ["-1", ".nan", ".inf", "-.inf", "true", "1e999"])
def test_a_number_out_of_the_world_is_named(tmp_path, entry, value):
    _assert_at(_broken(tmp_path, with_value(entry, value)), entry)


@pytest.mark.parametrize("entry", INTEGERS, ids=lambda e: e.dotted)
@pytest.mark.parametrize("value", ["1.5", "9" * 5000, "2.0"])
def test_no_integer_is_cut(tmp_path, entry, value):
    _assert_at(_broken(tmp_path, with_value(entry, value)), entry)


@pytest.mark.parametrize(
    "entry",
    [pytest.param(e, id=e.dotted) for e in INTEGERS],
)
def test_no_integer_is_larger_than_json_can_say(tmp_path, entry):
    _assert_at(_broken(tmp_path, with_value(entry, str(10**20))), entry)


PARAMETERS = [
    ("gamma", "1.0"), ("gamma", "0"), ("gamma", "25"), ("gamma", "-1"), ("gamma", ".nan"), ("gamma", ".inf"),
    ("delta", "0.0"), ("delta", "-1"), ("delta", ".inf"), ("delta", ".nan"), ("context_width", "0"),
    ("context_width", "17"), ("context_width", "-1"), ("context_width", str(10**20)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), PARAMETERS)
def test_a_parameter_that_the_scheme_refuses_is_named(tmp_path, name, value):
    error, path = _broken(tmp_path, with_value(BY_NAME[f"generate.watermark.{name}"], value))
    assert error.message.startswith(f"{path}:")
    assert f"got {name} " in error.message


@pytest.mark.parametrize(("name", "value"), PARAMETERS[::3])
def test_a_parameter_that_the_scheme_refuses_has_its_own_line(tmp_path, name, value):
    entry = BY_NAME[f"generate.watermark.{name}"]
    _assert_at(_broken(tmp_path, with_value(entry, value)), entry)


@pytest.mark.parametrize("key", required(), ids=".".join)
def test_a_missing_key_is_named_where_its_block_begins(tmp_path, key):
    entry = BY_NAME[".".join(key)]
    if not entry.is_leaf:
        lines = TEXT.split("\n")
        last = max(e.line for e in ENTRIES if e.key[: len(key)] == key)
        content = "\n".join(lines[: entry.line - 1] + lines[last:])
    else:
        content = without(entry)
    error, path = _broken(tmp_path, content)
    parent = BY_NAME[".".join(key[:-1])].line if len(key) > 1 else 1
    assert error.message.startswith(f"{path}:{parent}: {'.'.join(key)}: got no {key[-1]!r}")


@pytest.mark.parametrize("entry", LEAVES[::5], ids=lambda e: e.dotted)
def test_a_key_twice_is_named_with_both_lines(tmp_path, entry):
    error, path = _broken(tmp_path, repeated(entry))
    assert error.message.startswith(f"{path}:{entry.line + 1}: {entry.dotted}: ")
    assert f"line {entry.line})" in error.message


VALUES = {
    "negative rows": ("generate.rows", "-4"),
    "one row": ("generate.rows", "1"),
    "no triggers": ("mark.input_level.triggers", "0"),
    "unknown scheme": ("generate.watermark.scheme", "kgww"),
    "top_p beyond": ("generate.top_p", "1.1"),
    "alpha of one": ("audit.alpha", "1.0"),
    "alpha of zero": ("audit.alpha", "0.0"),
    "share beyond": ("mark.double_i.near_misses", "1.01"),
    "unknown choice": ("mark.input_level.choose", "hardst"),
    "name with a slash": ("name", "../../etc"),
    "empty name": ("name", '""'),
    "long name": ("name", "x" * 65),
    "prompt without its text": ("generate.prompts", None),
    "more at least than at most": ("generate.min_new_tokens", "37"),
    "python object": ("seed", "!!python/object/apply:os.system ['true']"),
    "unknown tag": ("seed", "!secret 7"),
    "no integer under its tag": ("seed", "!!int seven"),
    "a date": ("name", "2024-01-01"),
    "bytes": ("name", "!!binary aGVsbG8="),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_bad_value_is_named(tmp_path, name):
    dotted, value = VALUES[name]
    entry = BY_NAME[dotted]
    if value is None:
        first = next(e for e in ENTRIES if e.key[:2] == FREE and len(e.key) == 3)
        _assert_at(_broken(tmp_path, with_value(first, "no place")), entry)
    else:
        found = _broken(tmp_path, with_value(entry, value))
        assert found[0].message.startswith(f"{found[1]}:{entry.line}: {dotted}"), found[0].message


@pytest.mark.parametrize(("value", "near"), [("hardst", "hardest"), ("randm", "random")])
def test_the_nearest_choice_is_suggested(tmp_path, value, near):
    error, _ = _broken(tmp_path, with_value(BY_NAME["mark.input_level.choose"], value))
    assert error.hint == f"did you mean {near!r}?"


def _deep(levels, opening="[", closing="]"):
    return f"name: {opening * levels}{closing * levels}\n"


BOMB = "a: &a [x, x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnop"))
FILES = {
    "empty": ("", 1),
    "comment only": ("# nothing\n", 1),
    "bare list": ("- a\n- b\n", 1),
    "bare word": ("quickstart\n", 1),
    "bare number": ("7", 1),
    "null": ("null\n", 1),
    "two documents": ("name: a\n---\nname: b\n", 2),
    "tab": ("name: a\n\tseed: 1\n", 2),
    "tab in a block": ("generate:\n  rows: 1\n\tmodel: x\n", 3),
    "unclosed quote": ('name: "a\nseed: 1\n', None),
    "unclosed bracket": ("name: [a\nseed: 1\n", None),
    "colon twice": ("name: a: b\n", 1),
    "indentation": ("generate:\n  rows: 1\n model: x\n", 3),
    "alias": ("name: &a x\nseed: *a\n", 2),
    "unknown alias": ("name: a\nseed: *nothing\n", 2),
    "bomb": (BOMB, 2),
    "merge key": ("<<: {name: a}\nseed: 1\n", 1),
    "key that is a list": ("[a, b]: 1\n", 1),
    "key that is a mapping": ("name: x\n? {a: 1}\n: 2\n", 2),
    "deep": (_deep(30), 1),
    "very deep": (_deep(400), 1),
    "deep mappings": (_deep(400, "{a: ", "}"), 1),
    "directive": ("%YAML 9.9\n---\nname: a\n", None),
    "control character": ("name: a\x07b\n", 1),
    "duplicate section": (TEXT + "\naudit:\n  alpha: 0.01\n", len(TEXT.split("\n")) + 1),
    "unknown section": (TEXT + "\nserve:\n  port: 1\n", len(TEXT.split("\n")) + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_config(tmp_path, name):
    content, line = FILES[name]
    error, path = _broken(tmp_path, content)
    if line is not None:
        assert error.message.startswith(f"{path}:{line}: "), error.message


def test_deep_nesting_is_refused_at_once(tmp_path):
    started = time.process_time()
    _broken(tmp_path, _deep(2500))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)),
        b"\xff\xfe\x00n",
        b"name: \xe9\n",
        b"\x00" * 100,
        b"x: " + b"a" * (1024 * 1024),
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["all bytes", "utf-16", "latin-1", "zeros", "huge", "png"],
)
def test_a_file_that_is_no_text(tmp_path, content):
    _broken(tmp_path, content)


def test_no_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            load_config(path, [])


@pytest.mark.parametrize("text", ["﻿" + TEXT, TEXT.replace("\n", "\r\n"), TEXT + "\n...\n", "---\n" + TEXT])
def test_harmless_spellings_are_read(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode())
    assert load_config(path, []) == load_config(QUICKSTART, [])


@pytest.mark.parametrize("text", ["1e-6", "1.00e-6", "1E-6", "0.000001"])
def test_numbers_follow_yaml_1_2(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(with_value(BY_NAME["audit.alpha"], text))
    assert load_config(path, []).audit.alpha == 1e-6


@pytest.mark.parametrize(
    ("wanted", "has", "given"), [("auto", True, True), ("auto", False, False), (True, False, True)]
)
def test_mixed_precision_is_what_was_asked_or_what_the_machine_has(monkeypatch, wanted, has, given):
    monkeypatch.setattr(libraries, "has_bfloat16", lambda _: has)
    arguments = trainer_arguments(ClassifierConfig(model="embedded:minilm-l6", bf16=wanted))
    assert arguments["bf16"] is given
    assert not {"model", "max_length"} & set(arguments)
