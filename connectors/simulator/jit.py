"""Compilation of the inner loops; numba comes with the extra ``simulate``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar, cast

from pipeline.errors import MissingExtra

F = TypeVar("F", bound=Callable[..., object])


@cache
def compiled(function: F) -> F:
    """`function` as machine code, cached on disk where the folder allows it; it releases the interpreter lock.

    No fast-math: the order of additions stays as written, so results do not depend on the compiler's taste.

    Raises:
        MissingExtra: numba is not installed.
    """
    try:
        import numba
    except ImportError as error:
        raise MissingExtra("simulate", "the simulator") from error
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cast(F, numba.njit(nogil=True)(function))
