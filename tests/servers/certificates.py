"""A certificate authority of the test's own, with a certificate for servers on loopback and one for clients."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cache import ServerError, debian_package, tool

_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's certificate, and for both sides a certificate, its key, and the two in one file."""

    ca: Path
    server: Path
    server_key: Path
    server_pair: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path, *, valid_days: int = 2) -> Certificates:
    """Write a fresh set of certificates into the folder.

    Args:
        folder: Where the files go; created when it is missing.
        valid_days: How long the certificates are valid from now on.

    Raises:
        ServerError: `openssl` is missing or fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ca = folder / "ca.pem"
    extensions = {
        "ca": ("keyUsage=critical,keyCertSign,cRLSign",),
        "server": ("basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        "client": ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"),
    }
    for name, added in extensions.items():
        arguments = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        arguments += ["-days", str(valid_days), "-subj", f"/CN=stethos {name}"]
        arguments += [word for extension in added for word in ("-addext", extension)]
        if name != "ca":
            arguments += ["-CA", str(ca), "-CAkey", str(folder / "ca.key")]
        _openssl(*arguments)
    server, key = folder / "server.pem", folder / "server.key"
    pair = folder / "server-pair.pem"
    pair.write_text(key.read_text() + server.read_text())
    return Certificates(ca, server, key, pair, folder / "client.pem", folder / "client.key")


def _openssl(*arguments: str) -> None:
    command = [tool("openssl", debian_package("openssl")), "req", "-x509", *_EC_KEY, *arguments]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise ServerError(f"'openssl' failed:\n{error.stderr[-2000:]}") from error
