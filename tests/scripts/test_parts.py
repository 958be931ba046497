"""`make test` fails where one of its parts does, however that part ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scripts import test as runner


@pytest.mark.parametrize(
    ("codes", "whole"),
    [((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((0, 5), 0), ((5, 5), 5), ((0, -9), 9), ((-15, 0), 15), ((5, -11), 11)],
)
def test_a_part_that_fails_or_is_killed(codes: tuple[int, int], whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 is pytest's for no tests that were asked for; of a process that was killed the code is negative."""
    left = list(codes)
    monkeypatch.setattr("scripts.test.subprocess.run", lambda *_, **__: SimpleNamespace(returncode=left.pop(0)))
    assert runner.main() == whole
    assert left == []
