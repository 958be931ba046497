"""`[fast_lane]`: where alarms go straight from the connector."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Mqtt(BaseModel):
    """An MQTT 5 broker, and what is told it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("localhost", min_length=1)
    port: int = Field(1883, ge=1, le=65535, description="usually 1883, with TLS 8883")
    topic: str = Field(
        "stethos/{machine}/{detector}",
        description="of commands; may name {site}, {machine}, {detector}, {transition}, {severity}",
    )
    status_topic: str = Field(
        "stethos/{site}/status", description="of online, silent, offline (retained); may name {site}, {client}"
    )
    client_id: str | None = Field(None, min_length=1, max_length=200, description="default: made of site and host")
    expires_s: float = Field(5.0, gt=0, le=60, description="a command is sent at most so long after its event")
    queue: int = Field(100, ge=1, le=10_000, description="most commands that wait; beyond, the oldest are dropped")
    keepalive_s: int = Field(5, ge=1, le=600, description="after 1.5 of these without us the broker says offline")
    username: str | None = None
    password: SecretStr | None = Field(None, description='or "env:NAME" to read it from the environment')
    tls: bool = False
    ca_file: Path | None = Field(None, description="authority of the broker's certificate; default: the system's")
    cert_file: Path | None = Field(None, description="this client's certificate, where the broker asks for one")
    key_file: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> Mqtt:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both or neither")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("certificates are for TLS: set tls = true, or take them away")
        return self


class FastLane(BaseModel):
    """Detectors inside the connector of machines with `fast_lane = true`, and their output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mqtt: Mqtt | None = None
