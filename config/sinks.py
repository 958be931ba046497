"""Where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, model_validator

from config.closed import RECORDED, Closed, is_here

InfluxTopic = Literal["score", "feature", "machine_state", "alarm", "health"]
ResultTopic = Literal["score", "feature", "machine_state", "alarm", "health", "embedding", "late", "dlq", "decision"]


class InfluxSinkConfig(Closed):
    """InfluxDB 2."""

    type: Literal["influxdb"]
    url: str
    ca_file: Path | None = Field(None, description="authority of the server's certificate; default: the system's")
    unencrypted: bool = Field(False, description="let the token go by http:// to another host, where nobody listens in")
    org: str
    bucket: str
    token: SecretStr = Field(description='or "env:NAME" to read it from the environment')
    topics: tuple[InfluxTopic, ...] = Field(("score", "feature", "machine_state", "alarm", "health"), min_length=1)

    @model_validator(mode="after")
    def _token_unseen(self, info: ValidationInfo) -> InfluxSinkConfig:
        """Of the whole section: an error of a key would show the key's value."""
        if info.context == RECORDED:
            return self
        if "@" in self.url:
            raise ValueError("the url holds a login: take it out, InfluxDB knows writers by their token")
        try:
            split = urlsplit(self.url)
            scheme, place, host, _ = split.scheme, split.netloc, split.hostname, split.port
        except ValueError:
            host = None
        if not host:
            raise ValueError("the url is none: write https://HOST:PORT")
        if scheme == "http" and not is_here(place) and not self.unencrypted:
            raise ValueError(
                "http sends the token as it is: write https:// in the url, or unencrypted = true where nobody listens"
            )
        if scheme == "http" and self.ca_file is not None:
            raise ValueError("ca_file is for TLS: write https:// in the url, or take it away")
        return self


class JournalSinkConfig(Closed):
    """Results as JSON lines, appended as they come."""

    type: Literal["jsonl"]
    path: Path
    most_bytes: int = Field(4_000_000_000, ge=1_000_000, description="of PATH, PATH.1 and so on; the oldest results go")
    topics: tuple[ResultTopic, ...] = Field(("score", "machine_state", "alarm", "health"), min_length=1)


SinkConfig = Annotated[InfluxSinkConfig | JournalSinkConfig, Field(discriminator="type")]
