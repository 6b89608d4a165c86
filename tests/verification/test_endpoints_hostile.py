"""Endpoints against networks that fail and servers that mean harm: bounded, named, and no answer lost or doubled."""

from __future__ import annotations

import gzip
import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countermark.errors import (
    SuspectUnreachableError,
)
from tests.servers import FAULTS, HostileServer, OpenAIServer, reply
from tests.verification.asking_cases import PROBES, ask, says
from tests.verification.serving import IMPATIENT, OTHERS, SHORT, chat, failure
from verification.asking import Policy, QueryFailedError
from verification.bounded_http import EXCERPT
from verification.clocks import WallClock
from verification.endpoints import ChatEndpoint
from verification.transcripts import requests_made

pytestmark = pytest.mark.long


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
