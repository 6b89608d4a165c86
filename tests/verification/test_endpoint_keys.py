"""The API key and the address: where they come from, where they are sent, and that they are shown nowhere."""

from __future__ import annotations

import json
import logging

import pytest

from countermark.errors import (
    KeyFileError,
    SuspectUnreachableError,
    UnsafePermissionsError,
    UsageError,
)
from tests.servers import HostileServer, OpenAIServer, reply
from tests.verification.asking_cases import PROBES, ask
from tests.verification.serving import QUERY, SECRET, chat, failure
from verification.api_key import ApiKey, check_address, read_api_key

pytestmark = pytest.mark.long


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "403 No", "500 Oh"])
def test_a_server_cannot_put_the_key_into_an_error(status):
    body = json.dumps({"error": {"message": f"the key {SECRET} is not to my liking"}}).encode()
    with HostileServer(reply(body, status=status, head=f"Location: {SECRET}\r\n")) as server:
        error = failure(chat(server.url, key=ApiKey(SECRET)))
    assert status[:3] in error.reason
    assert SECRET not in error.reason + error.hint


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
