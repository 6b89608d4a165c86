"""Suspects behind a URL: OpenAI-compatible chat and completions, a classifier over HTTP; and a folder asked as one.

Text in, text out, through :mod:`verification.bounded_http`; what is sent is in ``describe()``, which holds no secret. A
query carries its id as ``Idempotency-Key`` and ``X-Request-Id``. Whatever a server returns is data: a response of
another shape is a failed request, never a crash, and nothing that it says is followed or run.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from countermark.errors import MissingAssetError, UsageError
from countermark.manifest import digest
from verification.api_key import check_address
from verification.asking import Policy, Reply
from verification.bounded_http import BoundedTransport, require_httpx
from verification.classifier_http import PLACEHOLDER, ClassifierEndpoint, LabelMapping
from verification.responses import count_of, parsed, query_headers, text_in, without_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verification.api_key import ApiKey
    from verification.suspects import Suspect

__all__ = [
    "ChatEndpoint",
    "ClassifierEndpoint",
    "CompletionsEndpoint",
    "FolderEndpoint",
    "LabelMapping",
    "endpoint_digest",
]

_OPTIONAL = ("temperature", "max_tokens", "seed")


def endpoint_digest(*, kind: str, address: str, model: str, **forms: Any) -> str:  # noqa: ANN401 - JSON
    """What a plan seals of an endpoint: nobody can seal its weights.

    ``forms`` are the template of a prompt and the mapping of labels, where there are any: one that was chosen after
    answers were seen would be one of many.
    """
    given = {name: form for name, form in forms.items() if form is not None}
    return digest({"address": address, "kind": kind, "model": model, **given})


class _OpenAI:
    """What chat and completions share: the client, the body, and what a response is checked for."""

    kind = ""

    def __init__(
        self,
        name: str,
        address: str,
        *,
        model: str,
        key: ApiKey | None = None,
        policy: Policy | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """A client for ``address`` (the URL up to and with ``/v1``).

        Args:
            name: the suspect's name.
            address: public; no user, no query.
            model: as the endpoint calls it.
            key: secret, or None for servers that ask for none.
            policy: timeout, size cap and ``max_tokens`` are read from it.
            temperature: 0 is greedy.
            seed: for endpoints that sample.
            extra: fields of the request's body besides; None takes a default field out (``{"seed": None}``).
        """
        self.name = name
        self.model = model
        self.address = check_address(address, key)
        self._key = key
        policy = policy or Policy()
        fields = {"temperature": temperature, "max_tokens": policy.max_tokens, "seed": seed, **(extra or {})}
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._client = _client(self.address, policy, key)

    def describe(self) -> dict[str, Any]:
        """What is asked how, as public JSON."""
        return {"address": self.address, "fields": self._fields, "kind": self.kind, "model": self.model}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.address!r}, model={self.model!r})"

    def close(self) -> None:
        """Closes the client."""
        self._client.close()

    def query(self, prompt: str, *, query_id: str) -> Reply:
        import openai

        known = {name: self._fields[name] for name in _OPTIONAL if name in self._fields}
        other = {name: value for name, value in self._fields.items() if name not in _OPTIONAL}
        try:
            response = self._create(
                prompt, model=self.model, extra_headers=query_headers(query_id), extra_body=other or None, **known
            )
        except openai.APIConnectionError as error:
            raise error.__cause__ or error from None
        return self._reply(response.content)

    def _create(self, prompt: str, **arguments: Any) -> Any:  # noqa: ANN401 - the client's own types
        raise NotImplementedError

    def _text(self, choice: Any) -> Any:  # noqa: ANN401 - JSON of somebody else
        raise NotImplementedError

    def _reply(self, content: bytes) -> Reply:
        body = parsed(content)
        text = text_in(lambda: self._text(body["choices"][0]))
        usage, model = body.get("usage"), body.get("model")
        usage = usage if isinstance(usage, dict) else {}
        return Reply(
            raw=without_key(self._key, text),
            model=without_key(self._key, model) if isinstance(model, str) else "",
            prompt_tokens=count_of(usage.get("prompt_tokens")),
            completion_tokens=count_of(usage.get("completion_tokens")),
        )


class ChatEndpoint(_OpenAI):
    """``POST {address}/chat/completions``: the prompt is the user's turn, after ``system`` where there is one.

    A refusal in a field of its own is the answer's text; a response without text is the answer "".
    """

    kind = "chat"

    def __init__(self, name: str, address: str, *, model: str, system: str | None = None, **more: Any) -> None:  # noqa: ANN401
        super().__init__(name, address, model=model, **more)
        self._system = system

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "system": self._system}

    def _create(self, prompt: str, **arguments: Any) -> Any:  # noqa: ANN401
        head = [] if self._system is None else [{"role": "system", "content": self._system}]
        messages = [*head, {"role": "user", "content": prompt}]
        return self._client.chat.completions.with_raw_response.create(messages=messages, **arguments)

    def _text(self, choice: Any) -> Any:  # noqa: ANN401
        message = choice["message"]
        content = message["content"] if message.get("content") is not None else message.get("refusal")
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        return "" if content is None else content


class CompletionsEndpoint(_OpenAI):
    """``POST {address}/completions``: the prompt inside ``template``, where ``{text}`` stands for it.

    A model that was trained on chats answers chats: its template is part of the template here.
    """

    kind = "completions"

    def __init__(self, name: str, address: str, *, model: str, template: str = PLACEHOLDER, **more: Any) -> None:  # noqa: ANN401
        if template.count(PLACEHOLDER) != 1:
            raise UsageError(f"got a template with {template.count(PLACEHOLDER)} times {PLACEHOLDER}, expected it once")
        super().__init__(name, address, model=model, **more)
        self._template = template

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "template": self._template}

    def _create(self, prompt: str, **arguments: Any) -> Any:  # noqa: ANN401
        text = self._template.replace(PLACEHOLDER, prompt)
        return self._client.completions.with_raw_response.create(prompt=text, **arguments)

    def _text(self, choice: Any) -> Any:  # noqa: ANN401
        return choice["text"]


class FolderEndpoint:
    """A local suspect asked one prompt at a time, as an endpoint is: for sequential audits of folders.

    A model cannot be interrupted: give it a policy whose timeout is longer than its slowest answer.
    """

    threads = 1

    def __init__(self, suspect: Suspect) -> None:
        self.name = suspect.name
        self._suspect = suspect
        self._lock = threading.Lock()

    def query(self, prompt: str, *, query_id: str) -> Reply:
        del query_id
        with self._lock:
            (raw,) = self._suspect.ask([prompt])
        return Reply(raw=raw)


def _client(address: str, policy: Policy, key: ApiKey | None) -> Any:  # noqa: ANN401 - an optional package's type
    """The ``openai`` client, without its own retries, key, redirects and environment."""
    httpx = require_httpx()
    try:
        import openai
    except ImportError as error:
        raise MissingAssetError(
            f"got no package {error.name!r}, expected the audit extra", hint="pip install 'countermark[audit]'"
        ) from None
    transport = BoundedTransport(address, policy=policy, key=key)
    http = httpx.Client(transport=transport, trust_env=False, follow_redirects=False)
    # a key must be named, or the client takes the one of the environment; the transport lets neither through
    return openai.OpenAI(api_key="unused", base_url=address, max_retries=0, timeout=policy.timeout, http_client=http)
