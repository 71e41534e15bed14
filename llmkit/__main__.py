"""`llmkit`, `python -m llmkit` and `torchrun -m llmkit`. Imports nothing of llmkit before Ctrl-C has a quiet end."""

from __future__ import annotations

import gc
import os
import sys

#: The shell's convention for a process that Ctrl-C ended.
_INTERRUPTED = 130
try:
    import signal
except (KeyboardInterrupt, RuntimeError):  # RuntimeError: what Python makes of it inside a class
    os._exit(_INTERRUPTED)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

_SHOW_CURSOR = "\x1b[?25h"


def main() -> NoReturn:
    """Runs the command line and exits with the code of the contract."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _on_interrupt)
    gc.disable()  # nothing that is imported is garbage; see `llmkit.cli.command`
    from llmkit.cli.app import main as run

    run()


def _on_interrupt(_: int, frame: FrameType | None) -> None:
    """Ends the process at once while a module is imported: some libraries swallow the exception there, and fail long afterwards.

    Nothing is being written then: a job has handlers of its own.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR.encode())
            os._exit(_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
