"""InfluxDB 2, set up with an organisation, a bucket and a token."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .build import influxd
from .cache import ServerError
from .process import Server
from .web import request, request_json

ADDRESS = "STETHOS_TEST_INFLUXDB"


class InfluxServer(Server):
    """An InfluxDB 2 server.

    The server at `STETHOS_TEST_INFLUXDB` is used instead when the test needs none of its own; its token comes from
    `STETHOS_TEST_INFLUXDB_TOKEN`, without which it is set up as a fresh server is. Its organisation and bucket are
    `STETHOS_TEST_INFLUXDB_ORG` and `STETHOS_TEST_INFLUXDB_BUCKET`.

    Args:
        own: Whether it must be a server of our own, because the test stops it.
        options: Further options of `influxd`, without the leading dashes.
        folder: Where its data are kept and left; a temporary folder without it.
    """

    def __init__(
        self, *, own: bool = False, options: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        special = own or options or folder
        super().__init__("influxdb", folder=folder, external=None if special else os.environ.get(ADDRESS))
        self._options = dict(options or {})
        self.org, self.bucket = "stethos", "tests"
        self.token = secrets.token_hex(16)
        self._set_up = False
        if self.external is None:
            self.url = f"http://127.0.0.1:{self.port()}"
        else:
            self.url = self.external.rstrip("/")
            self.org = os.environ.get(f"{ADDRESS}_ORG", self.org)
            self.bucket = os.environ.get(f"{ADDRESS}_BUCKET", self.bucket)
            self.token = os.environ.get(f"{ADDRESS}_TOKEN", self.token)
            self._set_up = f"{ADDRESS}_TOKEN" in os.environ

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the token."""
        return {"Authorization": f"Token {self.token}"}

    def client_settings(self) -> dict[str, Any]:
        """What `InfluxDBClient` needs to connect, as keyword arguments."""
        return {"url": self.url, "token": self.token, "org": self.org}

    def prepare(self) -> None:
        """Nothing: the server makes its files itself."""

    def command(self) -> Sequence[str]:
        """`influxd` with everything in the data folder."""
        options = {
            "http-bind-address": self.url.removeprefix("http://"),
            "bolt-path": str(self.folder / "influxd.bolt"),
            "sqlite-path": str(self.folder / "influxd.sqlite"),
            "engine-path": str(self.folder / "engine"),
            "log-level": "warn",
            **self._options,
        }
        return [str(influxd()), "--reporting-disabled", *(f"--{name}={value}" for name, value in options.items())]

    def is_ready(self) -> bool:
        """Whether the server is healthy; the first time it is set up as well."""
        if request(f"{self.url}/health", timeout_s=2.0)[0] != 200:
            return False
        if not self._set_up:
            names = {"username": "tests", "password": self.token, "org": self.org, "bucket": self.bucket}
            request_json(f"{self.url}/api/v2/setup", {**names, "token": self.token})
            self._set_up = True
        return True

    def create_bucket(self, name: str, *, retention_s: int = 0) -> str:
        """Create a bucket.

        Args:
            name: Its name.
            retention_s: How long points are kept; 0 keeps them for ever.

        Returns:
            The name.
        """
        orgs = request_json(f"{self.url}/api/v2/orgs?org={self.org}", headers=self.headers)
        rules = [{"type": "expire", "everySeconds": retention_s}] if retention_s else []
        value = {"orgID": orgs["orgs"][0]["id"], "name": name, "retentionRules": rules}
        request_json(f"{self.url}/api/v2/buckets", value, headers=self.headers)
        return name

    def query(self, flux: str) -> list[dict[str, Any]]:
        """The rows of a Flux query's answer, each with its columns by name; values have the types of the answer."""
        from influxdb_client.client.influxdb_client import InfluxDBClient

        with InfluxDBClient(**self.client_settings()) as client:
            return [record.values for table in client.query_api().query(flux) for record in table.records]

    def write(self, lines: str, *, bucket: str | None = None) -> None:
        """Write points in line protocol, times in nanoseconds.

        Raises:
            ServerError: The server refused them.
        """
        url = f"{self.url}/api/v2/write?org={self.org}&bucket={bucket or self.bucket}&precision=ns"
        status, answer = request(url, method="POST", body=lines.encode(), headers=self.headers)
        if status != 204:
            raise ServerError(f"InfluxDB refused the points: {status} {answer.decode(errors='replace')}")
