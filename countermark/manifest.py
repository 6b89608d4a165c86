"""Manifests: canonical JSON (RFC 8785) that names every file of a folder with its size and SHA-256.

A manifest holds *no clock, host, path or duration*, so that the same work gives the same digest anywhere. It is
written last, and its presence means that the folder is complete. Nothing in a folder is opened before
:func:`verify_folder` has seen it: neither Parquet readers nor safetensors notice a flipped bit.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import rfc8785

from countermark.errors import IntegrityError
from countermark.files import atomic_write, sha256_bytes, sha256_file
from countermark.version import FORMAT_VERSION, __version__

MANIFEST_NAME = "manifest.json"
MAX_JSON_BYTES = 64 * 1024 * 1024

Json = dict[str, Any]


def canonical_json(value: object) -> bytes:
    """RFC 8785 bytes of ``value``: one byte string for one meaning, so that digests can be compared."""
    return rfc8785.dumps(value)  # type: ignore[arg-type]


def digest(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return sha256_bytes(canonical_json(value))


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is what it is
    """Parses a JSON file of bounded size.

    Raises:
        IntegrityError: the file is missing, too large, or not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise IntegrityError(f"got {path} of {path.stat().st_size} bytes, expected at most {MAX_JSON_BYTES}")
        return json.loads(path.read_bytes(), parse_int=_integer)
    except FileNotFoundError as error:
        raise IntegrityError(f"got no file {path}, expected one", hint="run the stage that makes it") from error
    except OSError as error:
        raise IntegrityError(f"got {path}, which cannot be read ({error.strerror}), expected a file") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"got {path} that is not JSON ({error}), expected JSON", hint="restore the file or rerun with --fresh"
        ) from error


def write_checked_json(path: Path, body: object) -> None:
    """Writes ``{"body": …, "sha256": …}`` atomically: a small file that notices its own damage."""
    atomic_write(path, canonical_json({"body": body, "sha256": digest(body)}))


def read_checked_json(path: Path) -> Any:  # noqa: ANN401 - JSON is what it is
    """The body written by :func:`write_checked_json`.

    Raises:
        IntegrityError: the file is missing, unreadable, or not what was written.
    """
    wrapped = read_json(path)
    if not isinstance(wrapped, dict) or _digest_or_none(wrapped.get("body")) != wrapped.get("sha256"):
        raise _broken(path, "a body that does not match its SHA-256", "the body that was written")
    return wrapped["body"]


def file_table(folder: Path) -> Json:
    """``{relative posix path: {"bytes": size, "sha256": hex}}`` for every file of ``folder`` but the manifest."""
    table: Json = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise IntegrityError(f"got a symbolic link {path}, expected regular files only")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST_NAME:
            table[name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    return table


def write_manifest(folder: Path, fields: Json) -> str:
    """Writes ``manifest.json`` (last!) over ``fields`` and the file table; returns the manifest's digest."""
    manifest = {"format": FORMAT_VERSION, "code_version": __version__, "files": file_table(folder), **fields}
    data = canonical_json(manifest)
    atomic_write(folder / MANIFEST_NAME, data)
    return sha256_bytes(data)


def verify_folder(folder: Path, expected: str | None = None) -> tuple[Json, str]:
    """Checks every byte of ``folder`` against its manifest; returns the manifest and its digest.

    ``expected`` is the manifest's digest where it is known from elsewhere: a changed manifest is then named, and
    not taken for damage of the file that it names.

    Raises:
        IntegrityError: a file is missing, added, resized or changed (named), or the manifest itself is unreadable.
    """
    path = folder / MANIFEST_NAME
    manifest = read_json(path)
    if expected is not None and sha256_file(path) != expected:
        raise _broken(path, f"SHA-256 {sha256_file(path)[:16]}…", f"{expected[:16]}…")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise _broken(path, "no file table", "a manifest")
    if _digest_or_none(manifest) != sha256_file(path):
        raise _broken(path, "bytes that are not canonical JSON", "the bytes that were written")
    if manifest.get("format") != FORMAT_VERSION:
        raise IntegrityError(
            f"got format {manifest.get('format')!r} in {path}, expected {FORMAT_VERSION}",
            hint="open it with the countermark version that made it",
        )
    _check_files(folder, manifest["files"])
    return manifest, sha256_bytes(path.read_bytes())


def _integer(text: str) -> int | float:
    """RFC 8785 prints a large float without exponent: beyond 2**53 a number was a float when it was written."""
    value = int(text)
    return value if abs(value) < 1 << 53 else float(text)


def _digest_or_none(value: object) -> str | None:
    """The digest, or None for what canonical JSON cannot say (NaN, integers beyond 2**53): never our own bytes."""
    try:
        return digest(value)
    except (rfc8785.CanonicalizationError, ValueError, RecursionError):
        return None


def _check_files(folder: Path, expected: Json) -> None:
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()}
    extra = sorted(found - set(expected) - {MANIFEST_NAME})
    if extra:
        raise _broken(folder / extra[0], "a file the manifest does not know", "only the files it names")
    for name, entry in expected.items():
        if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
            raise _broken(folder / MANIFEST_NAME, f"an entry of another shape for {name!r}", "size and SHA-256")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise _broken(folder / MANIFEST_NAME, f"the path {name!r}", "paths inside the folder")
        path = folder / name
        if name not in found or path.is_symlink():
            raise _broken(path, "no regular file", "the file that the manifest names")
        if path.stat().st_size != entry["bytes"]:
            raise _broken(path, f"{path.stat().st_size} bytes", f"{entry['bytes']}")
        actual = sha256_file(path)
        if actual != entry["sha256"]:
            raise _broken(path, f"SHA-256 {actual[:16]}…", f"{entry['sha256'][:16]}…")


def _broken(path: Path, got: str, expected: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is damaged: got {got}, expected {expected}",
        hint="restore the file from a copy, or make it again with --fresh; do not use it as evidence",
    )
