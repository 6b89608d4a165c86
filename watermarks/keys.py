"""Keys: 256 random bits with an id that says nothing about them, and everything derived from them.

The order of a release is: commit to the key, wait for a public value B that nobody could choose, derive sub-keys with
salt B, mark. Without B an owner could try a million keys until one fits an innocent model ("ground keys"); verdicts
then print that they assume the owner drew the key honestly.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from countermark.errors import UsageError
from countermark.manifest import canonical_json
from watermarks.prf import SUBKEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES = 32
NONCE_BYTES = 32
DERIVATION_VERSION = 1
_CHILD_ID_BYTES = 12  # 96 bits: among a billion recipients two share an id with probability below 1e-11
_COMMITMENT_DOMAIN = b"countermark/commitment/v1"
_WRONG_KEY_DOMAIN = b"countermark/wrong-key/v1"


class KeyState(StrEnum):
    """Where a key stands in its life; :mod:`watermarks.keylife` holds the ways from one to another."""

    ACTIVE = "active"
    VERIFY_ONLY = "verify_only"
    REVOKED = "revoked"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A master key. Its bytes appear in no ``repr``, log, manifest or argument list.

    Args:
        key_id: opaque and random, *not* derived from the secret.
        secret: 32 random bytes.
        nonce: 32 random bytes that blind the commitment.
        salt: the public value B, or empty bytes where there is none.
    """

    key_id: str
    secret: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    salt: bytes = b""

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES or len(self.nonce) != NONCE_BYTES:
            raise UsageError(f"got a key of {len(self.secret)} bytes, expected {KEY_BYTES}")

    def derive(self, label: Mapping[str, Any], length: int = 32) -> bytes:
        """HKDF-SHA256 sub-key for ``label`` (any JSON object; its canonical form is the ``info``)."""
        info = canonical_json({"countermark": DERIVATION_VERSION, **label})
        return HKDF(algorithm=SHA256(), length=length, salt=self.salt or None, info=info).derive(self.secret)

    def token_subkey(self, *, scheme: str, params: Mapping[str, Any], tokenizer: str, scope: str) -> bytes:
        """The 128-bit SipHash key of one token scheme over one tokenizer (named by digest) and one scope."""
        label = {"purpose": "token", "scheme": scheme, "params": params, "tokenizer": tokenizer, "scope": scope}
        return self.derive(label, SUBKEY_BYTES)

    def stream(self, label: Mapping[str, Any]) -> KeyedStream:
        """A stream of uniform draws for ``label``, independent of every other label's."""
        return KeyedStream(self.derive({"stream": dict(label)}))

    def commit(self, config_digest: str) -> str:
        """The hiding, binding commitment to this key and one marking config, as hex SHA-256."""
        return commitment(nonce=self.nonce, secret=self.secret, key_id=self.key_id, config_digest=config_digest)

    def wrong_key_seed(self, commitment: str, first: int = 0) -> str:
        """The seed of the wrong keys of the audit that asks from trigger ``first`` on: public once its plan is sealed.

        Derived, so that nobody can shop for one; and from the secret, so that who trains a suspect cannot know which
        wrong keys it will be asked for: whoever taught it their triggers would make every control fail.
        """
        return self.derive({"purpose": "wrong-keys", "commitment": commitment, "first": first}).hex()

    def recipient(self, name: str) -> Key:
        """The key of one recipient: derived, never stored, and reached in O(1) however many there are.

        Its id, secret and nonce come from one HKDF output, so the same recipient has the same key for ever. The id says
        nothing about the recipient to anyone who lacks this key. B is no part of the derivation, so the id does not
        change when B comes; the recipient's own sub-keys carry B as this key's do.

        Raises:
            UsageError: an empty name, or one that is not Unicode.
        """
        if not name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UsageError(f"got recipient {name!r}, expected a name in Unicode")
        label = {"purpose": "recipient-key", "recipient": name}
        drawn = self.with_salt(b"").derive(label, _CHILD_ID_BYTES + KEY_BYTES + NONCE_BYTES)
        opaque, secret, nonce = (
            drawn[:_CHILD_ID_BYTES],
            drawn[_CHILD_ID_BYTES : _CHILD_ID_BYTES + KEY_BYTES],
            drawn[_CHILD_ID_BYTES + KEY_BYTES :],
        )
        return Key(key_id=f"{self.key_id}.{opaque.hex()}", secret=secret, nonce=nonce, salt=self.salt)

    def with_salt(self, salt: bytes) -> Key:
        """The same key, deriving with the public value B as salt."""
        return Key(key_id=self.key_id, secret=self.secret, nonce=self.nonce, salt=salt)


def new_key() -> Key:
    """A fresh key from the operating system's generator."""
    return Key(
        key_id="ck_" + secrets.token_hex(8),
        secret=secrets.token_bytes(KEY_BYTES),
        nonce=secrets.token_bytes(NONCE_BYTES),
    )


def wrong_key(seed: str, index: int) -> Key:
    """A counterfactual key that anyone can re-derive from public values: a control, never a secret."""
    base = hashlib.sha256(_WRONG_KEY_DOMAIN + _framed(seed.encode(), str(index).encode())).digest()
    return Key(key_id=f"wrong_{index}", secret=base, nonce=bytes(NONCE_BYTES))


def commitment(*, nonce: bytes, secret: bytes, key_id: str, config_digest: str) -> str:
    """Domain-separated, length-prefixed SHA-256 over nonce, key, key id, derivation version and config digest."""
    parts = (nonce, secret, key_id.encode(), str(DERIVATION_VERSION).encode(), config_digest.encode())
    return hashlib.sha256(_framed(_COMMITMENT_DOMAIN, *parts)).hexdigest()


def commitment_opens(expected: str, key: Key, config_digest: str) -> bool:
    """Whether ``key`` is the one that ``expected`` committed to, with that marking config."""
    return hmac.compare_digest(expected.encode(), key.commit(config_digest).encode())


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


class KeyedStream:
    """Uniform integers from a key: SHAKE-256 as a stream, rejection sampling for exact uniformity.

    The same key gives the same draws in the same order, on every machine and version.
    """

    _BLOCK = 4096

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._block = 0
        self._buffer = b""

    def __repr__(self) -> str:
        return "KeyedStream(<secret>)"

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        while len(self._buffer) < count:
            self._buffer += hashlib.shake_256(self._seed + self._block.to_bytes(8, "big")).digest(self._BLOCK)
            self._block += 1
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def below(self, bound: int) -> int:
        """A uniform integer in 0 … bound-1, by rejection (``% bound`` would lean)."""
        if bound < 1:
            raise UsageError(f"got a bound of {bound}, expected at least 1")
        size = max(1, (bound.bit_length() + 7) // 8)
        limit = (1 << (8 * size)) // bound * bound
        while True:
            value = int.from_bytes(self.take(size), "big")
            if value < limit:
                return value % bound

    def shuffled(self, count: int) -> list[int]:
        """A uniform permutation of 0 … count-1 (Fisher-Yates)."""
        order = list(range(count))
        for i in range(count - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order
