"""The trackers of experiments that a run can report to.

Knows names and packages; transformers does the reporting.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmkit.errors import UnavailableError, UsageError, did_you_mean

#: The trackers that transformers knows, each with the packages that bring it.
TRACKERS = {
    "azure_ml": "azureml-core",
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet-ml",
    "dagshub": "dagshub mlflow",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "kubeflow": "kubeflow",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}


def check_trackers(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that is unknown to transformers, UnavailableError for one that is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(
                f"`report_to` {name}: no such tracker is known",
                hint=did_you_mean(name, TRACKERS, default=f"known are {', '.join(TRACKERS)}"),
            )
    if names:
        from transformers import integrations

        from llmkit.engines.torch.quantization import import_library

        import_library()  # which transformers would import with what it has to say
        for name in set(names).difference(integrations.get_available_reporting_integrations()):
            raise UnavailableError(f"`report_to` {name}: it is not installed", hint=f"pip install {TRACKERS[name]}")
