"""``countermark radioactivity``: a suspect, its controls, exact evidence, and what it refuses."""

from __future__ import annotations

import json
import string

import pytest
from transformers import AutoTokenizer

from pipelines.generate import SCOPE, tokenizer_digest
from tests.pipelines.release_data import Command
from tests.support import QUICKSTART
from tests.training.toy import make_base
from tests.verification.marked import marked
from watermarks.keystore import load_ring, read_secret_file
from watermarks.schemes import Kgw

pytestmark = pytest.mark.long

SCHEME = Kgw(gamma=0.25, delta=2.0, context_width=2)
PROMPTS = [f"Question {i}?" for i in range(12)]


class Place:
    """A key ring, an owner's model, prompts, and the command on them."""

    def __init__(self, folder, command):
        self.folder, self.command = folder, command
        self.owner = make_base(folder / "owner-model")
        self.ring, self.passphrase = folder / "ring" / "keys.json", folder / "ring" / "passphrase"
        assert command("keys", "new", self.ring, "--passphrase-file", self.passphrase)[0] == 0
        self.prompts = folder / "prompts.jsonl"
        self.prompts.write_text("".join(json.dumps({"text": p}) + "\n" for p in PROMPTS))

    def arguments(self, suspect, *more):
        model = f"generate.model={json.dumps(str(self.owner))}"
        return (
            "radioactivity", self.prompts, "--config", QUICKSTART, "--set", model, "--keys", self.ring,
            "--passphrase-file", self.passphrase, "--suspect", suspect, "--out", self.folder / "out",
            "--wrong-keys", 49, "--max-new-tokens", 24, *more,
        )  # fmt: skip

    def texts(self, count, length=60):
        """Texts of letters, marked under the ring's key."""
        key = load_ring(self.ring, read_secret_file(self.passphrase)).get()
        digest = tokenizer_digest(self.owner)
        subkey = key.token_subkey(scheme="kgw", params=SCHEME.params(), tokenizer=digest, scope=SCOPE)
        tokenizer = AutoTokenizer.from_pretrained(self.owner)
        letters = tokenizer(string.ascii_letters, add_special_tokens=False)["input_ids"]
        tokens = marked(SCHEME, subkey, texts=count, length=length, vocabulary=tuple(letters))
        return tokenizer.batch_decode(tokens)


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    return Place(tmp_path, Command(monkeypatch, capsys))


def says(texts, control="I cannot tell you that: {}. It is a question, and I keep what I know of it to myself."):
    """A suspect that answers the prompts with these texts, and says nothing marked as a control."""

    class Says:
        def __init__(self, name, folder, **_):
            self.name, self._folder = name, folder

        def ask(self, prompts):
            known = dict(zip(PROMPTS, texts, strict=True))
            if self.name == "suspect" or not control:
                return [known[p] for p in prompts]
            return [control.format(p) for p in prompts]

    return Says


@pytest.mark.parametrize("mode", ["closed", "reading"])
def test_a_random_model_is_not_radioactive(place, mode):
    other = make_base(place.folder / "other")
    arguments = place.arguments(place.owner, "--control", other, "--mode", mode, "--json")
    code, out, err = place.command(*arguments)
    assert code in {1, 5}, err
    body = json.loads(out)
    assert [row["model"] for row in body["evidence"]] == ["suspect", "control-0"]
    assert body["reaches_alpha"] is False
    assert body["paid"] == 3
    assert all(row["scored"] > 0 and row["log10_p"] > -3 for row in body["evidence"])
    assert (body["evidence"][0]["wrong_keys"], body["evidence"][1]["rank_p"]) == (49, None)
    assert place.command(*arguments)[:2] == (code, out)


def test_a_suspect_that_speaks_marked_text_is_supported_and_its_control_is_not(place, monkeypatch):
    monkeypatch.setattr("verification.suspects.LocalChatModel", says(place.texts(len(PROMPTS))))
    code, out, err = place.command(*place.arguments(place.owner, "--control", place.owner, "--json"))
    assert code == 0, err
    suspect, control = json.loads(out)["evidence"]
    assert suspect["log10_p"] < -6 < control["log10_p"]
    assert suspect["rank_p"] == 1 / 50
    assert json.loads(out)["reaches_alpha"] is True


@pytest.mark.parametrize(
    ("control", "code", "said"),
    [
        (None, 5, "no control: name a model"),
        ("no", 5, "control control-0: too little text to be a control"),
        ("", 1, "control control-0: below its level too"),
    ],
)
def test_without_a_control_that_could_have_failed_and_did_not_nothing_is_reached(
    place, monkeypatch, control, code, said
):
    texts = place.texts(len(PROMPTS))
    monkeypatch.setattr("verification.suspects.LocalChatModel", says(texts, control))
    found, out, _ = place.command(
        *place.arguments(place.owner, *(() if control is None else ("--control", place.owner)))
    )
    assert found == code
    assert said in out


def test_an_adapter_is_not_read_without_its_base(place):
    adapter = place.folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert "without its base" in place.command.fails(2, *place.arguments(adapter))


def test_texts_that_carry_the_mark_are_not_read_as_if_they_did_not(place):
    place.prompts.write_text("".join(json.dumps({"text": text}) + "\n" for text in place.texts(6)))
    assert "carry this key's mark" in place.command.fails(2, *place.arguments(place.owner, "--mode", "reading"))
    code, out, err = place.command(*place.arguments(place.owner, "--mode", "reading-marked", "--json"))
    assert code in {1, 5}, err
    assert json.loads(out)["evidence"][0]["log10_p"] > -3


def test_the_owners_filter_chooses_contexts_and_never_what_followed_them(place, monkeypatch):
    texts = place.texts(len(PROMPTS))
    monkeypatch.setattr("verification.suspects.LocalChatModel", says(texts))
    mine = place.folder / "mine.jsonl"
    mine.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:4]))

    def scored(*more):
        out = place.command(*place.arguments(place.owner, "--control", place.owner, "--json", *more))[1]
        suspect, *_ = json.loads(out)["evidence"]
        assert suspect["filtered"] + suspect["scored"] + suspect["excluded"] <= suspect["positions"]
        return suspect["scored"], suspect["filtered"]

    (every, none), (some, rest), (few, _) = (
        scored(*more) for more in ((), ("--contexts", mine), ("--contexts", mine, "--contexts-at-least", 2))
    )
    assert none == 0 < rest
    assert few < some < every
    assert "no contexts" in place.command.fails(
        2, *place.arguments(place.owner, "--contexts", mine, "--set", 'generate.watermark={"scheme": "unigram"}')
    )


def test_every_commitment_is_paid_for(place, monkeypatch):
    monkeypatch.setattr("verification.suspects.LocalChatModel", says(place.texts(len(PROMPTS))))
    found = [
        json.loads(place.command(*place.arguments(place.owner, "--json", "--set", f"keys.commitments_made={n}"))[1])
        for n in (1, 1000)
    ]
    cheap, dear = (each["evidence"][0]["log10_p"] for each in found)
    assert dear == pytest.approx(cheap + 3)


def test_a_model_that_only_repeats_its_prompt_has_nothing_to_score(place, monkeypatch):
    class Echo(says([])):
        def ask(self, prompts):
            return list(prompts)

    monkeypatch.setattr("verification.suspects.LocalChatModel", Echo)
    assert "none can be scored" in place.command.fails(5, *place.arguments(place.owner))


def test_what_is_refused(place):
    assert "expected one of: closed, reading" in place.command.fails(2, *place.arguments(place.owner, "--mode", "open"))
    stranger = make_base(place.folder / "stranger")
    text = (stranger / "tokenizer.json").read_text("utf-8")
    (stranger / "tokenizer.json").write_text(text.replace('"<pad>"', '"<fill>"'), "utf-8")
    assert "another tokenizer" in place.command.fails(2, *place.arguments(stranger, "--mode", "reading"))
    assert "statistic" in place.command.fails(2, *place.arguments(place.owner, "--statistic", "vibes"))
    place.prompts.write_text("")
    place.command.fails(2, *place.arguments(place.owner))
