"""A classifier behind a URL: which JSON it is sent, and where in its JSON the label stands, is the user's to say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from verification.api_key import check_address
from verification.asking import Policy, Reply
from verification.bounded_http import BoundedTransport, require_httpx
from verification.responses import parsed, query_headers, text_in, without_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verification.api_key import ApiKey

PLACEHOLDER = "{text}"
"""What stands for the prompt in a request's template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMapping:
    """How a classifier over HTTP is asked, and where its answer stands.

    Args:
        request: the request's JSON body; ``{text}`` in any of its texts stands for the prompt.
        label: JSON pointer (RFC 6901) to the label in the response: a text, an integer or a truth value; or to a list
            of ``{"label", "score"}``, of which the highest score counts.
        labels: names of the claim by labels of the endpoint (``{"LABEL_0": "negative"}``); others stay as they are.
        model: JSON pointer to the model's name, "" for none.
    """

    request: Any = field(default_factory=lambda: {"inputs": PLACEHOLDER})
    label: str = "/0/label"
    labels: Mapping[str, str] = field(default_factory=dict)
    model: str = ""

    def __post_init__(self) -> None:
        if PLACEHOLDER not in json.dumps(self.request):
            raise UsageError(f"got a request without {PLACEHOLDER}, expected it where the prompt goes")
        for pointer in (self.label, self.model):
            if pointer and not pointer.startswith("/"):
                raise UsageError(f"got JSON pointer {pointer!r}, expected one that starts with /")


class ClassifierEndpoint:
    """``POST {address}`` with the mapping's body; the answer is the label's name, for the parser ``exact/1``."""

    kind = "classifier_http"

    def __init__(
        self,
        name: str,
        address: str,
        *,
        mapping: LabelMapping | None = None,
        model: str = "",
        key: ApiKey | None = None,
        key_header: str = "Authorization",
        policy: Policy | None = None,
    ) -> None:
        httpx = require_httpx()
        self.name = name
        self.model = model
        self.address = check_address(address, key)
        self._key = key
        self._mapping = mapping or LabelMapping()
        transport = BoundedTransport(self.address, policy=policy or Policy(), key=key, key_header=key_header)
        self._client = httpx.Client(transport=transport, trust_env=False)

    def describe(self) -> dict[str, Any]:
        """What is asked how, as public JSON."""
        mapping = self._mapping
        return {
            "address": self.address, "kind": self.kind, "model": self.model, "request": mapping.request,
            "label": mapping.label, "labels": dict(mapping.labels),
        }  # fmt: skip

    def close(self) -> None:
        """Closes the client."""
        self._client.close()

    def query(self, prompt: str, *, query_id: str) -> Reply:
        body = _filled(self._mapping.request, prompt)
        response = self._client.post(self.address, json=body, headers=query_headers(query_id))
        said = parsed(response.content, shape=(dict, list))
        label = text_in(lambda: _label(_point(said, self._mapping.label)))
        label = self._mapping.labels.get(label, label)
        model = text_in(lambda: str(_point(said, self._mapping.model))) if self._mapping.model else ""
        return Reply(raw=without_key(self._key, label), model=without_key(self._key, model))


def _filled(template: Any, prompt: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(template, str):
        return template.replace(PLACEHOLDER, prompt)
    if isinstance(template, dict):
        return {name: _filled(value, prompt) for name, value in template.items()}
    return [_filled(value, prompt) for value in template] if isinstance(template, list | tuple) else template


def _point(body: Any, pointer: str) -> Any:  # noqa: ANN401 - JSON
    """What a JSON pointer points to; "" is the whole."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(body, list):
            if not (name.isascii() and name.isdigit()):
                raise KeyError(name)
            body = body[int(name)]
        else:
            body = body[name]
    return body


def _label(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        value = max(value, key=lambda entry: float(entry["score"]))["label"]
    if isinstance(value, bool | int):
        return json.dumps(value)
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value
