"""Who is asked in an audit, and how: folders, adapters, endpoints behind a URL, recorded answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import UsageError
from countermark.files import sha256_file
from countermark.manifest import digest
from pipelines.assets import resolve_model
from verification.plan import FOLDER, PlannedSuspect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verification.api_key import ApiKey
    from verification.asking import Endpoint, Policy
    from verification.suspects import LocalChatModel, Suspect

RECORDED = "recorded:"
APIS = {"chat": "chat", "completions": "completions", "classifier": "classifier_http"}
"""What a URL may speak, and the plan's word for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a suspect behind a URL is reached; nothing of it is secret but what the key's file or variable holds.

    Args:
        api: one of :data:`APIS`.
        model: as the endpoint calls it.
        key_file, key_variable: where the API key is; neither for servers that ask for none.
        mapping: JSON file with the fields of ``verification.classifier_http.LabelMapping``.
        template: text file for ``completions``, with ``{text}`` where the prompt goes.
        concurrency, timeout, retries: see ``verification.asking.Policy``.
        price_in, price_out: of a million tokens, for the estimate.
    """

    api: str = "chat"
    model: str = ""
    key_file: Path | None = None
    key_variable: str = ""
    mapping: Path | None = None
    template: Path | None = None
    concurrency: int = 4
    timeout: float = 60.0
    retries: int = 8
    price_in: float = 0.0
    price_out: float = 0.0

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise UsageError(f"got --api {self.api!r}, expected one of: {', '.join(APIS)}")

    def policy(self, max_tokens: int) -> Policy:
        """Concurrency, timeouts and caps of every query."""
        from verification.asking import Policy

        return Policy(
            concurrency=self.concurrency, timeout=self.timeout, retries=self.retries, max_tokens=max_tokens
        )  # fmt: skip

    def key(self) -> ApiKey | None:
        """The API key."""
        from verification.api_key import read_api_key

        return read_api_key(file=self.key_file, variable=self.key_variable)

    def shape(self) -> dict[str, Any]:
        """What of it decides what is sent: public JSON, with the contents of files in place of their names."""
        return {
            "api": self.api, "model": self.model,
            "mapping": _json(self.mapping) if self.mapping else None,
            "template": _text(self.template) if self.template else None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One suspect or control: a folder or hub id, an adapter over a base, a URL, or ``recorded:FILE``.

    ``shown`` stands for the folder in what identifies the audit, where the folder is the run's own.
    """

    name: str
    model: str
    base: str | None = None
    shown: str = ""
    access: Access = field(default_factory=Access)

    @property
    def kind(self) -> str:
        """The plan's word for how it is asked."""
        if self.model.startswith(("http://", "https://")):
            return APIS[self.access.api]
        return "recorded" if self.model.startswith(RECORDED) else FOLDER

    @property
    def address(self) -> str:
        """Where, as the plan says it: public."""
        if self.kind == "recorded":
            return Path(self.model.removeprefix(RECORDED)).name
        return "" if self.kind == FOLDER else self.model.rstrip("/")

    def body(self) -> dict[str, Any]:
        """Plain JSON without a path of this machine, where there is another way to say it."""
        if self.kind == FOLDER:
            return {"name": self.name, "model": self.shown or self.model, "base": self.base}
        return {"name": self.name, "kind": self.kind, "address": self.address, "access": self.access.shape()}

    def digest(self) -> str:
        """What the plan seals of it: the bytes of model and base or of the record; of an endpoint its name."""
        if self.kind == FOLDER:
            parts = [resolve_model(each).digest for each in (self.model, self.base) if each]
            return parts[0] if len(parts) == 1 else digest(parts)
        if self.kind == "recorded":
            return sha256_file(_existing(Path(self.model.removeprefix(RECORDED))))
        from verification.endpoints import endpoint_digest

        shape = self.access.shape()
        forms = {name: shape[name] for name in ("mapping", "template")}
        return endpoint_digest(kind=self.kind, address=self.address, model=self.access.model, **forms)

    def planned(self, *, control: bool) -> PlannedSuspect:
        """The suspect as a plan names it."""
        return PlannedSuspect(
            name=self.name, control=control, digest=self.digest(), kind=self.kind, address=self.address
        )  # fmt: skip

    def chat_model(self, system: str | None, config: Any) -> Suspect:  # noqa: ANN401 - a release's config
        """The causal language model of a folder, ready to answer."""
        return load_chat_model(
            self.name, self.model, self.base, system=system, max_new_tokens=config.audit.max_new_tokens,
            temperature=config.audit.temperature, seed=config.seed,
        )  # fmt: skip

    def endpoint(self, system: str | None, *, max_tokens: int, temperature: float, seed: int) -> Endpoint:
        """The endpoint, or the recorded answers, ready to be asked.

        Raises:
            UsageError: no model is named, or a mapping or template that is none.
        """
        if self.kind == "recorded":
            from verification.recorded import RecordedAnswers

            return RecordedAnswers(self.name, _existing(Path(self.model.removeprefix(RECORDED))))
        from verification.endpoints import ChatEndpoint, ClassifierEndpoint, CompletionsEndpoint, LabelMapping

        access, policy = self.access, self.access.policy(max_tokens)
        if self.kind == "classifier_http":
            mapping = LabelMapping(**_json(access.mapping)) if access.mapping else None
            return ClassifierEndpoint(
                self.name, self.address, mapping=mapping, model=access.model, key=access.key(), policy=policy
            )  # fmt: skip
        if not access.model:
            raise UsageError(f"got {self.address} without a model, expected its name there", hint="add --model NAME")
        common = {
            "model": access.model, "key": access.key(), "policy": policy, "temperature": temperature, "seed": seed,
        }  # fmt: skip
        if self.kind == "chat":
            return ChatEndpoint(self.name, self.address, system=system, **common)  # type: ignore[arg-type]
        if system is not None:
            raise UsageError(
                "got --system with --api completions, expected it inside the template",
                hint="completions have no system prompt: write it into the file of --template",
            )
        template = {"template": _text(access.template)} if access.template else {}
        return CompletionsEndpoint(self.name, self.address, **common, **template)  # type: ignore[arg-type]


def controls_of(base: str | None, controls: Sequence[str]) -> tuple[Asked, ...]:
    """The base of an adapter is a control too; a URL among controls is asked as the suspect is."""
    known = ([base] if base else []) + [c for c in controls if c != base]
    return tuple(Asked(name="base" if c == base else f"control-{i}", model=c) for i, c in enumerate(known))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"got {path}, which is no file, expected recorded answers (JSON lines)")
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"got {path} ({type(error).__name__}), expected a UTF-8 file") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(_text(path))
    except ValueError as error:
        raise UsageError(f"got {path} ({error}), expected a JSON object with request, label, labels, model") from None
    if not isinstance(body, dict) or not set(body) <= {"request", "label", "labels", "model"}:
        raise UsageError(f"got {path} of another shape, expected a JSON object with request, label, labels, model")
    return body


def check_adapter(model: str, base: str | None) -> None:
    """Refuses a LoRA adapter that is named without its base: with one command's words as with another's."""
    if not base and (Path(model).expanduser() / "adapter_config.json").is_file():
        raise UsageError(
            f"got the adapter {model} without its base, expected both", hint="name the base model with --base"
        )


def load_chat_model(
    name: str,
    model: str,
    base: str | None,
    *,
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    seed: int = 0,
) -> LocalChatModel:
    """A causal language model, or a LoRA adapter over its base, ready to answer.

    Raises:
        UsageError: an adapter without its base, or over one that it does not fit.
    """
    from verification.suspects import LocalChatModel

    check_adapter(model, base)
    folder, under = resolve_model(model).path, resolve_model(base).path if base else None
    try:
        return LocalChatModel(
            name, under or folder, adapter=folder if under else None, system=system, max_new_tokens=max_new_tokens,
            temperature=temperature, seed=seed,
        )  # fmt: skip
    except (RuntimeError, ValueError, KeyError) as error:
        if not under:
            raise
        said = " ".join(str(error).split())[:160]
        raise UsageError(
            f"got adapter {model}, which does not fit base {base} ({said}), expected its own base",
            hint="the model card in the adapter's folder names its base",
        ) from None
