"""Writes ``schemes.json``: known answers of the schemes, from plain integers and the text of ``docs/formats.md`` alone.

Nothing of the package is imported, and where a scheme's paper has another form of its rule than our code, this file has
that one: a tournament layer is played here as the match of two samples that it is. Run it as
``python tests/vectors/make_schemes.py``.
"""

from __future__ import annotations

import json
import math
from decimal import ROUND_FLOOR, Decimal, getcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

MASK32, MASK64 = 2**32 - 1, 2**64 - 1
SCORES = [0.5, -1.25, 3.0, None, 0.0, 1.75, -2.5, 0.125, 2.25, None, -0.75, 1.0]
"""Scores of a vocabulary of twelve; None is minus infinity, a masked token."""
SUBKEYS = [bytes(range(16)), bytes.fromhex("ff00a5c3deadbeef8000000000000001")]
CONTEXTS = [[7, 300, 65_541, 12], [4_294_967_295, 0, 151_935, 65_536]]
"""A scheme of h tokens takes the last h of each."""
TOKENS = [0, 1, 2, 11, 300, 65_536, 151_935, 4_294_967_295]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("kgw", {}),
    ("kgw", {"context_width": 1, "gamma": 0.5, "delta": 1.5}),
    ("kgw", {"context_width": 4, "self_salt": True}),
    ("kgw", {"hard": True}),
    ("unigram", {}),
    ("gumbel", {"context_width": 2}),
    ("gumbel", {"context_width": 4}),
    ("gumbel", {"context_width": 4, "alpha": 0.1}),
    ("tournament", {"layers": 30}),
    ("tournament", {"layers": 7}),
    ("tournament", {"layers": 1, "context_width": 2}),
]


def siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 (Aumasson and Bernstein, 2012)."""
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotl(x: int, b: int) -> int:
        return (x << b | x >> (64 - b)) & MASK64

    def sip_round() -> None:
        v[0] = (v[0] + v[1]) & MASK64
        v[1] = rotl(v[1], 13) ^ v[0]
        v[0] = rotl(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK64
        v[3] = rotl(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK64
        v[3] = rotl(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK64
        v[1] = rotl(v[1], 17) ^ v[2]
        v[2] = rotl(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= word
        sip_round()
        sip_round()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        sip_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def seed(key: bytes, words: list[int]) -> int:
    """SipHash of the words, each four bytes, little-endian."""
    return siphash(key, b"".join(word.to_bytes(4, "little") for word in words))


def mix32(x: int) -> int:
    """The finaliser."""
    x ^= x >> 16
    x = x * 0x21F0AAAD & MASK32
    x ^= x >> 15
    x = x * 0x735A2D97 & MASK32
    return x ^ x >> 15


def expand(value: int, token: int) -> int:
    """``h(token)`` under a 64-bit seed."""
    return mix32(mix32((token * 0x9E3779B1 & MASK32) ^ (value & MASK32)) ^ (value >> 32))


def anchor_of(key: bytes, context: list[int], token: int) -> int:
    """The earliest of the context's tokens that minimise F(token, anchor)."""
    return min(context, key=lambda word: expand(seed(key, [word]), token))


def draw(name: str, params: dict[str, Any], key: bytes, context: list[int], token: int) -> list[int]:
    """The scheme's draws of a token in its context: one, or two for dual keys."""
    if name == "unigram":
        return [seed(key, [token]) & MASK32]
    if params.get("self_salt"):
        return [expand(seed(key, [anchor_of(key, context, token), 1]), token)]
    first = expand(seed(key, context), token)
    return [first, expand(seed(key, [*context, 1]), token)] if params.get("alpha") else [first]


def green(name: str, params: dict[str, Any], drawn: int) -> bool:
    """Whether a draw is green."""
    gamma = Fraction(params.get("gamma", 0.5 if name == "unigram" else 0.25))
    return drawn < math.floor(gamma * 2**32)


def weights(layers: int) -> list[int]:
    """Falling evenly from 10 to 1, rounded to the nearest integer."""
    return [math.floor(Fraction(10) - Fraction(9 * i, max(layers - 1, 1)) + Fraction(1, 2)) for i in range(layers)]


def worths(name: str, params: dict[str, Any], drawn: list[int]) -> dict[str, int]:
    """What the draws are worth, for each statistic."""
    if name == "kgw":
        return {"green": int(green(name, params, drawn[0]))}
    if name == "unigram":
        return dict.fromkeys(("unique", "counts"), int(green(name, params, drawn[0])))
    if name == "tournament":
        bits = [drawn[0] >> i & 1 for i in range(params["layers"])]
        return {"weighted": sum(w * b for w, b in zip(weights(len(bits)), bits, strict=True)), "mean": sum(bits)}
    alpha = Decimal(str(params.get("alpha", 0)))
    shares = [1 - alpha, alpha]
    credit = sum(share * -(Decimal(d + 1) / 2**32).ln() for share, d in zip(shares, drawn, strict=False))
    return {"credit": int((credit * 2**24).to_integral_value(ROUND_FLOOR)), "half": int(drawn[0] < 2**31)}


def softmax(scores: list[float | None]) -> list[float]:
    """Probabilities of scores; None has none."""
    masses = [0.0 if s is None else math.exp(s) for s in scores]
    return [m / math.fsum(masses) for m in masses]


def bent(name: str, params: dict[str, Any], drawn: list[list[int]]) -> dict[str, Any]:
    """The marked scores of the small vocabulary, or for schemes that sample the marked probabilities."""
    if name in {"kgw", "unigram"}:
        delta, greens = params.get("delta", 2.0), [green(name, params, d[0]) for d in drawn]
        if params.get("hard"):
            return {"scores": [s if g else None for s, g in zip(SCORES, greens, strict=True)]}
        return {"scores": [None if s is None else s + delta * g for s, g in zip(SCORES, greens, strict=True)]}
    p = softmax(SCORES)
    if name == "tournament":
        for layer in range(params["layers"]):
            bits = [d[0] >> layer & 1 for d in drawn]
            p = [
                math.fsum(mass * other * (1 + bit - against) for other, against in zip(p, bits, strict=True))
                for mass, bit in zip(p, bits, strict=True)
            ]
        return {"probabilities": [round(mass, 6) for mass in p]}
    alpha = params.get("alpha", 0.0)
    chosen = [
        min((i for i in range(len(p)) if p[i]), key=lambda i: -math.log1p(-(drawn[i][stream] + 0.5) / 2**32) / p[i])
        for stream in range(len(drawn[0]))
    ]
    probabilities = [0.0] * len(p)
    for token, share in zip(chosen, [1 - alpha, alpha], strict=False):
        probabilities[token] += share
    return {"chosen": chosen, "probabilities": probabilities}


def case(name: str, params: dict[str, Any], key: bytes, context: list[int]) -> dict[str, Any]:
    """One known answer."""
    width = {"kgw": 2, "unigram": 0, "gumbel": 4, "tournament": 4}[name]
    context = context[len(context) - params.get("context_width", width) :]
    drawn = [draw(name, params, key, context, token) for token in TOKENS]
    counted = [worths(name, params, each) for each in drawn]
    made = {
        "scheme": name,
        "params": params,
        "subkey": key.hex(),
        "context": context,
        "draws": drawn,
        "worth": {statistic: [each[statistic] for each in counted] for statistic in counted[0]},
        "bent": bent(name, params, [draw(name, params, key, context, token) for token in range(len(SCORES))]),
    }
    if params.get("self_salt"):
        made["anchors"] = [anchor_of(key, context, token) for token in TOKENS]
    return made


def build() -> dict[str, Any]:
    """The whole file."""
    getcontext().prec = 60
    return {
        "source": "made by tests/vectors/make_schemes.py: plain integers, nothing of the package",
        "scores": SCORES,
        "tokens": TOKENS,
        "cases": [
            case(name, params, key, context)
            for name, params in CASES
            for key, context in zip(SUBKEYS, CONTEXTS, strict=True)
        ],
    }


if __name__ == "__main__":
    Path(__file__).with_name("schemes.json").write_text(json.dumps(build(), indent=1) + "\n", "utf-8")
