"""An engine is chosen by name or by the model reference before anything is loaded; another package can bring one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.engines.base import Capabilities, EngineKind
from llmkit.engines.chat import ChatSettings
from llmkit.engines.decoding import Decoding
from llmkit.engines.registry import choose, engines, open_engine
from llmkit.errors import UsageError
from llmkit.models.settings import ModelSettings
from llmkit.rows.fields import Prompt

ENGINE = """
from llmkit.engines.base import Capabilities, EngineKind
ENGINE = EngineKind("echo", Capabilities(streaming=True), "echoing:open_engine", prefixes=("echo:",))
def open_engine(settings, *, chat, draft, report, warn):
    return ("opened", settings.reference)
"""


def test_a_folder_or_a_hub_name_goes_to_torch() -> None:
    assert choose(ModelSettings("./folder"))[0].name == choose(ModelSettings("gpt2"), "torch")[0].name == "torch"


def test_an_unknown_engine_is_a_usage_error_that_names_the_near_one() -> None:
    with pytest.raises(UsageError, match="unknown engine 'torhc'") as caught:
        choose(ModelSettings("gpt2"), "torhc")
    assert caught.value.hint == "did you mean 'torch'?"


def test_what_an_engine_does_not_have_is_refused_before_it_is_opened() -> None:
    small = EngineKind("small", Capabilities(devices=("cpu",)), "nowhere:open")
    for settings in (ModelSettings("x", adapter="adapter"), ModelSettings("x", device="cuda:0"), ModelSettings("x", quantize="int8")):
        with pytest.raises(UsageError, match="the engine small"):
            small.check_settings(settings)
    small.check_settings(ModelSettings("x", device="cpu"))
    for decoding in (
        Decoding(temperature=1.0),
        Decoding(num_beams=2),
        Decoding(logprobs=True),
        Decoding(regex="a"),
        Decoding(prompt_lookup=2),
    ):
        with pytest.raises(UsageError, match="the engine small has no"):
            small.check_decoding(decoding)
    small.check_decoding(Decoding())


def test_another_package_brings_an_engine_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "echoing.py").write_text(ENGINE)
    info = tmp_path / "echoing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echoing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llmkit.engines]\necho = echoing:ENGINE\n")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from llmkit.engines.registry import engines, open_engine\n"
        "from llmkit.models.settings import ModelSettings\n"
        "print(json.dumps([sorted(engines()), open_engine(ModelSettings('echo:x')), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["ctranslate2", "echo", "openai", "torch"], ["opened", "echo:x"], False]


def test_the_torch_engine_scores_answers_given_as_text() -> None:
    assert engines()["torch"].capabilities.scoring
    engine = open_engine(ModelSettings("builtin:stories"), chat=ChatSettings("none"))
    prompt, answer = Prompt(text="Once upon a time there was a"), " king."
    ((*tokens,),) = engine.score_answers([(prompt, answer)])
    pair = engine.encode_pair(prompt, answer)
    (expected,) = engine.score([pair.tokens], [pair.begin])
    assert [token.logprob for token in tokens] == expected
    assert "".join(token.token for token in tokens).strip() == "king."
