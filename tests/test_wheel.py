"""The built wheel works outside the checkout, and the light parts of it need no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = "import countermark, watermarks.keystore, watermarks.schemes, verification.audit, pipelines.cli"
HEAVY = ("torch", "transformers", "pyarrow", "sklearn", "matplotlib", "numba")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked where no checkout is."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("countermark-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=installed.parent, env=environment, capture_output=True, text=True, check=False)


def test_light_imports_come_from_the_wheel_and_need_no_torch(installed: Path) -> None:
    code = f"{LIGHT}; import sys; print(countermark.__file__); print([m for m in {HEAVY!r} if m in sys.modules])"
    done = _python(installed, "-c", code)
    assert done.returncode == 0, done.stderr
    origin, heavy = done.stdout.splitlines()
    assert origin.startswith(str(installed))
    assert heavy == "[]"


def test_package_data_and_command_work(installed: Path) -> None:
    config = installed / "configs" / "quickstart.yaml"
    assert (installed / "configs" / "assets.txt").is_file()
    assert (installed / "watermarks" / "carriers" / "nouns.txt").is_file()
    assert (installed / "verification" / "templates" / "report.html.j2").is_file()
    assert (installed / "countermark" / "templates" / "alpaca.jinja").is_file()
    done = _python(
        installed, "-m", "pipelines.cli", "run", str(config), "--dry-run", "--out", str(installed / "nowhere")
    )
    assert done.returncode == 0, done.stderr
    assert "generate: would run" in done.stdout
    assert not (installed / "nowhere").exists()


def test_wheel_holds_no_tests_and_no_text_of_others(installed: Path) -> None:
    names = [p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()]
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/", "runs/"))]
    assert not [n for n in names if n.endswith((".csv", ".bz2", ".gguf", ".safetensors", ".parquet"))]
