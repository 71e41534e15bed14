"""Libraries that can't be imported: several read the environment while they are, and end with whatever their parser raises."""

from __future__ import annotations

import importlib
import io
import os
from contextlib import redirect_stdout

from llmkit.errors import UnavailableError, one_line

#: How names of the variables begin that the libraries of models read.
_PREFIXES = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "DATASETS_", "TORCH_", "PYTORCH_")


def import_failure(exc: BaseException) -> UnavailableError | None:
    """What an exception means that ended the import of a library; None for one that was raised elsewhere.

    The hint names the variables that may be the cause; their values may be secrets.
    """
    frame, library = exc.__traceback__, ""
    while frame is not None:
        name = str(frame.tb_frame.f_globals.get("__name__", ""))
        if frame.tb_frame.f_code.co_name == "<module>" and name.partition(".")[0] not in ("llmkit", "__main__"):
            library = library or name.partition(".")[0]
        frame = frame.tb_next
    if not library or not isinstance(exc, Exception):
        return None
    named = sorted(name for name in os.environ if name.startswith(_PREFIXES))
    hint = f"look at {', '.join(named)}" if named else f"install {library} again"
    return UnavailableError(f"{library} can't be imported: {one_line(exc)}", hint=hint)


def check_hub() -> None:
    """Imports the hub's client, which reads its settings from the environment. Raises UnavailableError when it can't.

    To be called before a library is imported that imports the client. The client tells of the failure on standard output, which is
    for answers.
    """
    try:
        with redirect_stdout(io.StringIO()):
            importlib.import_module("huggingface_hub.hf_api")
    except Exception as exc:
        if (failure := import_failure(exc)) is None:
            raise
        raise failure from exc
