"""Builds the servers that no Debian package offers: Kafka from its jars, InfluxDB 2 from its Go sources.

`python -m tests.servers.build kafka influxdb` builds what is missing in the cache folder and is quick when nothing is.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .cache import SERVERS, ServerError, built, tool

POM = SERVERS / "kafka" / "pom.xml"
GO_MOD = SERVERS / "influxdb" / "go.mod"
GO_SUM = SERVERS / "influxdb" / "go.sum"
INFLUXD = "github.com/influxdata/influxdb/v2/cmd/influxd"
PKG_CONFIG = "github.com/influxdata/pkg-config"


def kafka_jars() -> Path:
    """The folder with Kafka's jars."""
    return built("kafka", [POM], _copy_jars)


def influxd() -> Path:
    """The InfluxDB server's binary."""
    return built("influxdb", [GO_MOD, GO_SUM], _build_influxd) / "influxd"


def _copy_jars(folder: Path) -> None:
    tool("java", "a Java runtime, version 17 or later")
    maven = tool("mvn", "Maven")
    arguments = ["-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    _run([maven, *arguments, "-DincludeScope=runtime"])


def _build_influxd(folder: Path) -> None:
    go = tool("go", "Go 1.25 or later")
    tool("gcc", "a C compiler")
    tool("cargo", "Rust 1.83 or later, in which InfluxDB's query language is written")
    pkg_config = folder / "pkg-config"
    environment = {**os.environ, "CGO_ENABLED": "1", "GOFLAGS": "-mod=readonly -buildvcs=false", **_installed_rust()}
    environment["PKG_CONFIG"] = str(pkg_config)
    module = str(GO_MOD.parent)
    build = [go, "build", "-C", module, "-p", os.environ.get("STETHOS_BUILD_JOBS", "2")]
    _run([*build, "-o", str(pkg_config), PKG_CONFIG], environment)
    tags = "sqlite_foreign_keys,sqlite_json"
    _run([*build, "-tags", tags, "-ldflags", "-s -w", "-o", str(folder / "influxd"), INFLUXD], environment)
    pkg_config.unlink()


def _installed_rust() -> Mapping[str, str]:
    """Keeps rustup at the toolchain that is installed; the query language's sources ask it for another one."""
    try:
        answer = subprocess.run(["rustup", "default"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"RUSTUP_TOOLCHAIN": answer.split()[0]} if answer.strip() else {}


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a build step at low priority, its output shown only when it fails."""
    try:
        subprocess.run(
            ["nice", *command], env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except subprocess.CalledProcessError as error:
        raise ServerError(f"'{Path(command[0]).name}' failed:\n{error.stdout[-4000:]}") from error


def main(names: list[str]) -> int:
    """Build the named servers and say where they are.

    Args:
        names: Some of `kafka` and `influxdb`.

    Returns:
        The exit status: 0, or 1 when a server could not be built.
    """
    from .kafka_template import template

    builders = {"kafka": template, "influxdb": influxd}
    for name in names:
        start = time.monotonic()
        try:
            path = builders[name]()
        except ServerError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(f"{name}: {path} ({time.monotonic() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
