"""Artifacts: folders with a manifest, built aside and renamed in, checked byte for byte before anything is loaded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countermark.files import building
from countermark.manifest import verify_folder, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A complete, verified folder.

    Args:
        path: where it is.
        digest: SHA-256 of its manifest, which names every file: the artifact's identity.
        manifest: the manifest itself.
    """

    path: Path
    digest: str
    manifest: dict[str, Any] = field(repr=False)


def open_artifact(path: Path, expected: str | None = None) -> Artifact:
    """Verifies every byte of ``path`` and returns it; ``expected`` is its digest, where one is known from elsewhere.

    Raises:
        IntegrityError: anything is missing, added or changed; the file is named.
    """
    manifest, digest = verify_folder(path, expected)
    return Artifact(path=path, digest=digest, manifest=manifest)


@contextmanager
def new_artifact(path: Path, fields: dict[str, Any]) -> Iterator[Path]:
    """Yields a temporary folder; on success its manifest is written last and it becomes ``path``.

    ``fields`` may be filled while the block runs; it holds no clock, host, path or duration.
    """
    with building(path) as folder:
        yield folder
        write_manifest(folder, fields)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: Mapping[str, str]) -> None:
    """Writes rows as Parquet; ``schema`` maps column to Arrow type name, and fixes the columns' order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table_schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in schema.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([{name: row[name] for name in schema} for row in rows], schema=table_schema)
    pq.write_table(table, path, compression="zstd")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file inside a *verified* artifact."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
