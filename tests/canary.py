"""Where key bytes would show: every spelling of a secret, searched for in every file, and in what Parquet holds."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PARQUET = ".parquet"


def spellings(secret: bytes) -> list[bytes]:
    """Raw, hex, base64 at any alignment (both alphabets), decimal, and as Python prints bytes and lists of them."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()]
    found += [str(int.from_bytes(secret, order)).encode() for order in ("big", "little")]
    found += [", ".join(map(str, secret)).encode(), ",".join(map(str, secret)).encode()]
    for lead in range(3):  # what stands before shifts the letters; the first and last of them mix with neighbours
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.append(encode(bytes(lead) + secret).rstrip(b"=")[4 if lead else 0 : -2])
    return found


def leaks(secrets: Iterable[bytes], files: Iterable[Path]) -> list[tuple[Path, bytes]]:
    """Every file that holds a spelling of a secret, with the spelling."""
    needles = [needle for secret in secrets for needle in spellings(secret)]
    return [(path, needle) for path in files for content in _contents(path) for needle in needles if needle in content]


def _contents(path: Path) -> list[bytes]:
    data = [path.read_bytes()]
    if path.suffix == PARQUET:  # compressed: its text is nowhere in its bytes
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        data += ["\n".join(map(str, column.to_pylist())).encode() for column in table.columns]
    return data
