"""What a failed request means: try again, give up its row, or stop the run. Keys are taken out of every message.

Knows the client library's exceptions and HTTP; not rows.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from llmkit.errors import one_line

#: Statuses of HTTP after which the same request may succeed; besides those of 500 and more.
_AGAIN = frozenset({408, 409, 425, 429})
_ADDRESS = "check the model's name and that the address ends with /v1"
#: ... after which no request will, until someone does something.
_STOP = {
    401: ("does not accept the key", "set OPENAI_API_KEY to a valid key"),
    402: ("requires a payment", "check the account's plan"),
    403: ("refuses access", "the key, or the account, may not use this model"),
    404: ("does not have the model, or does not support this kind of request", _ADDRESS),
    405: ("does not support this kind of request", _ADDRESS),
    407: ("is behind a proxy that wants a password", "look at HTTPS_PROXY and HTTP_PROXY"),
    410: ("does not have the model any more", "name another one"),
}
#: ... with which a gateway says that what is behind it can't be reached.
_GATEWAY = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Failure:
    """Why a request has no answer.

    kind: 'again' (it may be tried again), 'row' (the request itself is at fault) or 'stop' (no request will succeed). wait: the
    seconds that the server asks to wait. busy: it had too many requests. unreachable: no model was reached. status: of HTTP.
    """

    kind: str
    reason: str
    hint: str | None = None
    wait: float | None = None
    busy: bool = False
    unreachable: bool = False
    status: int | None = None


class BrokenAnswerError(Exception):
    """An answer that is not what the protocol says: half of it, no JSON, no choices."""


class RedirectError(Exception):
    """A server sends a request on to another address, which is its text."""


class Redactor:
    """Takes secrets out of texts that come from elsewhere: the key, and the user and password of an address."""

    def __init__(self, *secrets: str | None) -> None:
        self._secrets = [secret for secret in secrets if secret and len(secret) > 3]

    def __call__(self, problem: object) -> str:
        """The text of an exception as one line, '[key]' in the place of each secret."""
        text = str(problem)
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        text = re.sub(r"\b(sk-|Bearer )[\w.*-]{6,}", r"\1[key]", re.sub(r"//[^/@\s]+@", "//", text))
        return one_line(text.replace("`", "'"))  # what stands between such marks is a setting of ours


def failure_of(exc: Exception, base: str, clean: Redactor, now: float) -> Failure:
    """What an exception of the client library, a time-out or a broken answer means. now: seconds since 1970, for dates."""
    import openai

    if isinstance(exc, BrokenAnswerError):
        return Failure("again", f"{base} answered with {clean(exc)}")
    if isinstance(exc, TimeoutError | openai.APITimeoutError):
        connecting = "Connect" in type(exc.__cause__).__name__
        return Failure("again", f"{base} did not answer in time", unreachable=connecting)
    if isinstance(exc, openai.APIStatusError):
        return _of_status(exc, base, clean, now)
    cause = exc.__cause__ or exc
    if type(cause).__name__ == "TooManyRedirects":
        return Failure(
            "stop", f"{base} sends requests on in a circle", hint="check the address in `api_base`, and the server's own settings"
        )
    if isinstance(cause, RedirectError):
        what = "nothing was sent there; name that address in `api_base` if it is the server that you mean"
        return Failure("stop", f"{base} sends requests on to {clean(cause)}", hint=what)
    if isinstance(exc, openai.APIConnectionError) and type(cause).__name__ in ("ConnectError", "ProxyError"):
        hint = "SSL_CERT_FILE=FILE adds the certificate of your own authority" if "CERTIFICATE_VERIFY_FAILED" in str(cause) else None
        return Failure("again", f"{base} cannot be reached: {clean(cause)}", hint=hint, unreachable=True)
    if isinstance(exc, openai.APIConnectionError | OSError) or "httpx" in type(exc).__module__:
        return Failure("again", f"the connection to {base} broke: {clean(cause)}")
    raise exc


def _of_status(exc: Any, base: str, clean: Redactor, now: float) -> Failure:
    status, said = int(exc.status_code), _message(exc)
    said = clean(said) if said.strip() else ""
    reason = f"{base} answered with status {status}" + (f": {said}" if said else "")
    if status == 429 and exc.code == "insufficient_quota":
        return Failure("stop", reason, hint="check the account's plan", status=status)
    if status in _AGAIN or status >= 500:
        wait = retry_after(exc.response.headers, now)
        busy = status == 429 or (status == 503 and wait is not None)
        return Failure("again", reason, wait=wait, busy=busy, unreachable=status in _GATEWAY and not busy, status=status)
    if status < 400:
        return Failure("stop", f"{base} sends requests on, and does not say where (status {status})", hint=_ADDRESS, status=status)
    if status in _STOP:
        what, hint = _STOP[status]
        return Failure("stop", f"{base} {what} (status {status}{': ' + said if said else ''})", hint=hint, status=status)
    return Failure("row", reason, status=status)


def _message(exc: Any) -> str:
    """What a server says in its error: OpenAI's form, FastAPI's, or text."""
    body = exc.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else inner
        return str(message if message is not None else body or "")
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    return "" if body is None else str(body)


def retry_after(headers: Any, now: float) -> float | None:
    """The seconds that `Retry-After` asks to wait: a number or a date. None without one that can be read.

    now: seconds since 1970.
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = str(headers.get(name) or "").strip()
        if not text:
            continue
        try:
            seconds = float(text) / scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
