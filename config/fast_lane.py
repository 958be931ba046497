"""`[fast_lane]`: where alarms go straight from the connector."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, model_validator

from config.closed import RECORDED, Access, Closed, is_here


class Mqtt(Access):
    """An MQTT 5 broker, and what is told it."""

    host: str = Field("localhost", min_length=1)
    unencrypted: bool = Field(
        False, description="let the password go to another host as it is, where nobody listens in"
    )
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

    @model_validator(mode="after")
    def _password_unseen(self, info: ValidationInfo) -> Mqtt:
        seen = self.password is not None and not (self.tls or self.unencrypted or is_here(self.host))
        if seen and info.context != RECORDED:
            raise ValueError(
                "MQTT sends the password as it is: set tls = true, or unencrypted = true where nobody listens in"
            )
        return self


class FastLane(Closed):
    """Detectors inside the connector of machines with `fast_lane = true`, and their output."""

    mqtt: Mqtt | None = None
