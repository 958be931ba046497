"""Prometheus and Alertmanager, with configurations made for the test."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .cache import ServerError, debian_package, tool
from .process import Server
from .web import request, request_json

ADDRESS = "STETHOS_TEST_PROMETHEUS"
ALERTMANAGER_ADDRESS = "STETHOS_TEST_ALERTMANAGER"


class PrometheusServer(Server):
    """A Prometheus that scrapes the given targets; it begins 5 s after its start, as it does with new targets.

    The server at `STETHOS_TEST_PROMETHEUS` is used instead when the test configures nothing and stops nothing.

    Args:
        targets: The targets of each job, host and port; jobs by name.
        rules: Files with recording and alerting rules.
        alertmanager: Where alerts are sent, host and port.
        interval_s: How often targets are scraped and rules evaluated.
        config: The whole configuration, in place of what the arguments above say.
        own: Whether it must be a server of our own, because the test stops it.
        folder: Where its data are kept and left; a temporary folder without it.
    """

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]] | None = None,
        *,
        rules: Sequence[Path] = (),
        alertmanager: str | None = None,
        interval_s: float = 0.2,
        config: Mapping[str, Any] | None = None,
        own: bool = False,
        folder: Path | None = None,
    ) -> None:
        special = targets or rules or alertmanager or config or own or folder
        super().__init__("prometheus", folder=folder, external=None if special else os.environ.get(ADDRESS))
        self.targets = dict(targets or {})
        self.rules = list(rules)
        self.alertmanager = alertmanager
        self.config = config
        self._interval = f"{round(interval_s * 1000)}ms"
        self.url = self.external.rstrip("/") if self.external else f"http://127.0.0.1:{self.port()}"

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.split("//")[1]

    def prepare(self) -> None:
        """Write the configuration as JSON, which is YAML too."""
        self._config_path.write_text(json.dumps(self.config or self._configuration(), indent=1))

    def command(self) -> Sequence[str]:
        """The server of the Debian package, its data in the folder."""
        return [
            tool("prometheus", debian_package("prometheus")),
            f"--config.file={self._config_path}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        """Whether the server is ready to answer queries."""
        return request(f"{self.url}/-/ready", timeout_s=2.0)[0] == 200

    def reload(self) -> None:
        """Take up changes of `targets`, `rules`, `alertmanager`, `config` and of the rules' files.

        Raises:
            ServerError: The server refuses the new configuration.
        """
        self._check_ours()
        self.prepare()
        status, answer = request(f"{self.url}/-/reload", method="POST")
        if status != 200:
            raise ServerError(f"Prometheus refuses its configuration: {answer.decode(errors='replace')}")

    def query(self, expression: str, *, at_s: float | None = None) -> list[dict[str, Any]]:
        """The samples of an instant query, each with `metric` (labels) and `value` (time and number as text).

        Args:
            expression: The query.
            at_s: The time it is asked for, seconds since 1970; now without it.
        """
        parameters = {"query": expression} | ({} if at_s is None else {"time": repr(at_s)})
        data = self._get("query", parameters)["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return list(data["result"])

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """The series of a range query, each with `metric` (labels) and `values`."""
        parameters = {"query": expression, "start": repr(start_s), "end": repr(end_s), "step": repr(step_s)}
        return list(self._get("query_range", parameters)["data"]["result"])

    def wait_for(self, expression: str, *, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The samples of a query as soon as it has any.

        Raises:
            ServerError: It had none until the end.
        """
        deadline = time.monotonic() + timeout_s
        while not (samples := self.query(expression)):
            if time.monotonic() > deadline:
                raise ServerError(f"Prometheus has nothing for '{expression}' after {timeout_s:.0f} s")
            time.sleep(0.05)
        return samples

    def alerts(self) -> list[dict[str, Any]]:
        """The pending and firing alerts."""
        return list(self._get("alerts", {})["data"]["alerts"])

    @property
    def _config_path(self) -> Path:
        return self.folder / "prometheus.yml"

    def _get(self, what: str, parameters: Mapping[str, str]) -> Any:
        return request_json(f"{self.url}/api/v1/{what}?{urlencode(parameters)}")

    def _configuration(self) -> dict[str, Any]:
        every = {f"{what}_interval": self._interval for what in ("scrape", "evaluation")}
        jobs = [
            {"job_name": name, "scrape_timeout": self._interval, "static_configs": [{"targets": list(targets)}]}
            for name, targets in self.targets.items()
        ]
        config = {"global": every, "scrape_configs": jobs, "rule_files": [str(path.resolve()) for path in self.rules]}
        if self.alertmanager:
            managers = [{"static_configs": [{"targets": [self.alertmanager]}]}]
            config["alerting"] = {"alertmanagers": managers}
        return config


class AlertmanagerServer(Server):
    """An Alertmanager.

    The server at `STETHOS_TEST_ALERTMANAGER` is used instead when the test configures nothing and stops nothing.

    Args:
        config: Its configuration: a file, or what would be in it; by default alerts are kept and sent nowhere.
        own: Whether it must be a server of our own, because the test stops it.
        folder: Where its data are kept and left; a temporary folder without it.
    """

    def __init__(
        self, config: Mapping[str, Any] | Path | None = None, *, own: bool = False, folder: Path | None = None
    ) -> None:
        external = None if config or own or folder else os.environ.get(ALERTMANAGER_ADDRESS)
        super().__init__("alertmanager", folder=folder, external=external)
        self.config = config or {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
        self.url = self.external.rstrip("/") if self.external else f"http://127.0.0.1:{self.port()}"

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.split("//")[1]

    def prepare(self) -> None:
        """Write the configuration as JSON, which is YAML too."""
        if not isinstance(self.config, Path):
            self._config_path.write_text(json.dumps(self.config, indent=1))

    def command(self) -> Sequence[str]:
        """The server of the Debian package, alone and with its data in the folder."""
        return [
            tool("prometheus-alertmanager", debian_package("prometheus-alertmanager")),
            f"--config.file={self._config_path}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        """Whether the server is ready."""
        return request(f"{self.url}/-/ready", timeout_s=2.0)[0] == 200

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts it holds."""
        return list(request_json(f"{self.url}/api/v2/alerts"))

    def post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Send it alerts as Prometheus does, each with `labels` and what else the interface allows."""
        request_json(f"{self.url}/api/v2/alerts", list(alerts))

    @property
    def _config_path(self) -> Path:
        return self.config.resolve() if isinstance(self.config, Path) else self.folder / "alertmanager.yml"
