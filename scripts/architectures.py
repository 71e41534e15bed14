"""Which architectures `llmkit finetune` trains, and on what of each the adapter goes: the table in docs/architectures.md.

python scripts/architectures.py     trains a tiny model of each for five steps and writes the table

`tests/test_trained_architectures.py` trains the same models and holds the table against them.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent.parent / "docs" / "architectures.md"
RANK, STEPS = 4, 5
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128}
GROUPED = SMALL | {"num_key_value_heads": 1}
WIDE = GROUPED | {"head_dim": 16}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}
SPACE = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
MIXED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
#: Name as in transformers' classes → sizes of a tiny model.
CAUSAL: dict[str, dict[str, Any]] = {
    "Llama": GROUPED,
    "Mistral": GROUPED,
    "Qwen2": GROUPED,
    "Qwen3": WIDE,
    "Gemma": WIDE,
    "Gemma2": WIDE | {"sliding_window": 16},
    "Gemma3": WIDE | {"sliding_window": 16},
    "Phi": SMALL,
    "Phi3": GROUPED,
    "Olmo2": GROUPED,
    "Granite": GROUPED,
    "StableLm": GROUPED,
    "Starcoder2": GROUPED,
    "Cohere": GROUPED,
    "GPT2": OLD,
    "GPTJ": OLD | {"rotary_dim": 8},
    "GPTNeo": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
    "GPTNeoX": SMALL,
    "OPT": {"hidden_size": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "Falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "Mpt": {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 128},
    "Mamba": SPACE,
    "Mamba2": SPACE | {"num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8},
    "FalconMamba": SPACE,
    "Jamba": GROUPED
    | {"num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
       "expert_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 8, "use_mamba_kernels": False},
    "Mixtral": GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": GROUPED | MIXED | {"shared_expert_intermediate_size": 24},
    "Qwen3Moe": WIDE | MIXED,
    "Olmoe": GROUPED | {"num_experts": 4, "num_experts_per_tok": 2},
    "GraniteMoe": GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "GptOss": WIDE | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
}  # fmt: skip
SEQUENCE_TO_SEQUENCE: dict[str, dict[str, Any]] = {
    "T5": T5,
    "MT5": T5,
    "Bart": BART,
    "MBart": BART,
    "Marian": BART,
    "M2M100": BART | {"max_position_embeddings": 300},
    "Pegasus": BART,
}
#: Names of classes that do not follow from the model's name.
CONFIGS, CLASSES = {"Gemma3": "Gemma3TextConfig"}, {"Marian": "MarianMTModel"}


@dataclass(frozen=True)
class Trained:
    """A model and its adapter on disk, and the loss of each step."""

    model: Path
    adapter: Path
    losses: list[float]
    line: str


def trained(name: str, place: Path) -> Trained:
    """A tiny model of an architecture, an adapter trained on it with its experts, and the architecture's line in the table."""
    from llmkit.models.settings import ModelSettings
    from llmkit.training.finetune import finetune
    from llmkit.training.settings import DataSettings, FinetuneSettings, LoraSettings, LossSettings, Optimization

    model, rows = build(name, place / "model"), place / "rows.jsonl"
    texts = ["the king lived", "the queen and the king", "a small house by the sea", "three children", "an old king in a house"]
    rows.write_text("".join(json.dumps({"source": f"say {i}", "target": text}) + "\n" for i, text in enumerate(texts)))
    parameters = ("all",) if _experts(model) else ()
    result = finetune(
        FinetuneSettings(
            DataSettings(str(rows)),
            ModelSettings(str(model), device="cpu", dtype="float32"),
            LoraSettings(RANK, 2.0 * RANK, parameters=parameters),
            Optimization(max_steps=STEPS, batch_size=len(texts), learning_rate=1e-2, schedule="constant", warmup=0.0),
            LossSettings(max_length=64),
        ),
        str(place / "adapter"),
    )
    metrics = (place / "adapter" / "metrics.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, metrics) if "loss" in entry]
    config = json.loads((Path(result.folder) / "adapter_config.json").read_text())
    return Trained(model, Path(result.folder), losses, line(name, model, config))


def line(name: str, model: Path, config: dict[str, Any]) -> str:
    """The table's line of an architecture. config: of its adapter."""
    modules = ", ".join(sorted(config["target_modules"]))
    parameters = ", ".join(sorted(config["target_parameters"] or [])) or "-"
    return f"| {name} | {modules} | {parameters} | {'yes' if _packs(name, model) else 'no'} |"


def build(name: str, folder: Path) -> Path:
    """A tiny model of an architecture with random weights, and a tokenizer of bytes."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>", "</s>", "<pad>"])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    more: dict[str, Any] = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "vocab_size": 264}
    if name in SEQUENCE_TO_SEQUENCE:
        more |= {"decoder_start_token_id": 257, "forced_bos_token_id": None, "forced_eos_token_id": None}
    kind = "ForCausalLM" if name in CAUSAL else "ForConditionalGeneration"
    kind = "LMHeadModel" if name == "GPT2" else kind
    sizes = CAUSAL.get(name) or SEQUENCE_TO_SEQUENCE[name]
    config = getattr(transformers, CONFIGS.get(name, f"{name}Config"))(**sizes, **more)
    torch.manual_seed(1)
    model = getattr(transformers, CLASSES.get(name, f"{name}{kind}"))(config)
    with torch.no_grad():  # wider than they are at first, so that five steps move the scores
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _experts(model: Path) -> bool:
    from llmkit.engines.torch.loading import load
    from llmkit.models.settings import ModelSettings
    from llmkit.training.targets import expert_parameters

    return bool(expert_parameters(load(ModelSettings(str(model), device="cpu")).model))


def _packs(name: str, model: Path) -> bool:
    from llmkit.engines.torch.loading import load
    from llmkit.models.settings import ModelSettings
    from llmkit.training.batches import allows_packing

    return name in CAUSAL and allows_packing(load(ModelSettings(str(model), device="cpu", dtype="float32")).model, 259)


HEAD = """# Architectures that are trained

`llmkit finetune` adapts every linear layer of a model's blocks, except layers that are narrower than the rank and layers that the model
never calls (an adapter on these would have no effect). Experts that share a matrix are trained with `--target-parameters all`, or with
some of the names below; without it, a warning says how many weights stay frozen. If rows can be packed, several short rows share a row
of a batch. Otherwise rows of similar length are in one batch.

`python scripts/architectures.py` writes this table and trains a tiny model of each architecture. The slow tests train them again and load
each adapter in plain peft. Other architectures are trained by the same rules.

| architecture | adapter on | `--target-parameters all` | rows packed |
|---|---|---|---|
"""


def main() -> None:
    lines = []
    for name in [*CAUSAL, *SEQUENCE_TO_SEQUENCE]:
        with tempfile.TemporaryDirectory() as place:
            lines.append(trained(name, Path(place)).line)
        print(lines[-1], flush=True)
    TABLE.write_text(HEAD + "".join(line + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
