"""Which processor this machine has. Imports nothing heavy."""

from __future__ import annotations

import platform

#: What processors of Intel call their maker.
_INTEL = "GenuineIntel"


def name() -> str:
    """The processor's name, such as 'AMD EPYC 9B45'; on systems that tell no name, its architecture."""
    try:
        return _told("model name")
    except (OSError, KeyError):  # not Linux, or not this kind of processor
        return platform.processor() or platform.machine()


def made_by_intel() -> bool:
    """Whether it is one of Intel's: libraries of Intel use instructions on those that they leave unused on other processors."""
    try:
        return _told("vendor_id") == _INTEL
    except (OSError, KeyError):
        return _INTEL in platform.processor()  # as Windows tells it


def has_avx512() -> bool:
    """Whether it has vector units of 512 bits; False where the system does not tell."""
    try:
        return "avx512f" in _told("flags").split()
    except (OSError, KeyError):
        return False


def _told(what: str) -> str:
    """What Linux tells of the first core. Raises OSError or KeyError where it does not."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        known = dict(line.split(":", 1) for line in file.read(8192).splitlines() if ":" in line)
    return " ".join({key.strip(): value for key, value in known.items()}[what].split())
