"""A desk to detect at: a sealed key ring, the real tokenizer, and texts of whole words."""

from __future__ import annotations

import json
import random

import pytest

from countermark.errors import MissingAssetError
from pipelines.assets import resolve_model
from pipelines.config import load_config
from pipelines.detection import Search, detect_files
from pipelines.engines import hf
from pipelines.generate import SCOPE, tokenizer_digest
from tests.support import QUICKSTART, key_of
from tests.verification.marked import marked
from watermarks import keystore
from watermarks.keyring import KeyEntry, KeyRing
from watermarks.keys import KeyState

KEYS = {name: key_of(name) for name in ("primary", "second", "revoked", "destroyed")}
STATES = (KeyState.ACTIVE, KeyState.VERIFY_ONLY, KeyState.REVOKED, KeyState.DESTROYED)
ALPHA = 1e-6  # the quickstart's
OK, NOT_SUPPORTED, TOO_SHORT = 0, 1, 5


class Desk:
    """A key ring, the tokenizer's plain words, and texts made of them."""

    def __init__(self, folder):
        try:
            self.model = resolve_model("embedded:smollm2-135m-instruct")
        except MissingAssetError as error:
            pytest.skip(error.message)
        self.tokenizer = hf.AutoTokenizer.from_pretrained(self.model.path, local_files_only=True)
        pieces = self.tokenizer.batch_decode([[i] for i in range(8000)], clean_up_tokenization_spaces=False)
        plain = (p[:1] == " " and len(p) > 3 and p[1:].isascii() and p[1:].isalpha() for p in pieces)
        self.words = tuple(token for token, whole in enumerate(plain) if whole)
        self.folder, self.ring, self.passphrase = (
            folder,
            folder / "owner" / "keys.json",
            folder / "owner" / "passphrase",
        )
        entries = tuple(
            KeyEntry(key_id=key.key_id, version=version, state=state, key=None if state is KeyState.DESTROYED else key)
            for version, (key, state) in enumerate(zip(KEYS.values(), STATES, strict=True), 1)
        )
        ring = KeyRing(ring_id="ring_test", entries=entries, primary=entries[0].key_id)
        with pytest.MonkeyPatch.context() as patch:  # every test opens it again
            patch.setitem(keystore._KDF, "memory_kib", 1024)
            keystore.save_ring(self.ring, ring, b"open sesame")
        self.passphrase.write_text("open sesame\n")
        self.passphrase.chmod(0o600)
        self.config = load_config(
            QUICKSTART,
            [f"keys.ring={json.dumps(str(self.ring))}", f"keys.passphrase_file={json.dumps(str(self.passphrase))}"],
        )

    def subkey(self, scheme, *, key="primary", scope=SCOPE):
        return KEYS[key].token_subkey(
            scheme=scheme.name, params=scheme.params(), tokenizer=tokenizer_digest(self.model.path), scope=scope
        )

    def marked(self, scheme=None, *, texts=3, length=40, **who):
        scheme = scheme or self.config.generate.watermark.build()
        return marked(scheme, self.subkey(scheme, **who), texts=texts, length=length, vocabulary=self.words)

    def unmarked(self, *, texts=3, length=40):
        rng = random.Random(8)
        return [[rng.choice(self.words) for _ in range(length)] for _ in range(texts)]

    def text(self, tokens):
        return self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)

    def file(self, name, rows):
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def jsonl(self, texts, name="texts.jsonl"):
        return self.file(name, [{"text": self.text(tokens)} for tokens in texts])

    def ask(self, *files, config=None, **what):
        return detect_files(list(files), config or self.config, Search(**what))
