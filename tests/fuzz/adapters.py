"""Adapters: their settings, matrices, record, and what lies beside them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from fuzz.case import Case
from fuzz.damage import copied, edit_file, edit_header, harmed, plant, replace

KEYS = (
    "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern",
    "modules_to_save", "layers_to_transform", "layers_pattern", "target_parameters", "trainable_token_indices", "megatron_core", "megatron_config",
    "loftq_config", "eva_config", "corda_config", "init_lora_weights", "use_dora", "use_rslora", "lora_bias", "bias", "fan_in_fan_out", "task_type",
    "layer_replication", "runtime_config", "use_qalora", "arrow_config", "ensure_weight_tying", "alora_invocation_tokens", "peft_version", "inference_mode",
)  # fmt: skip
PATTERNS = ("(", "(a+)+$", "model.layers.0.self_attn.q_proj", "q_proj", ".*", "^q$", "x" * 1000, "")


def case(chance: Random, folder: Path, bases: Path) -> Case:
    adapter = copied(bases / "adapter", folder / "adapter")
    for _ in range(chance.choice((1, 1, 2))):
        _damage(chance, adapter)
    model = str(bases / "llama")
    prompt = ("the king", "--max-new-tokens", "2", "-q", "--chat-template", "none")
    command = chance.choice(
        (
            ("generate", *prompt, "-m", model, "--adapter", "adapter"),
            ("generate", *prompt, "-m", model, "--adapter", "adapter"),
            ("merge", "adapter", "-m", model, "-o", "merged", "-q"),
            ("generate", "the king", "--max-new-tokens", "2", "-q", "-m", model, "--adapter", "adapter"),
        )
    )
    return Case(command, ("adapter",), ("merged", ".merged"))


def _damage(chance: Random, adapter: Path) -> None:
    kind = chance.randrange(9)
    settings = adapter / "adapter_config.json"
    if kind < 3:
        edit_file(chance, settings, keys=KEYS) if settings.is_file() else None
    elif kind == 3 and settings.is_file():
        _patterns(chance, settings)
    elif kind == 4 and (adapter / "adapter_model.safetensors").is_file():
        edit_header(chance, adapter / "adapter_model.safetensors")
    elif kind == 5 and (adapter / "run.json").is_file():
        edit_file(chance, adapter / "run.json", keys=("identity", "result", "files"))
    elif kind == 6:
        path = chance.choice([p for p in sorted(adapter.iterdir()) if p.is_file()])
        path.write_bytes(harmed(chance, path.read_bytes()))
    elif kind == 7:
        plant(chance, adapter)
    else:
        replace(chance, chance.choice([p for p in sorted(adapter.iterdir()) if p.is_file()]))


def _patterns(chance: Random, settings: Path) -> None:
    try:
        content = dict(json.loads(settings.read_bytes()))
    except (ValueError, RecursionError, TypeError):
        return  # damaged before
    for name in chance.sample(
        ("rank_pattern", "alpha_pattern", "target_modules", "exclude_modules", "layers_pattern", "modules_to_save"), 2
    ):
        pattern = chance.choice(PATTERNS)
        content[name] = (
            {pattern: chance.choice((1, 2, 8, 10**7, 0))} if name.endswith("n") and name[0] in "ra" else chance.choice((pattern, [pattern]))
        )
    content["r"] = chance.choice((content.get("r"), 1, 2, 200_000))
    settings.write_text(json.dumps(content))
