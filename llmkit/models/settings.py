"""Which model a command runs, where and how exactly: checked where it is built, before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from urllib.parse import urlsplit

from llmkit.errors import UsageError
from llmkit.models.devices import check_device, check_dtype, check_quantize

MOST_THREADS = 4096
#: Variables that say how the network is reached.
_NETWORK = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class ServerSettings:
    """How a model that servers run is asked.

    bases: the servers' addresses (http://host:8000/v1), which share the work; empty for the environment's. concurrency: requests
    in flight, over all servers. timeout: seconds for one request, from its beginning to the end of its answer. retries: tries of a
    request after its first. Raises UsageError.
    """

    bases: tuple[str, ...] = ()
    concurrency: int = 16
    timeout: float = 600.0
    retries: int = 10

    def __post_init__(self) -> None:
        for base in self.bases:
            check_base(base, "`api_base`")
        if self.concurrency < 1:
            raise UsageError("`concurrency` must be 1 or more")
        if not 0 < self.timeout < float("inf"):
            raise UsageError("`request_timeout` must be more than 0 seconds")
        if self.retries < 0:
            raise UsageError("`max_retries` must be 0 or more")


def check_base(base: str, named: str) -> None:
    """Raises UsageError for what can't be a server's address. named: what holds it, for the message.

    One with a password is not repeated in the message, and not accepted: it would stand in records.
    """
    try:
        parts = urlsplit(base)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if "@" in base or "?" in base or "#" in base:
        raise UsageError(
            f"{named}: the address holds a password or a query", hint="give a key in OPENAI_API_KEY; the address is http://host:8000/v1"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not base.isascii() or not base.isprintable() or " " in base:
        raise UsageError(f"{named} {base[:200]!r} is not a server's address", hint="for example http://localhost:8000/v1")


def network_hint(*more: str) -> str | None:
    """The environment's variables about the network, None without any: a client library that can't use one does not name it.

    more: names of others.
    """
    named = sorted(name for name in os.environ if name.upper() in _NETWORK or name in more)
    return f"look at {', '.join(named)}" if named else None


@dataclass(frozen=True)
class ModelSettings:
    """A model by its reference, with the adapter on it. dtype: kept by its full name ('bf16' becomes 'bfloat16').

    threads: to compute with on a CPU, None for `cores.default_threads`. server: how the model is asked where it runs
    elsewhere. device_map: 'none' for one device; 'auto', or the name of a .json file, spreads the model over all of them, main memory and
    disk. Raises UsageError for a device, precision, quantization or number of threads that there is not.
    """

    reference: str
    _: KW_ONLY
    adapter: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    trust_remote_code: bool = False
    quantize: str = "none"
    threads: int | None = None
    server: ServerSettings = ServerSettings()
    device_map: str = "none"

    def __post_init__(self) -> None:
        check_device(self.device)
        check_quantize(self.quantize)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UsageError(f"`threads` {self.threads}: it must be between 1 and {MOST_THREADS:,}")
        self._check_device_map()
        object.__setattr__(self, "dtype", check_dtype(self.dtype))

    def _check_device_map(self) -> None:
        if self.device_map == "none":
            return
        if self.device_map != "auto" and not self.device_map.endswith(".json"):
            raise UsageError(f"unknown device map '{self.device_map}'", hint="none, auto, or a .json file of modules and devices")
        for name, given, hint in (
            ("device", self.device != "auto", "the map names the devices"),
            ("quantize", self.quantize != "none", "use only one of them"),
            ("adapter", self.adapter is not None, "merge the adapter into its base first"),
        ):
            if given:
                raise UsageError(f"`device_map` cannot be combined with `{name}`", hint=hint)
