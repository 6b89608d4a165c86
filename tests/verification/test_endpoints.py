"""Endpoints over real HTTP: through the openai client, through faults, and against servers that mean harm."""

from __future__ import annotations

import gzip
import json
import logging
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import (
    KeyFileError,
    MissingAssetError,
    SuspectUnreachableError,
    UnsafePermissionsError,
    UsageError,
)
from countermark.manifest import canonical_json, digest
from tests.servers import FAULTS, HostileServer, OpenAIServer, reply
from tests.verification.asking_cases import PROBES, ask, memory, says
from verification.api_key import ApiKey, check_address, read_api_key
from verification.asking import Policy, QueryFailedError
from verification.bounded_http import EXCERPT
from verification.classifier_http import ClassifierEndpoint, LabelMapping
from verification.clocks import WallClock
from verification.endpoints import ChatEndpoint, CompletionsEndpoint, FolderEndpoint, endpoint_digest
from verification.journal import read_journal
from verification.suspects import FunctionSuspect
from verification.transcripts import requests_made, transcript

pytestmark = pytest.mark.long

SECRET = "sk-canary-7c1f9e"
QUERY = "0" * 64
SHORT = Policy(timeout=20.0, max_bytes=20_000, concurrency=1, retries=1, backoff=0.0)
IMPATIENT = replace(SHORT, timeout=0.3)
OTHERS = {"suspect": "s", "clock": WallClock()}


@pytest.fixture
def folder():
    with memory() as made:
        yield made


@pytest.fixture(scope="module")
def server():
    with OpenAIServer(says) as running:
        yield running


def chat(url, **more):
    return ChatEndpoint("chat", url, model="served", **{"policy": SHORT, **more})


def failure(endpoint, prompt="prompt 1"):
    with pytest.raises(QueryFailedError) as caught:
        endpoint.query(prompt, query_id=QUERY)
    return caught.value


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


def schedule(seed, share=0.5):
    """A fault for the n-th arrival of a query, or none; at most six in a row, so that ten tries are enough."""

    def fault(key, nth):
        rng = random.Random(f"{seed}/{key}/{nth}")
        return rng.choice(FAULTS) if nth < 7 and rng.random() < share else ""

    return fault


@pytest.mark.parametrize("seed", [pytest.param(i, marks=[pytest.mark.long] if i else []) for i in range(8)])
def test_faults_on_the_wire_lose_no_answer_and_double_none(folder, seed):
    policy = Policy(concurrency=6, timeout=2.0 if seed else 0.5, retries=10, backoff=0.001)
    probes = PROBES if seed else PROBES[:8]
    with OpenAIServer(says, fault=schedule(seed), late=2.5 if seed else 0.7) as server:
        answers = ask(chat(server.url, policy=policy), folder / "j", probes, policy=policy, clock=WallClock())
        assert [a.raw for a in answers] == [says(p.prompt) for p in probes]
        assert set(server.computed.values()) == {1}
        assert len(server.arrived) == len(probes)
        assert sum(server.arrived.values()) == sum(requests_made(folder / "j")["requests"].values()) > len(probes)


def test_a_doubled_response_is_not_the_answer_to_the_next_query(folder):
    with OpenAIServer(says, fault=lambda *_: "doubled") as server:
        answers = ask(chat(server.url), folder / "j", concurrency=1, **OTHERS)
    assert [a.raw for a in answers] == [says(p.prompt) for p in PROBES]


def drip(server, connection):
    """A head that never ends, a byte at a time."""
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:  # 100 seconds
        server.send(connection, bytes([byte]))
        time.sleep(0.01)


def drip_body(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(server, connection)


def endless(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        server.send(connection, b"1000\r\n" + b"a" * 4096 + b"\r\n")


def endless_head(server, connection):
    while True:
        server.send(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def gigabyte(server, connection):
    server.send(connection, b'HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n{"a":"')
    while True:
        server.send(connection, b"a" * 65536)


def gigabyte_error(server, connection):
    server.send(connection, b"HTTP/1.1 500 Oh\r\nContent-Length: 1073741824\r\n\r\n")
    while True:
        server.send(connection, b"a" * 65536)


def silence(_, connection):
    time.sleep(20)
    connection.close()


def hang_up(_, connection):
    connection.close()


def half(server, connection):
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


def again(server, connection):
    server.send(connection, f"HTTP/1.1 302 Found\r\nLocation: {server.url}/again\r\nContent-Length: 0\r\n\r\n".encode())


def bomb(server, connection):
    data = gzip.compress(b" " * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(data)}\r\n\r\n"
    server.send(connection, head.encode() + data)


HOSTILE = {
    "a head that drips": (drip, "no whole response within 0.3 s"),
    "a body that drips": (drip_body, "no whole response within 0.3 s"),
    "silence": (silence, "no whole response within 0.3 s"),
    "an endless body": (endless, "more than 20000 bytes"),
    "endless heads": (endless_head, "more than 20000 bytes"),
    "a gigabyte": (gigabyte, "more than 20000 bytes"),
    "a gigabyte of error": (gigabyte_error, "more than 20000 bytes"),
    "hangs up": (hang_up, "broken connection"),
    "half a body": (half, "broken connection"),
    "no HTTP": (lambda s, c: s.send(c, b"SSH-2.0-OpenSSH\r\n\r\n"), "broken connection"),
    "a redirect to itself": (again, "status 302, a redirect to http"),
    "compressed": (bomb, "gzip coding"),
    "HTML": (reply(b"<!doctype html><p>hello"), "HTML that is not JSON"),
    "broken JSON": (reply(b'{"choices": [{"mess'), "not JSON"),
    "deep JSON": (reply(b"[" * 15_000), "not JSON"),
    "a huge number": (reply(b'{"choices": ' + b"9" * 10_000 + b"}"), "not JSON"),
    "no UTF-8": (reply(b'{"choices": "\xff\xfe"}'), "not JSON"),
    "a list": (reply(b"[]"), "another shape"),
    "null": (reply(b"null"), "another shape"),
    "no choices": (reply(b'{"object": "chat.completion"}'), "another shape"),
    "empty choices": (reply(b'{"choices": []}'), "another shape"),
    "choices of text": (reply(b'{"choices": "Yes"}'), "another shape"),
    "a choice of null": (reply(b'{"choices": [null]}'), "another shape"),
    "a message of text": (reply(b'{"choices": [{"message": "Yes"}]}'), "another shape"),
    "content of numbers": (reply(b'{"choices": [{"message": {"content": 7}}]}'), "another shape"),
    "parts of numbers": (reply(b'{"choices": [{"message": {"content": [7]}}]}'), "another shape"),
    "an error with status 200": (reply(b'{"error": {"message": "no"}}'), "another shape"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_is_bounded_and_named(name):
    script, said = HOSTILE[name]
    policy = IMPATIENT if "within" in said else SHORT
    with HostileServer(script) as server:
        started = time.monotonic()
        error = failure(chat(server.url, policy=policy))
        assert time.monotonic() - started < policy.timeout + 5
        assert said in error.reason
        assert len(error.reason) <= EXCERPT + 60
        assert server.connections == 1


def test_what_a_hostile_server_sends_is_not_all_read():
    with HostileServer(gigabyte) as server:
        failure(chat(server.url))
        time.sleep(0.1)
        assert server.sent < 10_000_000  # what the kernel's buffers took


@pytest.mark.parametrize("name", ["HTML", "a gigabyte", "a redirect to itself", "no choices", "hangs up"])
def test_a_plan_against_a_hostile_server_ends_in_one_error(folder, name):
    script, said = HOSTILE[name]
    with HostileServer(script) as server, pytest.raises(SuspectUnreachableError, match=said):
        ask(chat(server.url), folder / "j", policy=SHORT, clock=WallClock())


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


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "403 No", "500 Oh"])
def test_a_server_cannot_put_the_key_into_an_error(status):
    body = json.dumps({"error": {"message": f"the key {SECRET} is not to my liking"}}).encode()
    with HostileServer(reply(body, status=status, head=f"Location: {SECRET}\r\n")) as server:
        error = failure(chat(server.url, key=ApiKey(SECRET)))
    assert status[:3] in error.reason
    assert SECRET not in error.reason + error.hint


WAITS = {
    "Retry-After: 7\r\n": 7.0, "Retry-After: 1.5\r\n": 1.5, "Retry-After: -3\r\n": 0.0, "retry-after-ms: 250\r\n": 0.25,
    "Retry-After: nan\r\n": None, "Retry-After: soon\r\n": None, "": None, "Retry-After: 1e999\r\n": float("inf"),
    "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("head", WAITS)
def test_how_long_to_wait(head):
    with HostileServer(reply(b"{}", status="429 Busy", head=head)) as server:
        assert failure(chat(server.url)).retry_after == WAITS[head]


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://127.0.0.1:9/v1", "no connection"), ("http://no-such-host.invalid/v1", "no connection")],
)
def test_a_dead_address_is_named(folder, address, said):
    with pytest.raises(SuspectUnreachableError, match=said) as caught:
        ask(chat(address), folder / "j")
    assert "URL" in caught.value.hint


def test_what_is_no_tls_is_no_connection(server):
    error = failure(chat(server.url.replace("http:", "https:")))
    assert error.reason.startswith("no connection")


ADDRESSES = [
    "", "v1", "ftp://host/v1", "http://", "https://user:pw@host/v1", "https://user@host/v1", "https://host/v1?key=x",
    "https://host/v1#x", "https://host:x/v1", "https://[::1/v1", "file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_are_none_or_hold_a_secret_are_refused(address):
    with pytest.raises(UsageError) as caught:
        check_address(address, None)
    assert "pw" not in str(caught.value)


def test_a_key_does_not_travel_in_the_clear():
    key = ApiKey(SECRET)
    with pytest.raises(UsageError, match="in the clear"):
        check_address("http://example.com/v1", key)
    assert check_address("https://example.com/v1/", key) == "https://example.com/v1"
    assert check_address("http://localhost:8000/v1", key) == "http://localhost:8000/v1"


def test_the_key_is_sent_and_shown_nowhere(folder, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_LOG", "debug")
    key = ApiKey(SECRET)

    def echo(prompt):
        return f"Yes, {SECRET} {prompt}"

    with OpenAIServer(echo, key=SECRET, fault=lambda _, nth: "broken" if nth == 1 else "") as server:
        endpoint = chat(server.url, key=key)
        answers = ask(endpoint, folder / "j", PROBES[:3])
        assert server.seen[0][0]["authorization"] == f"Bearer {SECRET}"
        wrong = chat(server.url, key=ApiKey(SECRET + "x"))
        with pytest.raises(SuspectUnreachableError) as caught:
            ask(wrong, folder / "k", PROBES[:3])
    assert answers[0].raw == "Yes, [key] prompt 0"
    assert "name its file" in caught.value.hint
    shown = [repr(key), str(key), f"{key}", repr(endpoint), repr(vars(endpoint)), repr(vars(endpoint._client))]
    shown += [str(caught.value), caught.value.diagnostics(), caplog.text, json.dumps(endpoint.describe())]
    shown += [(folder / name).read_text("utf-8") for name in "jk"]
    assert not [text for text in shown if SECRET in text]


def test_nothing_of_the_environment_is_sent_to_the_suspect(server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Mine: {SECRET}\nAuthorization: Bearer {SECRET}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    chat(server.url).query("prompt 1", query_id="3" * 64)
    head, _ = server.seen[-1]
    assert SECRET not in json.dumps(head)
    assert set(head) == {
        "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "idempotency-key",
        "user-agent", "x-request-id",
    }  # fmt: skip


def test_the_environments_proxy_is_used_but_not_for_this_machine(server, monkeypatch):
    with HostileServer(reply(b'{"choices": [{"message": {"content": "by proxy"}}]}')) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        assert chat("http://suspect.invalid/v1").query("x", query_id=QUERY).raw == "by proxy"
        assert chat(server.url).query("prompt 4", query_id="4" * 64).raw == "Yes, prompt 4"
        monkeypatch.setenv("no_proxy", "suspect.invalid")
        assert "no connection" in failure(chat("http://suspect.invalid/v1")).reason
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
        with pytest.raises(UsageError, match="socks5"):
            chat("http://other.invalid/v1")


def test_keys_come_from_a_file_or_a_named_variable(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    monkeypatch.setenv("MY_KEY", SECRET)
    assert read_api_key(file=path).reveal() == SECRET == read_api_key(variable="MY_KEY").reveal()
    assert read_api_key() is None
    path.chmod(0o644)
    with pytest.raises(UnsafePermissionsError, match="644"):
        read_api_key(file=path)
    with pytest.raises(KeyFileError, match="nowhere"):
        read_api_key(file=tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="NOT_SET"):
        read_api_key(variable="NOT_SET")
    with pytest.raises(UsageError):
        read_api_key(file=path, variable="MY_KEY")


@pytest.mark.parametrize("value", ["", "two words", "line\nfeed", "schlüssel", "x" * 5000])
def test_what_cannot_stand_in_a_header_is_no_key(value):
    with pytest.raises(KeyFileError) as caught:
        ApiKey(value)
    assert not value or value not in str(caught.value)


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


NAMES = st.sampled_from(["choices", "message", "content", "text", "refusal", "usage", "prompt_tokens"])
BODIES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(BODIES)
def test_no_json_is_a_crash(body):
    endpoint = ChatEndpoint.__new__(ChatEndpoint)
    endpoint._key = None
    try:
        assert isinstance(endpoint._reply(json.dumps(body).encode()).raw, str)
    except QueryFailedError as error:
        assert error.transient  # noqa: PT017


def test_a_folder_is_asked_one_by_one(folder):
    answers = ask(FolderEndpoint(FunctionSuspect("f", says)), folder / "j", concurrency=4)
    assert [a.raw for a in answers] == [says(p.prompt) for p in PROBES]
    assert [row["raw"] for row in transcript(folder / "j")] == [a.raw for a in answers]
    assert read_journal(folder / "j")[0].body["endpoint"] == {}
