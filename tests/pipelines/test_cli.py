"""The command as a process: exit codes, two lines for a mistake, and help that comes at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest
import typer

from countermark.version import __version__
from pipelines.cli import app
from tests.pipelines.config_corpus import BY_NAME, with_typo, with_value
from tests.support import QUICKSTART

HELP_CPU_SECONDS = 0.3
BARE_CPU_SECONDS = 0.03  # what an interpreter that does nothing takes on a quiet machine
HEAVY = {"torch", "transformers", "pydantic", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "numba", "datasets"}


def _commands(group=None, at=()):
    group = group or typer.main.get_command(app)
    found = [at]
    for name, command in group.commands.items():
        found += _commands(command, (*at, name)) if hasattr(command, "commands") else [(*at, name)]
    return found


def _run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def _assert_two_lines(result, code):
    assert result.returncode == code, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert "Traceback" not in result.stderr + result.stdout
    assert result.stdout == ""


BROKEN = {
    "typo": with_typo(BY_NAME["audit.alpha"]),
    "type": with_value(BY_NAME["generate.rows"], '"many"'),
    "tab": "name: a\n\tseed: 1\n",
}


@pytest.mark.long
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_config_ends_with_two_lines_and_2(tmp_path, name):
    (tmp_path / "c.yaml").write_text(BROKEN[name])
    result = _run("run", "c.yaml", "--out", tmp_path / "out", cwd=tmp_path)
    _assert_two_lines(result, 2)
    assert "c.yaml:" in result.stderr
    assert not (tmp_path / "out").exists()


MISTAKES = {
    "unknown command": ("rn",),
    "unknown option": ("run", QUICKSTART, "--fressh"),
    "no config": ("run",),
    "config that is not there": ("run", "none.yaml"),
    "set without a value": ("run", QUICKSTART, "--set", "seed"),
    "set of an unknown key": ("mark", QUICKSTART, "--set", "sed=1"),
    "input of no stage": ("mark", QUICKSTART, "--input", "nothing=here"),
    "verify of nothing": ("verify", "none"),
    "runs of nothing": ("runs", "none"),
    "detect without a ring": ("detect", QUICKSTART, "--config", QUICKSTART),
    "detect of no text": ("detect", "none.txt", "--config", QUICKSTART, "--keys", "k", "--passphrase-file", "p"),
    "ring that is not there": ("keys", "show", "none.json", "--passphrase-file", "none"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_with_two_lines_and_2(tmp_path, name):
    _assert_two_lines(_run(*MISTAKES[name], cwd=tmp_path), 2)


def test_damage_ends_with_two_lines_and_3(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text("{}")
    result = _run("verify", "a", cwd=tmp_path)
    _assert_two_lines(result, 3)
    assert "manifest.json" in result.stderr


def test_keys_are_made_shown_and_never_printed(tmp_path):
    made = _run("keys", "new", "owner/k.json", "--passphrase-file", "owner/p", "--json", cwd=tmp_path)
    shown = _run("keys", "show", "owner/k.json", "--passphrase-file", "owner/p", "--json", cwd=tmp_path)
    assert (made.returncode, shown.returncode) == (0, 0), made.stderr
    assert json.loads(made.stdout) == json.loads(shown.stdout)
    passphrase = (tmp_path / "owner" / "p").read_text().strip()
    assert passphrase not in made.stdout + made.stderr + shown.stdout
    _assert_two_lines(_run("keys", "new", "owner/k.json", "--passphrase-file", "owner/p", cwd=tmp_path), 2)
    (tmp_path / "owner" / "k.json").chmod(0o644)
    _assert_two_lines(_run("keys", "show", "owner/k.json", "--passphrase-file", "owner/p", cwd=tmp_path), 2)


@pytest.mark.long
def test_a_dry_run_writes_nothing(tmp_path):
    for verb in ("run", "generate", "train"):
        result = _run(verb, QUICKSTART, "--dry-run", "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert {entry["would"] for entry in json.loads(result.stdout)} == {"run"}
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_printed(tmp_path):
    result = _run("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"countermark {__version__}\n", "")


def _cpu_of(call):
    """CPU seconds of the processes that ``call`` starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _bare():
    subprocess.run([sys.executable, "-c", "pass"], check=True)


@pytest.mark.long
@pytest.mark.parametrize("command", _commands(), ids=lambda c: " ".join(c) or "countermark")
def test_help_is_quick(tmp_path, command):
    def ask():
        result = _run(*command, "--help", cwd=tmp_path, COLUMNS="100")
        assert result.returncode == 0, result.stderr
        assert "Usage:" in result.stdout

    for _ in range(3):  # a busy machine makes every process slower, a bare interpreter too
        slowdown = max(1.0, _cpu_of(_bare) / BARE_CPU_SECONDS)
        if _cpu_of(ask) < HELP_CPU_SECONDS * slowdown:
            return
    pytest.fail(f"--help took more than {HELP_CPU_SECONDS} s of CPU three times")


def test_the_commands_are_the_designs():
    names = {" ".join(command) for command in _commands()}
    assert names >= {"run", "generate", "mark", "train", "probe", "audit", "report", "detect", "verify", "runs"}
    assert names >= {"keys new", "keys show", "keys commit", "plan audit", "assets install", "assets list"}


@pytest.mark.parametrize("module", ["countermark", "countermark.errors", "pipelines.cli"])
def test_importing_it_imports_nothing_heavy(tmp_path, module):
    code = f"import {module}, sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(json.loads(result.stdout))


@pytest.mark.parametrize("module", ["watermarks.keys", "watermarks.schemes", "verification.audit", "pipelines.config"])
def test_what_a_third_party_trusts_needs_no_torch(tmp_path, module):
    code = f"import {module}, sys; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)


def test_a_process_that_holds_keys_dumps_no_core():
    code = "import resource, sys; sys.argv = ['countermark', '--version']\nfrom pipelines.cli import main\n"
    code += "try: main()\nexcept SystemExit: print(resource.getrlimit(resource.RLIMIT_CORE))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(0, 0)"
