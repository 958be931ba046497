"""Signatures of `SHA256SUMS` in the format of minisign (https://jedisct1.github.io/minisign/), verified, never made.

Sign with ``minisign -S -m SHA256SUMS`` where the secret key is kept. The mathematics is that of the library
`cryptography` (Ed25519, RFC 8032); here is only the layout: algorithm (2 bytes: ``Ed`` of the file, ``ED`` of its
BLAKE2b-512), key number (8), signature (64); the trusted comment is signed together with the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from pipeline.errors import BadInput, MissingExtra


def verify(data: bytes, signature: bytes | None, public_key: str, where: str) -> str:
    """Verify a detached signature.

    Args:
        data: what was signed.
        signature: content of the ``.minisig`` file; None where there is none.
        public_key: the base64 line of the ``.pub`` file.
        where: named in errors.

    Returns:
        The trusted comment.

    Raises:
        BadInput: no signature, one of another key, one that does not fit, or no such format (reason ``signature``).
        MissingExtra: `cryptography` is not installed.
    """
    if signature is None:
        raise BadInput("signature", f"{where}: is missing, and a public key is configured; sign the package")
    algorithm, number, key = _fields(public_key.strip(), 32, "the public key")
    if algorithm != b"Ed":
        raise BadInput("signature", "the public key is none of minisign; give the second line of its .pub file")
    lines = signature.decode("utf-8", "replace").splitlines()
    if len(lines) != 4 or not lines[2].startswith("trusted comment: "):
        raise BadInput("signature", f"{where}: is no minisign signature of four lines")
    algorithm, signer, value = _fields(lines[1], 64, where)
    if signer != number:
        raise BadInput("signature", f"{where}: made with key {signer[::-1].hex().upper()}, wanted is "
                       f"{number[::-1].hex().upper()}")  # fmt: skip
    if algorithm not in {b"Ed", b"ED"}:
        raise BadInput("signature", f"{where}: unknown algorithm")
    comment = lines[2].removeprefix("trusted comment: ")
    message = hashlib.blake2b(data).digest() if algorithm == b"ED" else data
    _ed25519(key, value, message, where)
    _ed25519(key, _base64(lines[3], where), value + comment.encode(), where)
    return comment


def _ed25519(key: bytes, signature: bytes, message: bytes, where: str) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtra("signature", "verifying a signature") from error
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature as error:
        raise BadInput("signature", f"{where}: does not fit its package; it was changed after it was signed") from error


def _fields(text: str, length: int, where: str) -> tuple[bytes, bytes, bytes]:
    raw = _base64(text, where)
    if len(raw) != 10 + length:
        raise BadInput("signature", f"{where}: has {len(raw)} bytes instead of {10 + length}")
    return raw[:2], raw[2:10], raw[10:]


def _base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("signature", f"{where}: is no base64") from error
