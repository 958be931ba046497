"""What a run's bits depend on besides its data: the numeric platform.

Replays agree to the bit where fingerprints agree. Where they differ, numpy may take another vector path and the BLAS
another kernel, and results agree within tolerance only.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from pipeline.results import canonical

_LIBRARIES = ("numpy", "scipy", "onnxruntime", "orjson")
"""orjson because it writes the digits of the journal's floats."""


def platform_fingerprint(packages: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Python, libraries, processor and C library of this process, and the model packages in use.

    Args:
        packages: SHA-256 of each model package by name.
    """
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "libraries": {name: found for name in _LIBRARIES if (found := _installed(name))},
        "machine": platform.machine(),
        "system": platform.system(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpu_features": sorted(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])),
        "packages": dict(sorted((packages or {}).items())),
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The entries in which two fingerprints differ, with both values."""
    names = sorted({*a, *b})
    return {name: (a.get(name), b.get(name)) for name in names if canonical_of(a, name) != canonical_of(b, name)}


def canonical_of(entries: Mapping[str, Any], name: str) -> bytes:
    """One entry as canonical JSON, so that lists and tuples compare alike."""
    return canonical({"": entries.get(name)})
