"""Endpoints over real HTTP: through the openai client, through faults, and against servers that mean harm."""

from __future__ import annotations

import json

import pytest

from countermark.errors import (
    MissingAssetError,
    UsageError,
)
from countermark.manifest import canonical_json, digest
from tests.servers import HostileServer, reply
from tests.verification.asking_cases import PROBES, ask, says
from tests.verification.serving import OTHERS, QUERY, SECRET, SHORT, chat, failure
from verification.api_key import ApiKey
from verification.asking import Policy, QueryFailedError
from verification.classifier_http import ClassifierEndpoint, LabelMapping
from verification.endpoints import CompletionsEndpoint, FolderEndpoint, endpoint_digest
from verification.journal import read_journal
from verification.suspects import FunctionSuspect
from verification.transcripts import transcript

pytestmark = pytest.mark.long


def test_chat_sends_what_it_says_it_sends(server):
    endpoint = chat(server.url, system="Be brief.", seed=7, policy=Policy(max_tokens=3))
    reply = endpoint.query("prompt 4", query_id=QUERY)
    assert (reply.raw, reply.model) == ("Yes, prompt 4", "served")
    assert (reply.prompt_tokens, reply.completion_tokens) == (2, 3)
    head, body = server.seen[-1]
    assert head["idempotency-key"] == head["x-request-id"] == QUERY
    assert body == {
        "model": "served", "temperature": 0.0, "max_tokens": 3, "seed": 7,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "prompt 4"}],
    }  # fmt: skip
    assert endpoint.describe() == {
        "address": server.url, "kind": "chat", "model": "served", "system": "Be brief.",
        "fields": {"temperature": 0.0, "max_tokens": 3, "seed": 7},
    }  # fmt: skip


def test_completions_put_the_prompt_into_the_template(server):
    endpoint = CompletionsEndpoint("c", server.url, model="served", template="<|user|>{text}<|end|>", policy=SHORT)
    server.answer = lambda text: f"Yes, {text}"
    assert endpoint.query("why {text}?", query_id="1" * 64).raw == "Yes, <|user|>why {text}?<|end|>"
    server.answer = says
    for template in ("no place", "{text}{text}"):
        with pytest.raises(UsageError, match="template"):
            CompletionsEndpoint("c", server.url, model="served", template=template)


def test_fields_can_be_added_and_taken_out(server):
    endpoint = chat(server.url, extra={"seed": None, "max_tokens": None, "max_completion_tokens": 4, "top_p": 1.0})
    endpoint.query("prompt 1", query_id="2" * 64)
    body = server.seen[-1][1]
    assert {"temperature", "max_completion_tokens", "top_p"} <= set(body)
    assert not {"seed", "max_tokens"} & set(body)
    canonical_json(endpoint.describe())


@pytest.mark.parametrize("kind", ["chat", "completions", "classifier"])
def test_a_whole_plan_through_real_http(folder, server, kind):
    made = {
        "chat": lambda: chat(server.url, policy=Policy()),
        "completions": lambda: CompletionsEndpoint("c", server.url, model="served"),
        "classifier": lambda: ClassifierEndpoint("k", f"{server.root}/classify"),
    }
    answers = ask(made[kind](), folder / "j", concurrency=4, **OTHERS)
    assert [a.raw for a in answers] == [says(p.prompt) for p in PROBES]


ANSWERS = {
    "text": ('{"choices": [{"message": {"content": "Yes"}}]}', "Yes"),
    "null": ('{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}', ""),
    "a refusal": ('{"choices": [{"message": {"content": null, "refusal": "I will not."}}]}', "I will not."),
    "parts": ('{"choices": [{"message": {"content": [{"type": "text", "text": "Yes"}, {"type": "x"}]}}]}', "Yes"),
    "odd usage": ('{"choices": [{"message": {"content": "No"}}], "model": [], "usage": {"prompt_tokens": "7"}}', "No"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_in_every_form_that_servers_use(name):
    body, said = ANSWERS[name]
    with HostileServer(reply(body.encode())) as server:
        found = chat(server.url).query("prompt 1", query_id=QUERY)
    assert (found.raw, found.model, found.prompt_tokens) == (said, "", 0)


STATUSES = {
    "400 Bad": (False, False), "413 Large": (False, False), "422 What": (False, False), "451 Law": (False, False),
    "401 Who": (False, True), "402 Pay": (False, True), "403 No": (False, True), "404 Where": (False, True),
    "405 How": (False, True), "501 Never": (False, True), "308 There": (False, True),
    "408 Late": (True, False), "409 Clash": (True, False), "429 Busy": (True, False), "500 Oh": (True, False),
    "502 Gate": (True, False), "503 Full": (True, False), "504 Gate": (True, False), "529 Over": (True, False),
}  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_what_every_status_means(status):
    with HostileServer(reply(b'{"error": {"message": "because of\\u0007 this"}}', status=status)) as server:
        error = failure(chat(server.url))
    assert (error.transient, error.whole) == STATUSES[status]
    assert not error.billed
    assert status[:3] in error.reason
    assert ("because of this" in error.reason) == (status[:3] not in {"401", "403", "308"})
    assert error.transient or error.hint


def test_no_quota_is_no_reason_to_try_again():
    body = b'{"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}'
    with HostileServer(reply(body, status="429 Busy")) as server:
        error = failure(chat(server.url))
    assert (error.transient, error.whole) == (False, True)
    assert "credit" in error.hint


WAITS = {
    "Retry-After: 7\r\n": 7.0, "Retry-After: 1.5\r\n": 1.5, "Retry-After: -3\r\n": 0.0, "retry-after-ms: 250\r\n": 0.25,
    "Retry-After: nan\r\n": None, "Retry-After: soon\r\n": None, "": None, "Retry-After: 1e999\r\n": float("inf"),
    "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("head", WAITS)
def test_how_long_to_wait(head):
    with HostileServer(reply(b"{}", status="429 Busy", head=head)) as server:
        assert failure(chat(server.url)).retry_after == WAITS[head]


def test_a_missing_extra_is_named(monkeypatch):
    import sys

    for name in ("openai", "httpx"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(MissingAssetError, match=name) as caught:
                chat("http://localhost/v1")
            assert "countermark[audit]" in caught.value.hint


def test_an_endpoint_is_sealed_by_what_is_public():
    assert endpoint_digest(kind="chat", address="https://h/v1", model="m") == digest(
        {"kind": "chat", "address": "https://h/v1", "model": "m"}
    )


def classified(body, **mapping):
    with HostileServer(reply(json.dumps(body).encode())) as server:
        endpoint = ClassifierEndpoint("k", server.url, mapping=LabelMapping(**mapping), policy=SHORT)
        return endpoint.query("a text", query_id=QUERY)


CLASSIFIED = [
    ([{"label": "POS", "score": 0.9}], {}, "POS"),
    ([{"label": "POS"}], {"labels": {"POS": "positive"}}, "positive"),
    ({"out": {"a/b": ["x", "neg"]}}, {"label": "/out/a~1b/1"}, "neg"),
    ({"label": 1}, {"label": "/label", "labels": {"1": "positive"}}, "positive"),
    ({"toxic": False}, {"label": "/toxic"}, "false"),
    ([[{"label": "a", "score": 0.2}, {"label": "b", "score": 0.8}]], {"label": "/0"}, "b"),
    ([{"label": "a", "score": 0.8}, {"label": "b", "score": 0.2}], {"label": "", "labels": {"a": "A"}}, "A"),
]


@pytest.mark.parametrize(("body", "mapping", "label"), CLASSIFIED)
def test_where_the_label_stands_is_the_users_to_say(body, mapping, label):
    assert classified(body, **mapping).raw == label


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], "/0/label"), ({}, "/label"), ([{"label": None}], "/0/label"), ([{"label": 0.5}], "/0/label"),
        ([{"label": ["x"]}], "/0/label"), ([{"label": "x"}], "/-1/label"), ([{"label": "x"}], "/0/label/0/1"),
        ([{"label": "x", "score": "high"}], ""), ("x", "/0"), ([[]], "/0"),
    ],
)  # fmt: skip
def test_a_label_that_is_not_there_is_a_failed_request(body, pointer):
    with pytest.raises(QueryFailedError, match="another shape"):
        classified(body, label=pointer)


def test_a_classifier_is_sent_its_template(server):
    mapping = LabelMapping(request={"inputs": "review: {text}", "top_k": 1}, model="/0/by")
    key = ApiKey(SECRET)
    endpoint = ClassifierEndpoint("k", f"{server.root}/classify", mapping=mapping, key=key, key_header="X-Request-ID2")
    server.answer = lambda text: text.upper()
    found = endpoint.query("fine {text}", query_id="5" * 64)
    server.answer = says
    head, body = server.seen[-1]
    assert body == {"inputs": "review: fine {text}", "top_k": 1}
    assert (found.raw, found.model) == ("REVIEW: FINE {TEXT}", "served")
    assert head["x-request-id2"] == SECRET
    canonical_json(endpoint.describe())


@pytest.mark.parametrize("mapping", [{"request": {"inputs": "none"}}, {"label": "label"}, {"model": "by"}])
def test_a_mapping_that_cannot_work_is_refused(mapping):
    with pytest.raises(UsageError):
        LabelMapping(**mapping)


def test_a_folder_is_asked_one_by_one(folder):
    answers = ask(FolderEndpoint(FunctionSuspect("f", says)), folder / "j", concurrency=4)
    assert [a.raw for a in answers] == [says(p.prompt) for p in PROBES]
    assert [row["raw"] for row in transcript(folder / "j")] == [a.raw for a in answers]
    assert read_journal(folder / "j")[0].body["endpoint"] == {}
