"""Names of other tools' commands and options, each with what to type here.

Tables of data: a hint, and the names that it answers. `names` has those that are accepted as ours.
"""

from llmkit.cli.elsewhere.commands import COMMANDS_ELSEWHERE
from llmkit.cli.elsewhere.options import OPTIONS_ELSEWHERE, OPTIONS_OF_COMMAND

__all__ = ["COMMANDS_ELSEWHERE", "OPTIONS_ELSEWHERE", "OPTIONS_OF_COMMAND"]
