"""What the processes of `forking` have imported: all that generating and training with torch do."""

from importlib import import_module

from llmkit.engines.torch.quantization import import_library

import_library()
for name in (
    "llmkit.cli.app",
    "llmkit.cli.commands.finetune",
    "llmkit.cli.commands.generate",
    "llmkit.engines.torch.engine",
    "llmkit.engines.torch.scoring",
    "llmkit.training.eval_prompts",
    "llmkit.training.finetune",
    "llmkit.training.results",
    "llmkit.training.run",
    "llmkit.training.trainer",
    "peft",
    "accelerate",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.marian.modeling_marian",
    "transformers.models.t5.modeling_t5",
):
    import_module(name)
