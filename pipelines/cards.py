"""What a released dataset says of itself on the Hub, and how it gets there.

A card says what everybody may know. It never holds a key id, a path, a host, or which rows are marked; that the data
carry a watermark it says only in the owner's own words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from countermark.errors import (
    CountermarkError,
    KeyFileError,
    SuspectUnreachableError,
    UnsafePermissionsError,
    UsageError,
)
from countermark.manifest import MANIFEST_NAME, verify_folder
from pipelines.shards import FOLDER
from watermarks.keystore import read_secret_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CARD_NAME = "README.md"
_SHARDS = f"{FOLDER}/train-*.parquet"
_KEY_ID = re.compile(r"\bck_[0-9a-f]{8,}\b")
_STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_CONFIGS = [{"config_name": "default", "data_files": [{"split": "train", "path": _SHARDS}]}]
_NO_RIGHT, _CLIENT_ERRORS = {401, 403, 404}, {400, 409, 413, 422}


def size_category(rows: int) -> str:
    """The Hub's bucket for a number of rows: ``n<1K``, ``1K<n<10K``, …, ``n>1T``; a bound belongs to the one above it.

    Raises:
        UsageError: a negative number.
    """
    if rows < 0:
        raise UsageError(f"got {rows} rows, expected 0 or more")
    passed = sum(rows >= 10 ** (3 + step) for step in range(len(_STEPS)))
    if passed == len(_STEPS):
        return f"n>{_STEPS[-1]}"
    return f"{_STEPS[passed - 1]}<n<{_STEPS[passed]}" if passed else f"n<{_STEPS[0]}"


def dataset_card(
    *,
    name: str,
    license: str,  # noqa: A002 - the Hub's own word
    language: str,
    task: str,
    rows: int,
    features: Mapping[str, str],
    watermarked: str | None,
    extra: Mapping[str, Any],
) -> str:
    """A Hub dataset card: YAML front matter and a short text. The same arguments give the same bytes.

    Args:
        name: for people; also ``pretty_name``.
        license: the Hub's identifier (``cc-by-4.0``).
        language: ISO 639 (``en``).
        task: the Hub's identifier (``text-classification``).
        rows: of the only split, ``train``.
        features: what each column holds, in the order of the columns.
        watermarked: the owner's sentence about the watermark; None says nothing of one.
        extra: further front matter (``tags``, ``source_datasets``, …).

    Raises:
        UsageError: ``extra`` says again what the card says itself, or something in it is a key id.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    title = _line(name)
    fields: dict[str, Any] = {
        "language": language,
        "license": license,
        "task_categories": [task],
        "size_categories": [size_category(rows)],
        "pretty_name": title,
        "configs": _CONFIGS,
    }
    if twice := sorted(fields.keys() & extra.keys()):
        raise UsageError(f"got {', '.join(twice)} among the extra fields of a card, expected other names")
    data = DatasetCardData(**fields, **dict(sorted(extra.items())))
    card = str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{_body(title, rows, features, watermarked)}"))
    if found := _KEY_ID.search(card):
        raise UsageError(
            f"got a card that names the key {found[0]!r}, expected none", hint="a card is public: leave the key id out"
        )
    return card


def push(
    folder: Path,
    repo: str,
    *,
    private: bool,
    token_file: Path | None,
    manifest: bool = False,
    api: Any = None,  # noqa: ANN401 - huggingface_hub.HfApi, or a stand-in with its two methods
) -> str:
    """Puts a finished release on the Hub as dataset ``repo`` (``org/name``) and returns its address.

    Every byte is checked against the release's manifest first. Only the card and the shards go up, and the manifest
    where ``manifest`` asks for it (it holds the commitment, and so says that there is a mark): nothing else that may
    lie in the folder. Shards of an older release under the same name are removed in the same commit.

    Args:
        folder: the release.
        repo: ``org/name``.
        private: who may see a repository that is made by this; one that exists stays as it is.
        token_file: a private file with the access token; None: the login that ``huggingface_hub`` knows.
        manifest: the manifest goes up as well.
        api: what talks to the Hub.

    Raises:
        IntegrityError: the folder is no finished release, or was damaged. UsageError: no card or shards in it, a name
            the Hub does not take, no right to write. UnsafePermissionsError: others may read the token.
            SuspectUnreachableError: the Hub does not answer.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    verify_folder(folder)
    if not (folder / CARD_NAME).is_file() or not any(folder.glob(_SHARDS)):
        raise UsageError(f"got {folder} without {CARD_NAME} or {_SHARDS}, expected both", hint="push a marked release")
    token = None if token_file is None else _token(token_file)
    hub = HfApi() if api is None else api
    try:
        url = hub.create_repo(repo, repo_type="dataset", private=private, exist_ok=True, token=token)
        hub.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[CARD_NAME, _SHARDS, *([MANIFEST_NAME] if manifest else [])],
            delete_patterns=[_SHARDS],
            commit_message="Upload dataset",
            token=token,
        )
    except HFValidationError:
        raise UsageError(f"got repository {repo!r}, expected a Hub name like org/name") from None
    except (OSError, HTTPError, RuntimeError) as error:  # the last is hf_xet's
        raise _refusal(repo, error) from None
    return str(url)


def _body(title: str, rows: int, features: Mapping[str, str], watermarked: str | None) -> str:
    columns = "\n".join(f"| `{_cell(column)}` | {_cell(content)} |" for column, content in features.items())
    note = f"\n## Watermark\n\n{_line(watermarked)}\n" if watermarked else ""
    return f"""# {title}

{rows:,} rows in one split, `train`, as Parquet.

```python
from datasets import load_dataset

data = load_dataset("PATH_OR_ID_OF_THIS_DATASET", split="train")
```

## Columns

| column | content |
|---|---|
{columns}
{note}"""


def _refusal(repo: str, error: Exception) -> CountermarkError:
    """What the Hub's client raised, as ours; never its message, which might show the token."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in _NO_RIGHT:
        return UsageError(
            f"got status {status} for {repo!r}, expected a repository that may be written",
            hint="check the name, and that the token has the right to write",
        )
    if status in _CLIENT_ERRORS:
        return UsageError(f"got status {status} for {repo!r}, expected the Hub to take the files")
    return SuspectUnreachableError(
        f"got no answer from the Hub for {repo!r} ({type(error).__name__}), expected one",
        hint="check the network and push again: what is there already is not sent twice",
    )


def _token(path: Path) -> str:
    try:
        return read_secret_file(path).decode("ascii").strip()
    except UnsafePermissionsError:
        raise
    except (KeyFileError, UnicodeDecodeError):
        raise UsageError(f"got token file {path}, expected a file with an access token, mode 0600") from None


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
