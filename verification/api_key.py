"""API keys that do not leak, and addresses that hold none."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from countermark.errors import KeyFileError, UnsafePermissionsError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")
_OTHERS_CAN_READ = 0o077


class ApiKey:
    """A secret that shows itself to :meth:`reveal` alone."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not _KEY.fullmatch(value):
            raise KeyFileError(
                f"got an API key of {len(value)} characters that cannot stand in a header, expected 1 to 4096 "
                "printable ASCII characters without spaces"
            )
        self._value = value

    def reveal(self) -> str:
        """The secret."""
        return self._value

    def hide(self, text: str) -> str:
        """``text`` without the secret."""
        return text.replace(self._value, "[key]")

    def __repr__(self) -> str:
        return "ApiKey(hidden)"


def read_api_key(*, file: Path | None = None, variable: str = "") -> ApiKey | None:
    """The key in a file that only its owner can read, or in the environment variable of this *name*; None for neither.

    Raises:
        KeyFileError: no such file or variable, or what it holds is no key. UnsafePermissionsError: others may read it.
        UsageError: both are named.
    """
    if file is not None and variable:
        raise UsageError("got a file and a variable for the API key, expected one of them")
    if variable:
        value = os.environ.get(variable)
        if value is None:
            raise KeyFileError(f"got no environment variable {variable}, expected the API key in it")
        return ApiKey(value.strip())
    if file is None:
        return None
    try:
        mode, value = file.stat().st_mode, file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"got no readable API key in {file} ({type(error).__name__}), expected one") from None
    if mode & _OTHERS_CAN_READ:
        raise UnsafePermissionsError(
            f"got API key {file} that others can read (mode {mode & 0o777:o}), expected 600", hint=f"chmod 600 {file}"
        )
    return ApiKey(value.strip())


def check_address(address: str, key: ApiKey | None) -> str:
    """A public address: http(s), a host, and nothing that could be a credential. Without a slash at its end.

    Raises:
        UsageError: another address, or a key that would travel in the clear.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host:
        raise UsageError("got an address that is no URL of a server, expected https://HOST/PATH")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            f"got an address at {host} with a user, a query or a fragment, expected none: addresses are public",
            hint="give the API key by file or environment variable",
        )
    if key is not None and parts.scheme == "http" and host not in LOOPBACK:
        raise UsageError(
            f"got an API key for http://{host}, expected https: the key would travel in the clear",
            hint="use https, or a tunnel to localhost",
        )
    return address.rstrip("/")
