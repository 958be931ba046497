"""What all parts of a configuration share: no unknown keys, and how a broker is reached."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

RECORDED = "recorded"
"""Context of the validation of what a recording brings: a replay sends nobody a secret, so it need not be safe."""


class Closed(BaseModel):
    """Base of all parts: frozen; a misspelt key is an error, and so are `nan` and `inf`, which TOML knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def is_here(place: str) -> bool:
    """Whether a HOST or HOST:PORT is this box, where nobody else can listen in."""
    place = place.strip()
    try:
        host = place if place.count(":") > 1 and "]" not in place else urlsplit("//" + place).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name
        return False


class Access(Closed):
    """Encryption and login at a broker, Kafka's or MQTT's; nothing of it has a default that lets anybody in."""

    tls: bool = False
    ca_file: Path | None = Field(None, description="authority of the broker's certificate; default: the system's")
    cert_file: Path | None = Field(None, description="this client's certificate, where the broker asks for one")
    key_file: Path | None = None
    username: str | None = Field(None, description="switches the login on (SASL on Kafka)")
    password: SecretStr | None = Field(None, description='or "env:NAME" to read it from the environment')

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both or neither")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        return self

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("certificates are for TLS: set tls = true, or take them away")
        return self
