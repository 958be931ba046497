"""Tables of acceptance: each row names the tests that hold it, and all of them must be there and run in `make test`."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent


@cache
def quick_tests(path: str) -> frozenset[str]:
    """Names of a file's tests that are not left to `make test-full`."""
    body = ast.parse((ROOT / path).read_text()).body
    tests = (node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
    return frozenset(test.name for test in tests if not any("slow" in ast.unparse(d) for d in test.decorator_list))


def missing(named: tuple[str, ...]) -> list[str]:
    """Those of the tests, as ``file::name``, that no file has."""
    return [one for one in named if one.partition("::")[2] not in quick_tests(one.partition("::")[0])]
