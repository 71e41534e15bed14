"""Which families of models are converted, by which loader of the library, and what of a configuration its kernels do not compute.

Knows names and numbers of a configuration; imports nothing heavy. What is not refused here is still compared with torch when it
is converted (convert.py), so this page only saves the attempt and gives the reason in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmkit.models import configuration

#: `model_type` → the class in `ctranslate2.converters.transformers` that knows where its weights go.
LOADERS: dict[str, str] = {
    "bart": "BartLoader",
    "bloom": "BloomLoader",
    "codegen": "CodeGenLoader",
    "falcon": "FalconLoader",
    "gemma": "GemmaLoader",
    "gemma3": "Gemma3Loader",
    "gemma3_text": "Gemma3Loader",
    "gpt2": "GPT2Loader",
    "gpt_bigcode": "GPTBigCodeMHALoader",
    "gpt_neox": "GPTNeoXLoader",
    "gptj": "GPTJLoader",
    "llama": "LlamaLoader",
    "m2m_100": "M2M100Loader",
    "marian": "BartLoader",
    "mbart": "MBartLoader",
    "mistral": "MistralLoader",
    "mpt": "MPTLoader",
    "mt5": "MT5Loader",
    "opt": "OPTLoader",
    "pegasus": "PegasusLoader",
    "phi3": "Phi3Loader",
    "qwen2": "Qwen2Loader",
    "qwen3": "Qwen3Loader",
    "t5": "T5Loader",
    "umt5": "UMT5Loader",
}
#: Families that the library has a loader for, and why it is not used.
_REFUSED: dict[str, str] = {
    "gemma2": "it does not cap scores as Gemma 2 does",
    **dict.fromkeys(("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"), "its scores of Gemma 4 are others than torch's"),
    "phi": "it only reads Phi as it was kept before transformers had it",
    "t5gemma": "it does not cap scores as T5Gemma does",
    "t5gemma2": "its scores of T5Gemma 2 are others than torch's",
}
#: Scalings of rotary positions that the library computes as transformers does (4.8.5): the others change with the text's length.
_ROPE = ("default", "linear", "llama3")
#: Of texts longer than a window it answers as if other tokens were in it: with Gemma 3, one in ten, by up to 2 nats.
WINDOWED = "the model uses sliding-window attention"
GEMMA3 = ("gemma3", "gemma3_text")
#: Settings of generation that would have to be in force at each step, and that its kernels apply in another way.
_GENERATION = ("suppress_tokens", "begin_suppress_tokens")


def reason(config: Mapping[str, Any], generation: Mapping[str, Any]) -> str | None:
    """Why a model with this config.json and generation_config.json is not converted; None when it may be."""
    kind = str(config["model_type"])
    if kind not in LOADERS:
        return _REFUSED.get(kind, f"it does not support the architecture '{kind}'")
    text = configuration.text(dict(config))
    if "quantization_config" in config or "quantization_config" in text:
        return "the weights are already quantized"
    if windowed(text):
        return WINDOWED
    if (scaling := _scaling(text)) not in _ROPE:
        return f"it does not support the RoPE scaling '{scaling}'"
    if any(value for source in (config, generation) for name in _GENERATION if (value := source.get(name))):
        return "the model suppresses tokens"
    return None


def windowed(text: Mapping[str, Any]) -> bool:
    """Whether the attention of a text model has a sliding window that a text can be longer than. Raises TypeError for no number."""
    size, context = text.get("sliding_window"), text.get("max_position_embeddings")
    if not size or size < 0 or not text.get("use_sliding_window", True):
        return False
    return not isinstance(context, int) or context > size


def _scaling(text: Mapping[str, Any]) -> str:
    """The kind of scaling of rotary positions, under the names that releases of transformers have written."""
    for name in ("rope_parameters", "rope_scaling"):
        value = text.get(name)
        if isinstance(value, Mapping):
            value = value.get("full_attention", value)
            return str(value.get("rope_type") or value.get("type") or "default")
    return "default"
