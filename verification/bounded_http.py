"""HTTP to somebody who may be hostile: bounded in bytes and in time, with nothing said that need not be.

* A response is read to ``max_bytes`` at most, its head included, and to ``timeout`` seconds in all, however slowly its
  bytes drip. Compression is not asked for and not undone.
* One connection a request: a doubled or stray response cannot be taken for the answer to another query.
* Redirects are not followed: the key would go where they point to.
* Only the header fields in :data:`SENT` leave; what an environment variable adds for another service does not.
* The key is put in here and nowhere else, and taken out of what a failure says.

Needs the ``audit`` extra (httpx). Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``).
"""

from __future__ import annotations

import json
import math
import time
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countermark.errors import MissingAssetError, UsageError
from verification.api_key import LOOPBACK
from verification.asking import QueryFailedError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    import httpcore
    import httpx

    from verification.api_key import ApiKey
    from verification.asking import Policy

SENT = frozenset(
    {b"accept", b"content-length", b"content-type", b"host", b"idempotency-key", b"user-agent", b"x-request-id"}
)
EXCERPT = 160
"""Characters of a server's message that an error shows."""
_REDIRECT, _CLIENT, _SERVER = 300, 400, 500
_TRANSIENT = {408, 409, 425, 429, *range(_SERVER, 600)} - {501, 505}
_NO_EXCERPT = {401, 403}  # servers show parts of the key there
_HINTS = {
    401: "the API key is missing or wrong: name its file or its environment variable",
    402: "the account behind the API key has no credit left",
    403: "the API key has no right to this model or path",
    404: "check the model's name and the URL: an OpenAI-compatible address usually ends in /v1",
    405: "check the URL: an OpenAI-compatible address usually ends in /v1",
    407: "the proxy of the environment asks for a password",
    501: "check the URL: the server has no such function",
}
_REFUSED = "the endpoint refuses this request: check model, parameters and the length of the prompts"
_QUOTA = "insufficient_quota"


def require_httpx() -> Any:  # noqa: ANN401 - the module
    """The httpx module.

    Raises:
        MissingAssetError: the extra is not installed.
    """
    try:
        import httpcore  # noqa: F401
        import httpx
    except ImportError as error:
        raise MissingAssetError(
            f"got no package {error.name!r}, expected the audit extra", hint="pip install 'countermark[audit]'"
        ) from None
    return httpx


class BoundedTransport:
    """The transport of an ``httpx.Client``; what is no success is raised as :class:`QueryFailedError`."""

    def __init__(
        self, address: str, *, policy: Policy, key: ApiKey | None = None, key_header: str = "Authorization"
    ) -> None:
        require_httpx()
        self._policy = policy
        self._key = key
        self._key_header = key_header
        self._pool = _pool(address, policy)

    def close(self) -> None:
        """Closes what is open."""
        self._pool.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request and reads the whole response.

        Raises:
            QueryFailedError: no connection, no whole response in time or size, or a status that is no success.
        """
        import httpcore
        import httpx

        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        fields = [(name, value) for name, value in request.headers.raw if name.lower() in SENT]
        fields += [(b"Accept-Encoding", b"identity"), (b"Connection", b"close"), *self._secret()]
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._policy.timeout)
        try:
            with self._pool.stream(
                request.method, target, headers=fields, content=request.read(), extensions={"timeout": timeouts}
            ) as response:
                head = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
                body = response.read()
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
            raise self._broken(error) from None
        failure = self._refused(response.status, head, body)
        if failure is not None:
            raise failure
        return httpx.Response(
            response.status, headers={"content-type": head.get("content-type", "")}, content=body, request=request
        )

    def _secret(self) -> Iterable[tuple[bytes, bytes]]:
        if self._key is None:
            return
        bearer = self._key_header.lower() == "authorization"
        value = f"Bearer {self._key.reveal()}" if bearer else self._key.reveal()
        yield self._key_header.encode("ascii"), value.encode("ascii")

    def _said(self, text: str) -> str:
        """A piece of somebody's text: one line, printable, bounded, without the key."""
        text = text if self._key is None else self._key.hide(text)
        line = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * EXCERPT]).split())
        return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"

    def _broken(self, error: Exception) -> QueryFailedError:
        """A failure below HTTP."""
        import httpcore

        said, seconds = self._said(str(error)), self._policy.timeout
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return QueryFailedError(
                f"a certificate that does not verify ({said})", transient=False, whole=True, billed=False,
                hint="check the URL's host; a certificate authority of your own is named by SSL_CERT_FILE",
            )  # fmt: skip
        if isinstance(error, httpcore.ConnectTimeout | httpcore.ConnectError | httpcore.ProxyError):
            said = said or f"nothing within {seconds:g} s"
            return QueryFailedError(
                f"no connection ({said})", transient=True, whole=True, billed=False,
                hint="check the URL, and that the server runs",
            )  # fmt: skip
        if isinstance(error, httpcore.TimeoutException):
            return QueryFailedError(f"no whole response within {seconds:g} s", transient=True)
        return QueryFailedError(f"a broken connection ({type(error).__name__}: {said})", transient=True)

    def _refused(self, status: int, head: Mapping[str, str], body: bytes) -> QueryFailedError | None:
        """What a response that is no success means; None for a success."""
        coding = head.get("content-encoding", "identity")
        if coding != "identity":
            return QueryFailedError(
                f"a response in {self._said(coding)} coding, which was not asked for", transient=False, whole=True,
                hint="a compressed response cannot be bounded: have the server send it plain",
            )  # fmt: skip
        if status < _REDIRECT:
            return None
        if status < _CLIENT:
            return QueryFailedError(
                f"status {status}, a redirect to {self._said(head.get('location', 'nowhere'))}", transient=False,
                whole=True, billed=False, hint="redirects are not followed: give the URL that the last one leads to",
            )  # fmt: skip
        text = body[:65536].decode("utf-8", "replace")
        said = "" if status in _NO_EXCERPT else self._said(_message(text))
        broke = status == 429 and _QUOTA in text  # noqa: PLR2004
        transient = status in _TRANSIENT and not broke
        return QueryFailedError(
            f"status {status}" + (f" ({said})" if said else ""),
            transient=transient,
            whole=status in _HINTS or broke,
            retry_after=_retry_after(head) if transient else None,
            billed=False,
            hint=_HINTS[402] if broke else _HINTS.get(status, "" if transient else _REFUSED),
        )


def _message(text: str) -> str:
    """The message of an error in OpenAI's form, or the text."""
    try:
        body = json.loads(text)
        error = body.get("error", body.get("detail", body))
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, RecursionError, AttributeError):
        return text


def _retry_after(head: Mapping[str, str]) -> float | None:
    """Seconds to wait, where the server says so in a form that HTTP knows."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(head[name]) * unit
        except (KeyError, ValueError):
            continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    try:
        date = parsedate_to_datetime(head["retry-after"])
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


class _Meter:
    """What one connection may still take."""

    def __init__(self, policy: Policy) -> None:
        self._end = time.monotonic() + policy.timeout
        self._left = self._most = policy.max_bytes

    def seconds(self) -> float:
        """Seconds left; raises when there are none."""
        import httpcore

        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left

    def take(self, data: bytes) -> bytes:
        """Counts what was read; raises when it is too much."""
        self._left -= len(data)
        if self._left < 0:
            raise QueryFailedError(f"a response of more than {self._most} bytes", transient=False)
        return data


class _Stream:
    """A connection that is read against a meter (httpcore's ``NetworkStream``)."""

    def __init__(self, inner: httpcore.NetworkStream, meter: _Meter) -> None:
        self._inner, self._meter = inner, meter

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._meter.take(self._inner.read(max_bytes, self._meter.seconds()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._inner.write(buffer, self._meter.seconds())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        del timeout
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._meter.seconds()), self._meter)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
        return self._inner.get_extra_info(info)


class _Network:
    """Opens metered connections (httpcore's ``NetworkBackend``)."""

    def __init__(self, policy: Policy) -> None:
        import httpcore

        self._policy, self._inner = policy, httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **more: Any) -> _Stream:  # noqa: ANN401
        del timeout
        meter = _Meter(self._policy)
        return _Stream(self._inner.connect_tcp(host, port, meter.seconds(), **more), meter)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def _pool(address: str, policy: Policy) -> httpcore.ConnectionPool:
    """Connections that are used once; through the environment's proxy, if it names one for this host."""
    import httpcore
    import httpx

    parts = urlsplit(address)
    more: dict[str, Any] = {
        "max_connections": None,
        "max_keepalive_connections": 0,
        "network_backend": _Network(policy),
    }
    if parts.scheme == "https":
        more["ssl_context"] = httpx.create_ssl_context()
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or host in LOOPBACK or urllib.request.proxy_bypass(host):
        return httpcore.ConnectionPool(**more)
    through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if through.scheme not in {"http", "https"}:
        raise UsageError(f"got a proxy of kind {through.scheme!r} in the environment, expected http or https")
    user = (through.username or "", through.password or "")
    plain = f"{through.scheme}://{through.hostname}" + (f":{through.port}" if through.port else "")
    return httpcore.HTTPProxy(plain, proxy_auth=user if any(user) else None, **more)
