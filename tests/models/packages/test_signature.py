"""Signatures of minisign: those of another implementation are accepted, everything else is not."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.packages import load
from models.packages.signature import verify
from pipeline.errors import BadInput
from tests.models.packages import rig

AUTHORS_KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
"""Public key of minisign's author; the signatures below are the examples of his library minisign-verify."""
PLAIN = b"""untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
"""
HASHED = b"""untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
"""


@pytest.mark.parametrize("signature", [PLAIN, HASHED])
def test_signatures_of_minisign_are_accepted(signature: bytes) -> None:
    assert verify(b"test", signature, AUTHORS_KEY, "here").endswith("file:test")


@pytest.mark.parametrize("signature", [PLAIN, HASHED])
@pytest.mark.parametrize(
    ("old", "new"),
    [(b"file:test", b"file:text"), (b"59", b"58"), (b"trusted comment: t", b"trusted: t"), (b"==", b""), (b"\n", b" ")],
)
def test_a_changed_signature_is_refused(signature: bytes, old: bytes, new: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        verify(b"test", signature.replace(old, new), AUTHORS_KEY, "here")
    assert caught.value.reason == "signature"


@pytest.mark.parametrize("key", ["", "not base64!", AUTHORS_KEY[:-4], "A" * 56])
def test_a_wrong_key_is_refused(key: str) -> None:
    with pytest.raises(BadInput) as caught:
        verify(b"test", PLAIN, key, "here")
    assert caught.value.reason == "signature"


def test_other_data_are_refused() -> None:
    with pytest.raises(BadInput, match="changed after"):
        verify(b"Test", HASHED, AUTHORS_KEY, "here")


class Signer:
    """Signs as minisign does."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
        self._number = bytes([seed] * 8)

    @property
    def public(self) -> str:
        return base64.b64encode(b"Ed" + self._number + self._key.public_key().public_bytes_raw()).decode()

    def sign(self, data: bytes) -> bytes:
        value = self._key.sign(hashlib.blake2b(data).digest())
        first = base64.b64encode(b"ED" + self._number + value)
        second = base64.b64encode(self._key.sign(value + b"by a test"))
        return b"\n".join([b"untrusted comment: -", first, b"trusted comment: by a test", second, b""])


def test_a_package_is_loaded_with_its_signature_alone(tmp_path: Path) -> None:
    folder, signer = rig.package(tmp_path / "state").folder, Signer(1)
    with pytest.raises(BadInput, match="is missing"):
        load(folder, signer.public)
    sums = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS.minisig").write_bytes(signer.sign(sums))
    assert load(folder, signer.public).signed
    assert not load(folder).signed
    assert load(folder).digest == hashlib.sha256(sums).hexdigest()
    with pytest.raises(BadInput, match="wanted is 0202020202020202"):
        load(folder, Signer(2).public)
