"""A config's mistakes, each as one error: file, line, dotted key, what was got and expected, the nearest valid key."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from countermark.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.yamlsource import Source

Config = TypeVar("Config", bound=BaseModel)


def validated(source: Source, model: type[Config], example: str) -> Config:
    """``source`` as a ``model``; ``example`` is a complete config of that kind.

    Raises:
        ConfigError: with file, line, dotted key, what was got and expected, and the nearest valid key.
    """
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        raise _explain(source, error, model, example) from None


def _explain(source: Source, error: ValidationError, model: type[BaseModel], example: str) -> ConfigError:
    # a misspelt key is both unknown and missing: the line that holds it comes first
    problem = min(error.errors(), key=lambda p: {"extra_forbidden": 0, "missing": 2}.get(p["type"], 1))
    context = problem.get("ctx", {})
    location = tuple(str(part) for part in problem["loc"])
    if "key" in context:
        location = (*location, str(context["key"]))
    elif problem["type"] != "missing":
        location = _written(source.data, location)
    kind = problem["type"]
    if kind == "extra_forbidden":
        valid = context.get("valid") or _valid_keys(model, location[:-1])
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(valid)}"
        return ConfigError(
            f"{source.where(location)}: got an unknown key {location[-1]!r}, expected a known one", hint=hint
        )
    if kind == "missing":
        return ConfigError(
            f"{source.where(location)}: got no {location[-1]!r}, expected this key to be set",
            hint=f"see {example} for a complete example",
        )
    if kind == "parameter" and "problem" in context:
        return ConfigError(f"{source.where(location)}: {context['problem']}", hint="change the value on this line")
    got = _value_at(source.data, location)
    message = problem["msg"].replace("Input should be ", "").removeprefix("expected ")
    near = difflib.get_close_matches(str(got), _choices(context), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "change the value on this line; docs/formats.md lists every key"
    return ConfigError(f"{source.where(location)}: got {got!r}, expected {message}", hint=hint)


def _written(data: Any, location: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ANN401
    """The part of a location that stands in the file: pydantic adds the names of union members."""
    kept: list[str] = []
    for part in location:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        else:
            break
        kept.append(part)
    return tuple(kept)


def _choices(context: dict[str, Any]) -> list[str]:
    expected = str(context.get("expected", ""))
    return [part.strip(" '\"") for part in expected.replace(" or ", ",").split(",") if part.strip()]


def _value_at(data: Any, location: tuple[str, ...]) -> Any:  # noqa: ANN401
    for part in location:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
    text = data if isinstance(data, str | int | float | bool) or data is None else f"a {type(data).__name__}"
    return text[:80] if isinstance(text, str) else text


def _valid_keys(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        found = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if found is None:
            break
        model = found
    return list(model.model_fields)
