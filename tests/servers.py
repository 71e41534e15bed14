"""A server of OpenAI's protocol on loopback, whose model is arithmetic and which fails in every way that a server can.

Its answer to a prompt depends on nothing but the prompt and the seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Each way to fail, by name; see `_Handler.fail`.
FAULTS = (
    "429 seconds", "429 date", "500", "502", "503", "408", "cut before", "cut inside", "half json", "silent", "slow", "html", "no choices",
    "null", "reset",
)  # fmt: skip
MODEL = "tiny"


def words(text: str) -> list[str]:
    """The tokens of a text: words with the white space before them."""
    return re.findall(r"\s*\S+", text)


def said(prompt: str, seed: int = 0, limit: int = 1 << 30) -> str:
    """What the model answers."""
    digest = hashlib.sha256(f"{prompt} {seed}".encode()).hexdigest()
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4)[:limit])


def logprob(token: str) -> float:
    return -0.25 * len(token)


def prompt_of(body: Mapping[str, Any]) -> str:
    if "prompt" in body:
        return str(body["prompt"])
    return "\n".join(f"{m['role']}: {m['content']}" for m in body["messages"])


class FakeServer:
    """Answers until it is closed. fault: by the number of a request (from 0) the way in which it fails, None for an answer.

    refuse: given a request's body, a status and an error object, or None. key: what must be shown. latency: seconds of an answer.
    rate: answers a second, of which as many as `burst` may come at once; more are refused with a Retry-After.
    """

    def __init__(
        self, fault: Callable[[int], str | None] = lambda _: None, *, refuse: Callable[[Mapping[str, Any]], Any] = lambda _: None,
        key: str | None = None, latency: float = 0.0, rate: float | None = None, burst: float = 1.0, port: int = 0, scores: bool = True,
        usage: bool = True, retry_after: str = "1", done: bool = True,
    ) -> None:  # fmt: skip
        self.fault, self.refuse, self.key, self.latency, self.scores, self.usage = fault, refuse, key, latency, scores, usage
        self.rate, self.burst, self.retry_after, self.done = rate, burst, retry_after, done
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.faults: list[str] = []
        self.answered = self.most_at_once = self.at_once = 0
        self.closed = threading.Event()
        self.lock = threading.Lock()
        self._tokens, self._filled = burst, time.monotonic()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _Http(("127.0.0.1", port), handler)
        self.port = self._http.server_address[1]
        self.base = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        self._http.shutdown()
        self._http.server_close()

    def has_room(self) -> bool:
        """Whether the rate allows one more answer now."""
        if self.rate is None:
            return True
        with self.lock:
            now = time.monotonic()
            self._tokens, self._filled = min(self.burst, self._tokens + (now - self._filled) * self.rate), now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class _Http(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


@contextlib.contextmanager
def serving(*arguments: Any, **more: Any) -> Iterator[FakeServer]:
    server = FakeServer(*arguments, **more)
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    owner: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self._may():
            self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 4096}]})

    def do_POST(self) -> None:
        owner = self.owner
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._may():
            return
        with owner.lock:
            number = len(owner.bodies)
            owner.bodies.append(body)
            owner.paths.append(self.path)
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
        try:
            self._answer(number, body)
        finally:
            with owner.lock:
                owner.at_once -= 1

    def _answer(self, number: int, body: dict[str, Any]) -> None:
        owner = self.owner
        if (fault := owner.fault(number)) is not None:
            with owner.lock:
                owner.faults.append(fault)
            self.fail(fault, body)
            return
        if (refused := owner.refuse(body)) is not None:
            self._json(refused[0], {"error": refused[1]})
            return
        if body["model"] != MODEL:
            self._json(404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": "model_not_found"}})
            return
        if not owner.has_room():
            self._json(429, {"error": {"message": "Too many requests"}}, {"Retry-After": owner.retry_after})
            return
        owner.closed.wait(owner.latency)
        with owner.lock:
            owner.answered += 1
        if body.get("stream"):
            self._stream(body)
        else:
            self._json(200, self._content(body))

    def _may(self) -> bool:
        if self.owner.key is None or self.headers.get("authorization") == f"Bearer {self.owner.key}":
            return True
        self._json(401, {"error": {"message": f"Incorrect API key provided: {self.headers.get('authorization')}"}})
        return False

    def _content(self, body: Mapping[str, Any]) -> dict[str, Any]:
        chat, prompt = "messages" in body, prompt_of(body)
        text = said(prompt, body.get("seed", 0), body["max_tokens"] if "max_tokens" in body else body["max_completion_tokens"])
        written = words(text)
        reason = "length" if len(written) < 8 else "stop"
        for stop in body.get("stop") or ():
            if stop in text:
                text, reason = text[: text.index(stop)], "stop"
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if chat:
            choice["message"] = {"role": "assistant", "content": text}
            if body.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": t, "logprob": logprob(t)} for t in words(text)]}
        else:
            before = words(prompt) if body.get("echo") else []
            choice["text"] = (prompt if body.get("echo") else "") + text
            if body.get("logprobs") and self.owner.scores:
                tokens = before + words(text)
                values = [None if before and i == 0 else logprob(t) for i, t in enumerate(tokens)]
                choice["logprobs"] = {"tokens": tokens, "token_logprobs": values}
        usage = {"prompt_tokens": len(words(prompt)), "completion_tokens": len(written), "total_tokens": len(words(prompt)) + len(written)}
        more = {"usage": usage} if self.owner.usage else {}
        return {"id": "x", "object": "chat.completion" if chat else "text_completion", "model": MODEL, "choices": [choice], **more}

    def _stream(self, body: Mapping[str, Any]) -> None:
        choice = self._content(body)["choices"][0]
        chat = "message" in choice
        text = choice["message"]["content"] if chat else choice["text"]
        parts = [{"delta": {"content": token}} if chat else {"text": token} for token in words(text)]
        events: list[dict[str, Any]] = [{"index": 0, "finish_reason": None, **part} for part in parts]
        events.append({"index": 0, "finish_reason": choice["finish_reason"], **({"delta": {}} if chat else {"text": ""})})
        data = "".join(f"data: {json.dumps({'choices': [event]})}\n\n" for event in events)
        data += "data: [DONE]\n\n" if self.owner.done else ""
        self._send(200, data.encode(), {"Content-Type": "text/event-stream"})

    def fail(self, fault: str, body: Mapping[str, Any]) -> None:
        """Fails in the way of that name."""
        whole = json.dumps(self._content(body)).encode()
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
        if fault == "429 seconds":
            self._json(429, {"error": {"message": "Rate limit reached"}}, {"Retry-After": "20"})
        elif fault == "429 date":
            self._json(429, {"error": {"message": "Rate limit reached"}}, {"Retry-After": later})
        elif fault.isdigit():
            self._json(int(fault), {"error": {"message": "Internal error"}})
        elif fault == "cut before":
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "cut inside":
            self._head(200, len(whole), "application/json")
            self.wfile.write(whole[: len(whole) // 2])
            self.close_connection = True
        elif fault == "half json":
            self._send(200, whole[: len(whole) // 2], {"Content-Type": "application/json"})
        elif fault == "silent":
            self.owner.closed.wait(60)
            self.close_connection = True
        elif fault == "slow":
            self._head(200, len(whole), "application/json")
            for byte in whole:
                self.wfile.write(bytes([byte]))
                if self.owner.closed.wait(1):
                    break
            self.close_connection = True
        elif fault == "html":
            self._send(200, b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"})
        elif fault == "no choices":
            self._json(200, {"id": "x", "choices": []})
        elif fault == "null":
            self._json(200, None)
        else:
            raise ValueError(fault)

    def _json(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _head(self, status: int, length: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()
