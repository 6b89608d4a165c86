"""``countermark detect``: files in, ranked evidence out, through the real tokenizer and a sealed key ring."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from countermark.errors import UsageError
from pipelines.config import load_config
from pipelines.detection import LISTED
from pipelines.engines import hf
from pipelines.generate import SCOPE, tokenizer_digest
from tests.pipelines.detection_desk import ALPHA, KEYS, NOT_SUPPORTED, OK, TOO_SHORT
from tests.support import QUICKSTART
from tests.verification.marked import marked
from verification.detect import Mark, detect, search
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram


def test_whole_words_tokenise_as_they_were_drawn(desk):
    texts = desk.marked() + desk.unmarked()
    ids, masks = hf.token_ids(desk.model.path, [desk.text(tokens) for tokens in texts])
    assert ids == texts
    assert all(all(mask) for mask in masks)


def test_one_key_says_what_each_text_and_the_corpus_say(desk):
    texts = [*desk.marked(), *desk.unmarked(texts=1)]
    lines, body, code = desk.ask(desk.jsonl(texts))
    each, whole = detect(texts, Kgw(), desk.subkey(Kgw()))
    assert code == OK
    assert body["key_id"] == "ck_primary"
    assert body["alpha"] == ALPHA
    assert body["retokenisation"] == {"windows": 4 * 38, "lost": 0}
    assert [row["name"] for row in body["evidence"]] == ["text 0", "text 1", "text 2", "text 3", "corpus"]
    for row, evidence in zip(body["evidence"], [*each, whole], strict=True):
        assert row["statistic"] == "green"
        assert (row["scored"], row["total"], row["log10_p"]) == (evidence.scored, evidence.total, evidence.log10_p)
        assert not row["too_short"]
    assert len(lines) == 1 + 5 + 1
    assert lines[-1] == f"re-tokenisation: 0 of {4 * 38} inputs lost (0.00%)"
    assert f"{whole.log10_p:.2f}" in lines[-2]


def test_unmarked_text_is_not_supported(desk):
    _, body, code = desk.ask(desk.jsonl(desk.unmarked()))
    assert code == NOT_SUPPORTED
    assert body["evidence"][-1]["log10_p"] > math.log10(ALPHA)


@pytest.mark.parametrize("other", [{"key": "second"}, {"scope": "elsewhere"}, {"scheme": Kgw(gamma=0.5)}], ids=str)
def test_a_mark_of_another_key_scope_or_scheme_is_not_supported(desk, other):
    assert desk.ask(desk.jsonl(desk.marked(**other)))[2] == NOT_SUPPORTED


def test_texts_are_read_from_every_kind_of_file_in_turn(desk):
    texts = desk.marked(texts=4)
    one, two, three, four = (desk.text(tokens) for tokens in texts)
    (desk.folder / "one.txt").write_text(one)
    (desk.folder / "two.csv").write_text(f"text,label\n{two},1\n")
    pq.write_table(pa.Table.from_pylist([{"text": three}]), desk.folder / "three.parquet")
    files = [desk.folder / name for name in ("one.txt", "two.csv", "three.parquet")] + [
        desk.file("four.jsonl", [{"text": four}])
    ]
    _, body, code = desk.ask(*files)
    assert (code, body) == (OK, desk.ask(desk.jsonl(texts))[1])


@pytest.mark.parametrize("text", ["", " the", " the end", "<|im_end|>" * 40])
def test_a_text_too_short_to_say_is_neither_supported_nor_not(desk, text):
    lines, body, code = desk.ask(desk.file("short.jsonl", [{"text": text}]))
    assert code == TOO_SHORT
    assert [(row["scored"], row["log10_p"], row["too_short"]) for row in body["evidence"]] == [(0, None, True)] * 2
    assert lines[1].endswith("-  too short")


def test_nine_inputs_are_too_few_and_ten_are_not(desk):
    # 0.25^9 is above one in a million and 0.25^10 is not
    for inputs, code in ((9, TOO_SHORT), (10, OK)):
        (tokens,) = desk.marked(texts=1, length=inputs + 2)
        assert detect([tokens], Kgw(), desk.subkey(Kgw()))[1].total == inputs
        _, body, found = desk.ask(desk.jsonl([tokens]))
        assert found == code
        assert [row["too_short"] for row in body["evidence"]] == [code == TOO_SHORT] * 2
    (plain,) = desk.unmarked(texts=1, length=12)
    assert desk.ask(desk.jsonl([plain]))[2] == NOT_SUPPORTED
    assert desk.ask(desk.jsonl([plain]), all_keys=True)[2] == TOO_SHORT  # three keys cost half a digit


def test_a_short_text_among_long_ones_is_marked_as_short(desk):
    texts = [*desk.marked(texts=2), *desk.unmarked(texts=1, length=7)]
    lines, body, code = desk.ask(desk.jsonl(texts))
    assert code == OK
    assert [row["too_short"] for row in body["evidence"]] == [False, False, True, False]
    assert [line.endswith("too short") for line in lines] == [False, False, False, True, False, False]


RANKED = {
    "two keys": ({"key_ids": ("ck_second", "ck_primary")}, ["ck_primary", "ck_second"]),
    "all keys": ({"all_keys": True}, ["ck_primary", "ck_revoked", "ck_second"]),
    "two schemes": ({"schemes": ("gumbel:alpha=0.1", "kgw")}, ["gumbel:alpha=0.1", "kgw"]),
    "two scopes": ({"scopes": ("elsewhere", SCOPE)}, ["elsewhere", SCOPE]),
    "two of each": (
        {"key_ids": ("ck_primary", "ck_second"), "schemes": ("kgw", "kgw:gamma=0.5"), "scopes": (SCOPE, "b")},
        [f"{k} {s} {c}" for k in ("ck_primary", "ck_second") for s in ("kgw", "kgw:gamma=0.5") for c in ("b", SCOPE)],
    ),
}
TRUE = {"ck_primary", "kgw", SCOPE, f"ck_primary kgw {SCOPE}"}


@pytest.mark.parametrize("name", RANKED)
def test_several_hypotheses_are_ranked_and_paid_for(desk, name):
    what, names = RANKED[name]
    lines, body, code = desk.ask(desk.jsonl(desk.marked()), **what)
    assert code == OK
    assert set(body) == {"marks", "alpha", "retokenisation"}
    assert sorted(row["name"] for row in body["marks"]) == sorted(names)
    assert body["marks"][0]["name"] in TRUE
    logs = [row["log10_p"] for row in body["marks"]]
    assert logs == sorted(logs)
    assert body["marks"][0]["log10_p_holm"] == pytest.approx(logs[0] + math.log10(len(names)))
    assert all(row["log10_p_holm"] > -3 for row in body["marks"][1:])
    assert lines[0] == f"{len(names)} marks tried; Holm over all of them"
    assert lines[2].endswith(f"  {body['marks'][0]['name']}")
    assert len(lines) == 2 + len(names) + 1


def test_a_search_of_files_is_a_search_of_their_tokens(desk):
    texts = desk.marked(Gumbel())
    _, body, _ = desk.ask(desk.jsonl(texts), all_keys=True, schemes=("gumbel", "tournament"))
    marks = [
        Mark(name=f"ck_{key} {scheme.name}", scheme=scheme, subkey=desk.subkey(scheme, key=key))
        for key in ("primary", "second", "revoked")
        for scheme in (Gumbel(), Tournament())
    ]
    for row, found in zip(body["marks"], search(texts, marks), strict=True):
        assert (row["name"], row["total"], row["scored"]) == (found.name, found.evidence.total, found.evidence.scored)
        assert (row["log10_p"], row["log10_p_holm"]) == (found.evidence.log10_p, found.log10_p_holm)


def test_unmarked_text_accuses_no_key_of_the_ring(desk):
    _, body, code = desk.ask(desk.jsonl(desk.unmarked()), all_keys=True)
    assert code == NOT_SUPPORTED
    assert all(row["log10_p_holm"] > -3 for row in body["marks"])


def test_a_ring_of_empty_texts_says_nothing(desk):
    lines, body, code = desk.ask(desk.file("empty.jsonl", [{"text": ""}]), all_keys=True)
    assert code == TOO_SHORT
    assert {(row["log10_p"], row["log10_p_holm"], row["too_short"]) for row in body["marks"]} == {(None, 0.0, True)}
    assert lines[2].split()[0] == "-"


@pytest.mark.parametrize(
    ("scheme", "spec", "statistic"),
    [
        (Unigram(), "unigram", "counts"),
        (Unigram(), "unigram", "unique"),
        (Gumbel(alpha=0.1), "gumbel:alpha=0.1", "half"),
        (Tournament(layers=8), "tournament:layers=8", "mean"),
        (Kgw(self_salt=True, context_width=4), "kgw:self_salt=true,context_width=4", ""),
    ],
)
def test_a_scheme_and_a_statistic_are_looked_for_by_name(desk, scheme, spec, statistic):
    texts = desk.marked(scheme)
    _, body, code = desk.ask(desk.jsonl(texts), schemes=(spec,), statistic=statistic)
    assert code == OK
    _, whole = detect(texts, scheme, desk.subkey(scheme), statistic=statistic)
    assert body["evidence"][-1]["statistic"] == (statistic or scheme.statistics[0])
    assert body["evidence"][-1]["log10_p"] == whole.log10_p


def test_a_recipient_is_traced_among_many_scopes(desk):
    scopes = tuple(f"customer-{i}" for i in range(LISTED + 5))
    texts = desk.marked(Unigram(), scope="customer-7", texts=4)
    lines, body, code = desk.ask(desk.jsonl(texts), schemes=("unigram",), scopes=scopes)
    assert code == OK
    assert body["marks"][0]["name"] == "customer-7"
    assert len(body["marks"]) == len(scopes)
    assert len(lines) == 2 + LISTED + 2
    assert lines[-2] == "… and 5 more (all with --json)"


def test_a_key_salted_with_the_public_value_is_another_key(desk):
    public = {"value": "b" * 20, "source": "beacon", "commitment": "0" * 64}
    config = load_config(QUICKSTART, [])
    salted = desk.config.keys.model_validate({**desk.config.keys.model_dump(), "public_value": public})
    config = desk.config.model_copy(update={"keys": salted})
    assert desk.ask(desk.jsonl(desk.marked()), config=config)[2] == NOT_SUPPORTED
    scheme = Kgw()
    key = KEYS["primary"].with_salt(b"b" * 20)
    label = {"params": scheme.params(), "tokenizer": tokenizer_digest(desk.model.path), "scope": SCOPE}
    texts = marked(scheme, key.token_subkey(scheme="kgw", **label), texts=2, vocabulary=desk.words)
    assert desk.ask(desk.jsonl(texts), config=config)[2] == OK
    _, body, code = desk.ask(desk.jsonl(texts), config=config, all_keys=True)
    assert (code, body["marks"][0]["name"]) == (OK, "ck_primary")


@pytest.mark.parametrize("key_id", ["ck_destroyed", "ck_nobody"])
def test_a_key_that_is_destroyed_or_not_there_is_refused(desk, key_id):
    with pytest.raises(UsageError, match=key_id):
        desk.ask(desk.jsonl(desk.unmarked()), key_ids=(key_id,))


def test_drawn_tokens_are_compared_with_those_of_the_text(desk):
    (tokens,) = desk.marked(texts=1)
    other = [*tokens[:20], desk.words[0], *tokens[21:]]
    same = desk.ask(desk.file("same.jsonl", [{"text": desk.text(tokens), "tokens": tokens}]))[1]
    assert same["retokenisation"] == {"windows": 38, "lost": 0}
    rows = [{"text": desk.text(tokens), "tokens": other}, {"text": desk.text(tokens)}]
    lines, body, _ = desk.ask(desk.file("other.jsonl", rows))
    assert body["retokenisation"] == {"windows": 38, "lost": 3}  # the row without tokens has nothing to compare with
    assert lines[-1] == "re-tokenisation: 3 of 38 inputs lost (7.89%)"
    assert body["evidence"][0]["total"] == same["evidence"][0]["total"]  # the text is what is judged


def test_text_that_tokenises_otherwise_is_measured(desk):
    # "ing" after " see" is never drawn by the tokenizer itself
    pieces = [desk.tokenizer.encode(piece, add_special_tokens=False)[0] for piece in (" see", "ing", " see", "ing")]
    text = desk.text(pieces)
    assert hf.token_ids(desk.model.path, [text])[0][0] != pieces
    _, body, _ = desk.ask(desk.file("drawn.jsonl", [{"text": text, "tokens": pieces}]))
    assert body["retokenisation"] == {"windows": 2, "lost": 2}
    _, body, _ = desk.ask(desk.file("read.jsonl", [{"text": text}]))
    assert body["retokenisation"]["lost"] == 0


def test_special_tokens_that_a_text_spells_out_are_not_scored(desk):
    (tokens,) = desk.marked(texts=1)
    text = desk.text(tokens[:20]) + "<|im_end|>" + desk.text(tokens[20:])
    _, body, _ = desk.ask(desk.file("special.jsonl", [{"text": text}]))
    assert body["evidence"][-1]["scored"] == 18 + 18


def test_evidence_under_a_revoked_key_is_verified_and_reported_as_revoked(desk):
    texts = desk.marked(key="revoked")
    lines, body, code = desk.ask(desk.jsonl(texts), key_ids=("ck_revoked",))
    assert code == OK
    assert (body["key"]["id"], body["key"]["state"]) == ("ck_revoked", "revoked")
    assert "key ck_revoked is revoked" in lines
    lines, body, code = desk.ask(desk.jsonl(texts), all_keys=True)
    assert code == OK
    assert (body["marks"][0]["name"], body["marks"][0]["key"]["state"]) == ("ck_revoked", "revoked")
    assert lines[2].endswith("ck_revoked  (revoked)")
    assert {row["key"]["id"]: row["key"]["state"] for row in body["marks"]} == {
        "ck_primary": "active", "ck_second": "verify_only", "ck_revoked": "revoked",
    }  # fmt: skip


def test_evidence_under_an_active_key_needs_no_remark(desk):
    lines, body, _ = desk.ask(desk.jsonl(desk.marked()))
    assert body["key"]["state"] == "active"
    assert not [line for line in lines if line.startswith("key ")]
