"""What somebody else's server returned, read as data: of another shape means a failed request, never a crash."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from verification.asking import QueryFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from verification.api_key import ApiKey

MAX_TOKENS = 1_000_000_000


def query_headers(query_id: str) -> dict[str, str]:
    """The header fields that make two requests one query, for servers that honour them."""
    return {"Idempotency-Key": query_id, "X-Request-Id": query_id}


def parsed(content: bytes, shape: type | tuple[type, ...] = dict) -> Any:  # noqa: ANN401 - JSON of somebody else
    """The parsed body, which is of one of the shapes."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        kind = "HTML" if content.lstrip()[:1] == b"<" else "something"
        raise QueryFailedError(
            f"{kind} that is not JSON ({len(content)} bytes)", transient=True,
            hint="check the URL: an OpenAI-compatible address usually ends in /v1",
        ) from None  # fmt: skip
    if not isinstance(body, shape):
        raise misshapen()
    return body


def text_in(get: Callable[[], Any]) -> str:
    """A text from somewhere in a response that may have any shape."""
    try:
        value = get()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
        raise misshapen() from None
    if not isinstance(value, str):
        raise misshapen()
    return value


def misshapen() -> QueryFailedError:
    """The failure of a response that is JSON of another shape."""
    hint = "check that the URL and the kind of endpoint belong together"
    return QueryFailedError("a response of another shape than the endpoint's kind has", transient=True, hint=hint)


def count_of(value: Any) -> int:  # noqa: ANN401 - JSON of somebody else
    """A count of tokens, 0 for what is none."""
    return min(max(value, 0), MAX_TOKENS) if isinstance(value, int) and not isinstance(value, bool) else 0


def without_key(key: ApiKey | None, text: str) -> str:
    """The text without the key: a server may echo what it was sent."""
    return text if key is None else key.hide(text)
