"""Files of options, in each of their formats."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from fuzz.case import Case
from fuzz.damage import harmed, value

_KEYS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "no_repeat_ngram_size", "seed", "stop", "stop_token", "system", "chat_template", "dtype",
    "device", "quantize", "engine", "offline", "quiet", "trust_remote_code", "template", "prompt_field", "limit", "batch_size", "max_errors", "json", "adapter",
    "draft_model", "json_schema", "regex", "grammar", "encoding", "input_format", "min_new_tokens", "generation_config", "echo", "generate", "evaluate", "perplexity",
    "max_length", "truncate", "max_time", "report", "config", "x", "a.b", "metrics", "lora_r", "to", "from", "logprobs", "chat_template_kwargs",
)  # fmt: skip
_NUMBERS = (
    "0xfff",
    "0o17",
    "1e400",
    "-inf",
    "nan",
    "1_000",
    "1979-05-27",
    "07:32:00",
    "'''x'''",
    "0x" + "f" * 5000,
    "1" * 4400,
    "true",
    "{}",
    "[[[]]]",
    '"\\ud800"',
)
_YAML = (
    "seed: *x\n", "<<: *x\n", "<<: {seed: 1}\n", "? [a]\n: b\n", "seed: !!python/name:os.system\n", "seed: !!binary x\n", "stop: !!set {a, b}\n", "seed: 1:1:1\n",
    "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"k{i}: &k{i} [{','.join([f'*k{i - 1}' if i else '*a'] * 9)}]\n" for i in range(9)) + "stop: *k8\n",
    "a: &a {x: 1}\nb: &b {<<: [*a,*a,*a,*a]}\nseed: *b\n", "seed: &a [*a]\n", "date: 2024-99-99\n", "seed: 0x" + "f" * 5000 + "\n", "%YAML 9.9\n---\nseed: 1\n", "---\n---\n",
)  # fmt: skip


def case(chance: Random, folder: Path, bases: Path) -> Case:
    ending = chance.choice(("toml", "yaml", "yml", "json"))
    content = {chance.choice(_KEYS): _value(chance) for _ in range(chance.randint(1, 4))}
    text = _written(chance, content, ending)
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.4:
        data = harmed(chance, data)
    name = f"options.{ending}"
    (folder / name).write_bytes(data)
    fixed = ("-m", str(bases / "llama"), "--max-new-tokens", "1", "-q", "-n", "1", "--num-beams", "1")
    command = chance.choice(
        (("generate", "the king", *fixed), ("evaluate", "score", "-p", "p.txt", "-r", "p.txt", "--metrics", "exact_match"))
    )
    (folder / "p.txt").write_text("a\n")
    return Case((*command, "--config", name), (name, *_OF_OPTIONS))


#: A value that only shows to be wrong when it is used is named by its option alone.
_OF_OPTIONS = ("--", "'", "no ", "cannot", "is ")


def _value(chance: Random) -> Any:
    plain: tuple[Any, ...] = (0, 1, 0.5, "x", True, False, ["x"], "auto", "none", "float32", "cpu", "torch", {"seed": 1})
    return chance.choice(plain) if chance.random() < 0.4 else value(chance)


def _written(chance: Random, content: dict[str, Any], ending: str) -> str:
    if ending == "json":
        if chance.random() < 0.5:
            content = {"llmkit": "0", "command": "generate", "options": content}
        return json.dumps(content, ensure_ascii=chance.random() < 0.5)
    if ending == "toml":
        lines = [f"{json.dumps(k) if '.' in k or not k else k} = {_toml(chance, v)}" for k, v in content.items()]
        return "\n".join(lines) + "\n"
    text = "".join(f"{json.dumps(k)}: {json.dumps(v)}\n" for k, v in content.items())
    return text + chance.choice(_YAML) if chance.random() < 0.4 else text


def _toml(chance: Random, content: Any) -> str:
    if chance.random() < 0.3:
        return chance.choice(_NUMBERS)
    return "0" if content is None else json.dumps(content)
