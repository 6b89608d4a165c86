"""What ``countermark detect`` reads: schemes by name, rows with tokens, and files that hold no texts."""

from __future__ import annotations

import pytest

from countermark.errors import CountermarkError, UsageError
from pipelines.detection import parse_scheme, read_texts
from watermarks.schemes import Gumbel, Kgw, Tournament, Unigram

SPECS = {
    "kgw": Kgw(),
    "kgw:": Kgw(),
    "kgw:context_width=4,self_salt=true": Kgw(context_width=4, self_salt=True),
    "kgw: gamma = 0.5 , order = before": Kgw(gamma=0.5, order="before"),
    "kgw:hard=true": Kgw(hard=True),
    "unigram:gamma=1e-1": Unigram(gamma=0.1),
    "gumbel:alpha=0.1,context_width=2": Gumbel(alpha=0.1, context_width=2),
    "tournament:layers=7": Tournament(layers=7),
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_scheme_is_read_from_its_name_and_parameters(spec):
    assert parse_scheme(spec) == SPECS[spec]


def test_a_whole_number_is_the_same_parameter_and_the_same_key(opened):
    assert parse_scheme("kgw:delta=2") == Kgw(delta=2.0)
    assert opened.subkey(parse_scheme("kgw:delta=2")) == opened.subkey(Kgw(delta=2.0))


NO_SPECS = {
    "": "expected one of gumbel, kgw, tournament, unigram",
    "kgww": "got scheme 'kgww'",
    "KGW": "got scheme 'KGW'",
    "kgw,gumbel": "got scheme 'kgw,gumbel'",
    "kgw:gamma": "got 'gamma' in --scheme 'kgw:gamma', expected param=value",
    "kgw:gamma=0.5,": "expected param=value",
    "kgw:gama=0.5": "gama",
    "kgw:gamma=1.5": "got gamma 1.5",
    "kgw:gamma=abc": "gamma",
    "kgw:gamma=": "gamma",
    "kgw:gamma=.nan": "got gamma nan",
    "kgw:self_salt=1": "expected a value of type bool",
    "kgw:hard=true,delta=3.0": "got delta 3.0 with hard",
    "kgw:order=sideways": "got order 'sideways'",
    "kgw:context_width=17": "got context_width 17",
    "unigram:context_width=1": "context_width",
    "gumbel:alpha=0.6": "got alpha 0.6",
    "tournament:layers=30.0": "layers",
    "kgw:gamma=[1": "--scheme",
    "kgw:gamma=0.5: 3": "--scheme",
    "kgw:scheme=gumbel": "scheme",
}


@pytest.mark.parametrize("spec", NO_SPECS)
def test_what_is_no_scheme_is_named(spec):
    with pytest.raises(UsageError) as caught:
        parse_scheme(spec)
    assert NO_SPECS[spec] in caught.value.message
    assert len(caught.value.diagnostics().splitlines()) == 2


def test_rows_keep_their_tokens(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "tokens": [1, 2]}\n\n{"text": ""}\n')
    (tmp_path / "b.txt").write_text("two\nlines\n")
    assert read_texts(tmp_path / "a.jsonl") == [{"text": "a", "tokens": [1, 2]}, {"text": ""}]
    assert read_texts(tmp_path / "b.txt") == [{"text": "two\nlines\n"}]


NO_TEXTS = {
    "empty.jsonl": b"",
    "number.jsonl": b'{"text": 3}\n',
    "null.jsonl": b'{"text": "a"}\n{"text": null}\n',
    "other.jsonl": b'{"txt": "a"}\n',
    "lists.jsonl": b'["a"]\n',
    "words.jsonl": b"not json\n",
    "latin.jsonl": b'{"text": "caf\xe9"}\n',
    "latin.txt": b"caf\xe9",
    "header.csv": b"text\n",
    "other.csv": b"label\n1\n",
    "junk.parquet": b"junk",
    "text.md": b"text",
    "text": b"text",
}


@pytest.mark.parametrize("name", NO_TEXTS)
def test_what_holds_no_texts_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(NO_TEXTS[name])
    with pytest.raises(UsageError, match=name) as caught:
        read_texts(tmp_path / name)
    assert len(caught.value.diagnostics().splitlines()) == 2


def test_no_file_and_a_folder_are_no_texts(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(UsageError, match="expected a text file"):
            read_texts(path)


@pytest.mark.parametrize("tokens", ["[1, 2, 3]", [1.5, 2.5], {"a": 1}], ids=["a string", "fractions", "an object"])
def test_tokens_that_are_no_list_of_ids_are_refused(desk, tokens):
    path = desk.file("odd.jsonl", [{"text": desk.text(desk.unmarked(texts=1)[0]), "tokens": tokens}])
    with pytest.raises(CountermarkError, match="tokens"):
        desk.ask(path)
