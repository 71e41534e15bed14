"""A server of OpenAI's protocol that takes a given time for an answer and admits a given number of requests a second.

python -m bench.limited RATE BURST LATENCY

Says its port on a line of standard output, and at the end of standard input how many requests it admitted, refused, and in how many
seconds. The model says yes. Knows HTTP as far as one client speaks it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

_ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
)


@dataclass
class Limited:
    """rate: of requests a second, of which `burst` may come at once. latency: seconds."""

    rate: float
    burst: float
    latency: float
    admitted: list[float] = field(default_factory=list)
    refused: int = 0
    _tokens: float = 1.0
    _filled: float = 0.0

    def admits(self) -> bool:
        now = time.monotonic()
        self._tokens, self._filled = min(self.burst, self._tokens + (now - self._filled) * self.rate), now
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        self.admitted.append(now)
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                sizes = [line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")]
                await reader.readexactly(int(sizes[0]) if sizes else 0)
                if first.startswith(b"get"):
                    _send(writer, "200 OK", '{"data": [{"id": "tiny"}]}')
                elif self.admits():
                    await asyncio.sleep(self.latency)
                    _send(writer, "200 OK", _ANSWER)
                else:
                    _send(writer, "429 Too Many Requests\r\nRetry-After: 1", '{"error": {"message": "Too many requests"}}')
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def _send(writer: asyncio.StreamWriter, status: str, content: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode())


async def main() -> None:
    limited = Limited(*map(float, sys.argv[1:4]))
    async with await asyncio.start_server(limited.serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    seconds = limited.admitted[-1] - limited.admitted[0]
    print(json.dumps({"admitted": len(limited.admitted), "refused": limited.refused, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
