"""Writes the CTranslate2 form of the built-in models from their safetensors: what the engine of that name loads.

    python scripts/builtin/ctranslate2_form.py       writes llmkit/models/builtin/*/ctranslate2, prints the checksums

The numbers are those of the safetensors file, bit for bit: stories is bfloat16 and stays it, en-fr float16; the engine computes
with them in float32. The printed checksums go into llmkit/models/builtin/__init__.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters.transformers import BartLoader, LlamaLoader
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from llmkit.files import file_sha256
from llmkit.models import builtin


class Marian(BartLoader):
    """Ours has padding at id 0, with a row that is not zero; the decoder begins with it.

    The stock loader takes padding to be last, drops the last row, and begins with a zero embedding.
    """

    def get_model_spec(self, model: Any) -> Any:
        model.config.normalize_before = model.config.normalize_embedding = False
        return super().get_model_spec(model)

    def set_config(self, config: Any, model: Any, tokenizer: Any) -> None:
        super().set_config(config, model, tokenizer)
        config.bos_token = tokenizer.eos_token  # it has none, and none is asked for


def main() -> None:
    for name in builtin.names():
        folder = builtin.folder(name)
        print(f'"{name}":')
        for path in convert(folder, folder / "ctranslate2"):
            print(f'    "{path.name}": "{file_sha256(path)}",  # {path.stat().st_size:,} bytes')


def convert(folder: Path, out: Path) -> list[Path]:
    """Writes the CTranslate2 form of the model in `folder` to `out`, and returns its files."""
    translates = folder.name == "en_fr"
    auto, loader = (AutoModelForSeq2SeqLM, Marian()) if translates else (AutoModelForCausalLM, LlamaLoader())
    with torch.no_grad():
        spec = loader(auto.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder))
        spec.validate()
        # `optimize`, but for positions: they are computed and not trained, and half a precision would change them
        spec._alias_variables()
        spec._quantize("float16" if translates else "bfloat16", variable_filter=lambda variable: "encodings" not in variable)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    spec.save(str(out))
    return sorted(out.iterdir())


if __name__ == "__main__":
    main()
