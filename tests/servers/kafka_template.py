"""What every Kafka node of the tests has in common, made once, so that a node starts in half the time.

A formatted data folder differs from another only in its identities, and most of the Java machine's start is loading the
same classes: the template holds the one and an archive of the other.
"""

import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from .build import POM, kafka_jars
from .cache import SERVERS, ServerError, built, tool

_CHECKPOINT = "bootstrap.checkpoint"
_CLASSES = "classes.jsa"
_LOGGING = SERVERS / "kafka" / "log4j2.properties"


def template() -> Path:
    """The folder with the template."""
    return built("kafka-template", [POM], _make_template)


def java_command(options: Sequence[str]) -> list[str]:
    """The Java machine with Kafka's classes; what follows is a class and its arguments."""
    java = tool("java", "a Java runtime, version 17 or later")
    return [java, *options, f"-Dlog4j2.configurationFile={_LOGGING}", "-cp", f"{kafka_jars()}/*"]


def class_archive() -> str:
    """The option with which the Java machine finds the archived classes; one that does not fit is passed over."""
    return f"-XX:SharedArchiveFile={template() / _CLASSES}"


def new_id() -> str:
    """A fresh identity as Kafka writes them, 22 characters, none of them a leading dash."""
    return urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def copy_format(data: Path, *, cluster_id: str, node: int) -> None:
    """Make a formatted data folder from the template."""
    data.mkdir()
    shutil.copy(template() / _CHECKPOINT, data)
    identities = {"version": "1", "cluster.id": cluster_id, "node.id": str(node), "directory.id": new_id()}
    (data / "meta.properties").write_text("".join(f"{key}={value}\n" for key, value in identities.items()))


def run_format(
    properties: Path, *, cluster_id: str, mechanism: str = "", users: Mapping[str, str] | None = None
) -> None:
    """Format a data folder with Kafka's own tool, which can store users there.

    Raises:
        ServerError: The tool fails.
    """
    command = [*java_command(("-XX:TieredStopAtLevel=1",)), "kafka.tools.StorageTool", "format"]
    command += ["--cluster-id", cluster_id, "--config", str(properties)]
    for name, password in (users or {}).items():
        command += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
    try:
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except subprocess.CalledProcessError as error:
        raise ServerError(f"Kafka's data folder could not be formatted:\n{error.stdout[-4000:]}") from error


def _make_template(folder: Path) -> None:
    from .kafka import QUICK_START, KafkaServer

    class Trainer(KafkaServer):
        """A node that archives the classes it loaded when it is stopped."""

        stop_s = 120.0

        def java_options(self) -> Sequence[str]:
            return (*QUICK_START, "-Xmx512m", f"-XX:ArchiveClassesAtExit={folder / _CLASSES}")

        def format(self, properties: Path) -> None:
            run_format(properties, cluster_id=new_id())

    with closing(Trainer(own=True)) as trainer:
        trainer.start()
        shutil.copy(trainer.folder / "data" / _CHECKPOINT, folder)
        trainer.stop()
    if not (folder / _CLASSES).exists():
        raise ServerError(f"Kafka's classes could not be archived:\n{trainer.log()[-4000:]}")
