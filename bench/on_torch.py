"""What every peer on torch imports first, and takes longest for. In a quick run a server imports it once, and forks itself into them.

Not on macOS, whose libraries may not be used after a fork, nor on Windows, which has none: there each peer imports it.
"""

from __future__ import annotations

from bench.peers import settings

settings()  # which the libraries read as they are imported

import torch  # noqa: E402, F401
import transformers.modeling_utils  # noqa: E402, F401
