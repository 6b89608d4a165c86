"""Small HTTP servers for tests: one speaks the OpenAI API in front of any function, with faults; one is hostile.

Standard library alone, a thread a connection, on a free port of this machine. And a real one, with a real model, as a
process of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAULTS = ("lost", "unheard", "doubled", "late", "busy", "broken")
"""What a schedule may name for a try: as in :class:`verification.simulated.Faults`."""
RETRY_AFTER = "0.01"


class OpenAIServer:
    """Chat, completions and a classifier (``/classify``) that say ``answer(prompt)``.

    Args:
        answer: what is said to a prompt; for a chat, to the last turn.
        fault: which fault the n-th arrival (from 1) of an idempotency key meets, "" for none.
        key: what a client must send as its bearer token, "" for nothing.
        delay: seconds an answer takes.
        late: seconds that a late answer takes.
        idempotent: whether a second request under one key gets the first one's answer without computing it again.

    ``arrived`` counts requests by idempotency key, ``computed`` answers; ``seen`` holds every request's head and body.
    """

    def __init__(
        self,
        answer: Callable[[str], str],
        *,
        fault: Callable[[str, int], str] = lambda _key, _nth: "",
        key: str = "",
        model: str = "served",
        delay: float = 0.0,
        late: float = 0.5,
        idempotent: bool = True,
    ) -> None:
        self.answer, self.fault, self.key, self.model = answer, fault, key, model
        self.delay, self.late, self.idempotent = delay, late, idempotent
        self.arrived: Counter[str] = Counter()
        self.computed: Counter[str] = Counter()
        self.seen: list[tuple[dict[str, str], Any]] = []
        self._kept: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """What an OpenAI-compatible client is given."""
        return f"{self.root}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrive(self, head: dict[str, str], body: Any) -> tuple[str, str]:
        """Counts a request; gives its key and its fault."""
        key = head.get("idempotency-key", "")
        with self._lock:
            self.seen.append((head, body))
            self.arrived[key] += 1
            return key, self.fault(key, self.arrived[key])

    def said(self, key: str, prompt: str) -> str:
        """The answer to a query, computed once under one key where the server is idempotent."""
        with self._lock:
            if self.idempotent and key in self._kept:
                return self._kept[key]
            self.computed[key] += 1
            self._kept[key] = self.answer(prompt)
            return self._kept[key]


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one branch a fault
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            self._send(200 if self.path == "/health" else 404, {"status": "ok"})

        def do_POST(self) -> None:
            head = {name.lower(): value for name, value in self.headers.items()}
            length = int(head.get("content-length", 0))
            data = self.rfile.read(length)
            if len(data) < length:  # its sender was killed
                self.close_connection = True
                return
            body = json.loads(data)
            if server.key and head.get("authorization") != f"Bearer {server.key}":
                self._send(401, {"error": {"message": f"Incorrect API key: {head.get('authorization')}"}})
                return
            shape = _SHAPES.get(self.path)
            if shape is None or (self.path != "/classify" and body.get("model") != server.model):
                self._send(404, {"error": {"message": f"no model {body.get('model')!r} at {self.path}"}})
                return
            key, fault = server.arrive(head, body)
            prompt, wrap = shape
            if fault == "lost":
                self._hang_up()
            elif fault == "busy":
                self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": RETRY_AFTER})
            elif fault == "broken":
                self._send(500, {"error": "out of order"})
            else:
                time.sleep(server.delay + (server.late if fault == "late" else 0))
                said = wrap(server.said(key, prompt(body)), prompt(body), server.model)
                if fault == "unheard":
                    self._hang_up()
                else:
                    self._send(200, said, times=2 if fault == "doubled" else 1)

        def _hang_up(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, status: int, body: Any, head: dict[str, str] | None = None, times: int = 1) -> None:
            data = json.dumps(body).encode()
            with suppress(OSError):
                for _ in range(times):
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **(head or {})}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

    return Handler


def _usage(said: str, prompt: str) -> dict[str, int]:
    return {"prompt_tokens": len(prompt.split()), "completion_tokens": len(said.split())}


def _chat(said: str, prompt: str, model: str) -> Any:
    message = {"role": "assistant", "content": said}
    return {"model": model, "choices": [{"index": 0, "message": message}], "usage": _usage(said, prompt)}


def _completion(said: str, prompt: str, model: str) -> Any:
    return {"model": model, "choices": [{"index": 0, "text": said}], "usage": _usage(said, prompt)}


_SHAPES: dict[str, tuple[Callable[[Any], str], Callable[[str, str, str], Any]]] = {
    "/v1/chat/completions": (lambda body: body["messages"][-1]["content"], _chat),
    "/v1/completions": (lambda body: body["prompt"], _completion),
    "/classify": (lambda body: body["inputs"], lambda said, _, model: [{"label": said, "score": 1.0, "by": model}]),
}


class HostileServer:
    """Does with every connection what ``script`` does, after the request's head and body were read.

    ``sent`` counts the bytes that clients took before they hung up, ``connections`` how often they came.
    """

    def __init__(self, script: Callable[[HostileServer, socket.socket], None]) -> None:
        self.sent = self.connections = 0
        self._script = script
        self._closing = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Sends, and counts."""
        connection.sendall(data)
        self.sent += len(data)

    def _serve(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            with connection.makefile("rb") as request:  # all of it: a close before that would reset the connection
                head = iter(request.readline, b"\r\n")
                length = [int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:")]
                request.read(sum(length))
            self._script(self, connection)


def reply(body: bytes, *, status: str = "200 OK", head: str = "") -> Callable[[HostileServer, socket.socket], None]:
    """A script that sends one whole response."""
    top = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    return lambda server, connection: server.send(connection, top.encode() + body)


class ServedModel:
    """A model behind a real server, a process of its own on a free port: started, waited for, stopped by its pid.

    Args:
        command: the server's command line; ``{port}`` in it is replaced.
        health: the path that answers 200 when it is ready.
        seconds: how long that may take.
    """

    def __init__(self, command: list[str], *, health: str = "/health", seconds: float = 300.0) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        self._health, self._seconds = health, seconds
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        where = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            self._command, env=where, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)  # its own session: nobody else is in it
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
                break
        self._log.close()

    def _wait(self) -> None:
        end = time.monotonic() + self._seconds
        while time.monotonic() < end and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with suppress(OSError), closing(connection):
                connection.request("GET", self._health)
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.5)
        self._log.seek(0)
        said = self._log.read()[-2000:].decode("utf-8", "replace")
        raise RuntimeError(f"got no server after {self._seconds:.0f} s (status {self._process.poll()}): {said}")


def transformers_serve(folder: Path) -> list[str]:
    """The command of ``transformers serve``; its Python is ``$COUNTERMARK_SERVE_PYTHON``, else this one.

    It computes as a local suspect does on this machine, or near ties would fall otherwise.
    """
    from countermark import libraries

    python = os.environ.get("COUNTERMARK_SERVE_PYTHON", sys.executable)
    run = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    more = ["--host", "127.0.0.1", "--port", "{port}", "--device", "cpu"]
    more += ["--dtype", str(libraries.reading_dtype()).removeprefix("torch.")]
    return [python, "-c", run, "serve", str(folder), *more]


def can_serve() -> bool:
    """Whether that Python has what ``transformers serve`` needs (``pip install 'transformers[serving]'``)."""
    python = os.environ.get("COUNTERMARK_SERVE_PYTHON", sys.executable)
    look = "import fastapi, uvicorn, openai, transformers"
    return subprocess.run([python, "-c", look], check=False, capture_output=True).returncode == 0
