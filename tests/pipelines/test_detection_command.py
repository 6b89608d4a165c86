"""The command ``countermark detect``: its table, its JSON, its exit codes and its two-line errors."""

from __future__ import annotations

import json
import os
import sys

import pytest

from pipelines import cli
from tests.pipelines.detection_desk import NOT_SUPPORTED, OK, TOO_SHORT
from tests.support import QUICKSTART
from watermarks.schemes import Unigram


@pytest.fixture
def command(desk, monkeypatch, capsys):
    """``countermark detect`` in this process: exit code, standard output and the lines of standard error."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, os.environ.get(name, "1" if name.startswith("HF") else "error"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["countermark", "detect", *_options(desk), *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err.splitlines()

    return run


def _options(desk):
    options = {"--config": QUICKSTART, "--keys": desk.ring, "--passphrase-file": desk.passphrase}
    return [str(part) for option in options.items() for part in option]


def test_the_command_prints_the_table_or_json_and_exits_by_the_verdict(desk, command):
    for texts, expected in ((desk.marked(), OK), (desk.unmarked(), NOT_SUPPORTED), ([[*desk.words[:3]]], TOO_SHORT)):
        path = desk.jsonl(texts)
        lines, body, _ = desk.ask(path)
        code, out, err = command(path, "--json")
        assert (code, json.loads(out), err) == (expected, json.loads(json.dumps(body)), [])
        code, out, err = command(path)
        assert (code, out.splitlines(), err) == (expected, lines, [])


def test_the_commands_options_are_the_search(desk, command):
    path = desk.jsonl(desk.marked(Unigram(), key="second", scope="b"))
    options = ("--key-id", "ck_primary", "--key-id", "ck_second", "--scope", "a", "--scope", "b", "--scheme", "unigram")
    code, out, _ = command(path, *options, "--statistic", "counts", "--json")
    marks = json.loads(out)["marks"]
    assert code == OK
    assert len(marks) == 4
    assert (marks[0]["name"], marks[0]["statistic"]) == ("ck_second b", "counts")
    code, out, _ = command(path, "--all-keys", "--scope", "b", "--scheme", "unigram", "--json")
    assert (code, len(json.loads(out)["marks"])) == (OK, 3)
    code, out, _ = command(path, path, "--set", "audit.alpha=0.001", "--device", "cpu:0", "--json")
    assert json.loads(out)["alpha"] == 0.001
    assert len(json.loads(out)["evidence"]) == 7


MISTAKES = {
    "scheme": (("--scheme", "kgww"), "got scheme 'kgww'"),
    "parameter": (("--scheme", "kgw:gamma=2"), "got gamma 2"),
    "value": (("--scheme", "kgw:gamma=[1"), "--scheme"),
    "statistic": (("--statistic", "green-ish"), "got statistic 'green-ish'"),
    "statistic of another scheme": (("--scheme", "kgw", "--scheme", "unigram", "--statistic", "counts"), "'counts'"),
    "key": (("--key-id", "ck_nobody"), "ck_nobody"),
    "file": (("none.txt",), "none.txt"),
    "override": (("--set", "audit.alpa=1"), "audit.alpa"),
    "device": (("--device", "abacus"), "abacus"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_two_lines_and_2(desk, command, name):
    arguments, named = MISTAKES[name]
    code, out, err = command(desk.jsonl(desk.unmarked()), *arguments)
    assert (code, out, len(err)) == (2, "", 2), err
    assert err[0].startswith("error: ")
    assert err[1].startswith("hint: ")
    assert named in err[0]


def test_a_wrong_passphrase_and_no_ring_are_two_lines_and_2(desk, command, tmp_path):
    (tmp_path / "p").write_text("another\n")
    (tmp_path / "p").chmod(0o600)
    for options in (("--passphrase-file", tmp_path / "p"), ("--keys", tmp_path / "none.json")):
        code, out, err = command(desk.jsonl(desk.unmarked()), *options)
        assert (code, out, len(err)) == (2, "", 2)
