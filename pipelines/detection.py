"""``countermark detect``: texts against one key, or against every key, scheme and scope that could have marked them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countermark.errors import EXIT_INCONCLUSIVE, EXIT_NOT_SUPPORTED, EXIT_OK, UsageError
from verification.detect import Found, Mark, TokenEvidence, detect, search
from watermarks.keys import KeyState
from watermarks.schemes import make_scheme, scheme_names
from watermarks.schemes.base import check_statistic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.config import RunConfig
    from verification.corpus import Corpus
    from verification.retokenise import Mismatch
    from watermarks.keyring import KeyEntry, Standing
    from watermarks.keys import Key
    from watermarks.schemes import Scheme

TOO_SHORT = "too short"
LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for: all combinations are tried, and all are paid for (Holm).

    Args:
        key_ids: keys of the ring; empty is the ring's primary.
        all_keys: every key of the ring that is not destroyed.
        schemes: ``NAME`` or ``NAME:param=value,...``; empty is the config's scheme.
        scopes: scopes of the sub-keys (a dataset, a deployment, a recipient).
        statistic: one of the scheme's statistics; empty is its first.
        device: ``cpu`` or a torch device.
    """

    key_ids: tuple[str, ...] = ()
    all_keys: bool = False
    schemes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    statistic: str = ""
    device: str = "cpu"


def detect_files(files: Sequence[Path], config: RunConfig, what: Search) -> tuple[list[str], Any, int]:
    """Token evidence of texts; exit code 0 if supported at ``audit.alpha``, 1 if not, 5 if too short to say."""
    from countermark import libraries
    from pipelines.assets import resolve_model
    from pipelines.generate import SCOPE, tokenizer_digest

    libraries.keep_freed_memory()

    schemes = [parse_scheme(spec) for spec in what.schemes] or [config.generate.watermark.build()]
    for scheme in schemes if what.statistic else []:
        check_statistic(scheme, what.statistic)
    keys = _keys(config, what)
    now = datetime.now(UTC)
    standings = {key.key_id: entry.standing(now) for key, entry in keys}
    rows = [row for path in files for row in read_texts(path)]
    model = resolve_model(config.generate.model)
    corpus, lost = _corpus(model.path, rows, schemes[0])
    digest = tokenizer_digest(model.path)
    marks = [
        Mark(
            name=_name(key, scheme, scope, [keys, schemes, what.scopes]),
            scheme=scheme,
            subkey=key.token_subkey(scheme=scheme.name, params=scheme.params(), tokenizer=digest, scope=scope),
            statistic=what.statistic,
        )
        for key, _ in keys
        for scheme in schemes
        for scope in what.scopes or (SCOPE,)
    ]
    lives = [standings[key.key_id] for key, _ in keys for _ in schemes for _ in what.scopes or (SCOPE,)]
    log10_alpha = math.log10(config.audit.alpha)
    if len(marks) == 1:
        lines, body, code = _one(corpus, marks[0], lives[0], log10_alpha, what.device)
    else:
        lived = {mark.name: standing for mark, standing in zip(marks, lives, strict=True)}
        lines, body, code = _many(search(corpus, marks, device=what.device), lived, log10_alpha)
    lines.append(f"re-tokenisation: {lost.lost} of {lost.windows} inputs lost ({lost.rate:.2%})")
    body |= {"alpha": config.audit.alpha, "retokenisation": {"windows": lost.windows, "lost": lost.lost}}
    return lines, body, code


def parse_scheme(spec: str) -> Scheme:
    """``kgw`` or ``kgw:context_width=4,self_salt=true`` as a scheme.

    Raises:
        UsageError: what is not of that form, or what the scheme refuses.
    """
    from pydantic import ValidationError

    from pipelines.config import WatermarkConfig
    from pipelines.yamlsource import parse_yaml

    name, _, rest = spec.partition(":")
    if name not in scheme_names():
        make_scheme(name, {})  # names the known ones
    params: dict[str, Any] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        parsed = parse_yaml(f"value: {value}", "--scheme").data
        if not equals or set(parsed) != {"value"} or key in params or key == "scheme":
            raise UsageError(f"got {item!r} in --scheme {spec!r}, expected param=value, each parameter once")
        params[key] = parsed["value"]
    try:
        return WatermarkConfig.model_validate({"scheme": name, **params}).build()
    except ValidationError as error:
        problem = error.errors()[0]
        named = problem.get("ctx", {}).get("key", "")
        raise UsageError(f"got --scheme {spec!r}: {named} {problem['msg']}") from None


def read_texts(path: Path) -> list[dict[str, Any]]:
    """Rows with a ``text``, and the generated ``tokens`` where a file has them; a .txt file is one row.

    Raises:
        UsageError: no such file, no rows, or rows without text.
    """
    from pipelines.sources import load_table

    if not path.is_file():
        raise UsageError(f"got {path}, expected a text file", hint="see `countermark detect --help`")
    if path.suffix == ".txt":
        try:
            return [{"text": path.read_text("utf-8")}]
        except UnicodeDecodeError as error:
            raise UsageError(f"got {path}, which is not UTF-8 at byte {error.start}, expected UTF-8 text") from None
    rows = load_table(str(path))
    if not rows or any(not isinstance(row, dict) or not isinstance(row.get("text"), str) for row in rows):
        raise UsageError(f"got {path} without a 'text' in every row, expected one")
    for number, row in enumerate(rows):
        tokens = row.get("tokens")
        if tokens is not None and not _are_ids(tokens):
            raise UsageError(
                f"got {path} row {number} with 'tokens' that are no list of token ids, expected the generated ids",
                hint="rename or drop the column if it is something else",
            )
    return rows


def _are_ids(tokens: Any) -> bool:  # noqa: ANN401
    return isinstance(tokens, list) and all(type(token) is int and token >= 0 for token in tokens)


def _corpus(folder: Path, rows: Sequence[dict[str, Any]], scheme: Scheme) -> tuple[Corpus, Mismatch]:
    """The texts as tokens, and how many inputs tokenising lost: against the generated tokens where rows have them,
    else against the text that the tokens decode to, tokenised again.
    """
    from pipelines.engines.hf import decoded, token_ids
    from verification.corpus import Corpus
    from verification.retokenise import mismatch

    ids, masks = token_ids(folder, [row["text"] for row in rows])
    generated = [row["tokens"] for row in rows if row.get("tokens")]
    if generated:
        read = [tokens for row, tokens in zip(rows, ids, strict=True) if row.get("tokens")]
        lost = mismatch(generated, read, scheme.inputs)
    else:
        lost = mismatch(ids, token_ids(folder, decoded(folder, ids))[0], scheme.inputs)
    return Corpus.pack(ids, masks), lost


def _keys(config: RunConfig, what: Search) -> list[tuple[Key, KeyEntry]]:
    from pipelines.progress import QuietProgress
    from pipelines.stage import Context

    context = Context(config=config, owner=Path("owner"), work=Path(), progress=QuietProgress())
    return context.keys_with_lives(what.key_ids, all_keys=what.all_keys)


def _name(key: Key, scheme: Scheme, scope: str, choices: Sequence[Sequence[Any]]) -> str:
    """What tells this mark from the others of the search."""
    parts = (key.key_id, _short(scheme), scope)
    return " ".join(part for part, choice in zip(parts, choices, strict=True) if len(choice) > 1) or key.key_id


def _short(scheme: Scheme) -> str:
    made = make_scheme(scheme.name, {}).params()
    changed = ",".join(f"{k}={v}" for k, v in scheme.params().items() if made[k] != v)
    return f"{scheme.name}:{changed}" if changed else scheme.name


def _one(
    corpus: Corpus, mark: Mark, life: Standing, log10_alpha: float, device: str
) -> tuple[list[str], dict[str, Any], int]:
    each, whole = detect(corpus, mark.scheme, mark.subkey, statistic=mark.statistic, device=device)
    rows = [_row(f"text {i}", e, log10_alpha) for i, e in enumerate(each)] + [_row("corpus", whole, log10_alpha)]
    lines = [f"{'':<12} {'scored':>8} {mark.counted_by:>14} {'log10 p':>9}"]
    for row in rows:
        p = "-" if row["log10_p"] is None else f"{row['log10_p']:.2f}"
        note = f"  {TOO_SHORT}" if row["too_short"] else ""
        lines.append(f"{row['name']:<12} {row['scored']:>8} {row['total']:>14} {p:>9}{note}")
    if life.state is not KeyState.ACTIVE:
        lines.append(f"key {life.key_id} is {life}")
    body = {"key_id": mark.name, "key": life.to_json(), "evidence": rows}
    return lines, body, _code([whole], whole.log10_p, log10_alpha)


def _many(
    found: Sequence[Found], lives: Mapping[str, Standing], log10_alpha: float
) -> tuple[list[str], dict[str, Any], int]:
    """The ranked list for the corpus; a mark is found if it survives Holm over everything that was tried."""
    level = log10_alpha - math.log10(len(found))
    rows = [
        {**_row(f.name, f.evidence, level), "log10_p_holm": f.log10_p_holm, "key": lives[f.name].to_json()}
        for f in found
    ]
    lines = [f"{len(found)} marks tried; Holm over all of them", f"{'log10 p':>9} {'Holm':>9} {'scored':>8}  mark"]
    for row in rows[:LISTED]:
        p = "-" if row["log10_p"] is None else f"{row['log10_p']:.2f}"
        life = lives[row["name"]]
        state = "" if life.state is KeyState.ACTIVE else f"  ({life})"
        lines.append(f"{p:>9} {row['log10_p_holm']:>9.2f} {row['scored']:>8}  {row['name']}{state}")
    if len(rows) > LISTED:
        lines.append(f"… and {len(rows) - LISTED} more (all with --json)")
    return lines, {"marks": rows}, _code([f.evidence for f in found], rows[0]["log10_p_holm"], log10_alpha, level)


def _code(evidence: Sequence[TokenEvidence], best: float | None, log10_alpha: float, level: float | None = None) -> int:
    if all(each.too_short(log10_alpha if level is None else level) for each in evidence):
        return EXIT_INCONCLUSIVE
    return EXIT_OK if best is not None and best <= log10_alpha else EXIT_NOT_SUPPORTED


def _row(name: str, evidence: TokenEvidence, log10_alpha: float) -> dict[str, Any]:
    return {
        "name": name,
        "statistic": evidence.statistic,
        "scored": evidence.scored,
        "total": evidence.total,
        "log10_p": evidence.log10_p,
        "too_short": evidence.too_short(log10_alpha),
    }
