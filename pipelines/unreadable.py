"""What Arrow, JSON, fsspec and the Hub may raise of a dataset, as a word about it and what to do."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from countermark.errors import CountermarkError, MissingAssetError, UsageError
from pipelines.tables import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = (
    f"{', '.join(SUFFIXES)}, a folder of Parquet shards or one that `datasets` saved, a URL of one of them, a hub id"
)
HINT = "check the name, and the network where it is needed"


@contextmanager
def reading(source: str) -> Iterator[None]:
    """What any reader may raise, as a word about ``source``."""
    try:
        yield
    except CountermarkError:
        raise
    except FileNotFoundError as error:
        raise MissingAssetError(f"got no {error.filename or error} in {source!r}, expected it", hint=HINT) from None
    except ImportError as error:
        raise MissingAssetError(
            f"got {source!r}, which needs a package ({error})", hint="install it with pip"
        ) from None
    except Exception as error:
        stored = "://" in source or Path(source).expanduser().exists()
        if stored and isinstance(error, (ValueError, LookupError, NotImplementedError, TypeError)):  # Arrow's, JSON's
            raise _unreadable(source, error) from None
        if not stored or "://" in source:  # the Hub and every store have errors of their own
            raise MissingAssetError(
                f"got source {source!r}, which could not be fetched ({type(error).__name__}), expected {KNOWN}",
                hint=HINT,
            ) from None
        if not isinstance(error, OSError):
            raise
        raise _unreadable(source, error) from None


_CAUSES = (
    (("UTF8", "utf-8", "UTF-8", "codec"), "save it as UTF-8"),
    (("magic bytes", "footer", "thrift", "Parquet file size"), "it is cut short or no Parquet file: fetch it again"),
    (("CSV parse error", "columns, got"), "every line needs as many fields as the first: quote those that hold commas"),
    (("Permission denied",), "ask its owner for the right to read it"),
)


def _unreadable(source: str, error: Exception) -> UsageError:
    said = " ".join(str(error).split())[:200]
    hint = next((hint for words, hint in _CAUSES if any(word in said for word in words)), "")
    suffix = Path(source).suffix
    wanted = f"a {suffix} file that can be" if suffix in SUFFIXES else KNOWN
    return UsageError(f"got {source!r}, which cannot be read ({said}), expected {wanted}", hint=hint)
