"""Eclipse Mosquitto, an MQTT 5 broker."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from .cache import debian_package, tool
from .certificates import Certificates, make_certificates
from .process import Server


class MosquittoServer(Server):
    """A broker on a free port.

    Args:
        users: Names and passwords; without any, nobody has to say who they are.
        may: For each user, the topics that it may write to and read, wildcards allowed; without it, all.
        tls: Whether the connection is encrypted, with certificates made for the test.
        folder: Where its data are kept and left; a temporary folder without it.
    """

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        may: Mapping[str, Sequence[str]] | None = None,
        tls: bool = False,
        folder: Path | None = None,
    ) -> None:
        super().__init__("mosquitto", folder=folder)
        self._users, self._may = dict(users or {}), may
        self.certificates: Certificates | None = None
        if tls:
            self.certificates = make_certificates(self.folder / "certificates")
        self.tcp_port = self.port()

    def prepare(self) -> None:
        """Write configuration, passwords and rights."""
        lines = [f"listener {self.tcp_port} 127.0.0.1", f"allow_anonymous {str(not self._users).lower()}"]
        if self._users:
            passwords = self.folder / "passwords"
            passwords.write_text("".join(f"{name}:{word}\n" for name, word in self._users.items()))
            passwords.chmod(0o600)
            command = [tool("mosquitto_passwd", debian_package("mosquitto")), "-U", str(passwords)]
            subprocess.run(command, check=True, capture_output=True)
            lines.append(f"password_file {passwords}")
        if self._may is not None:
            rights = self.folder / "rights"
            words = [(name, topic) for name, topics in self._may.items() for topic in topics]
            rights.write_text("".join(f"user {name}\ntopic readwrite {topic}\n" for name, topic in words))
            rights.chmod(0o600)
            lines.append(f"acl_file {rights}")
        if self.certificates is not None:
            lines += [f"certfile {self.certificates.server}", f"keyfile {self.certificates.server_key}"]
        # started by root, it would otherwise give its rights up and could not read the folder
        lines += ["user root", "persistence false"]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str]:
        """The broker of the Debian package."""
        found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # not in everybody's path
        return [found or tool("mosquitto", debian_package("mosquitto")), "-c", str(self.folder / "mosquitto.conf")]

    def is_ready(self) -> bool:
        """Whether the broker answers, if only to refuse."""
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5, reconnect_on_failure=False)
        if self.certificates is not None:
            client.tls_set(str(self.certificates.ca))
        answered: list[object] = []
        client.on_connect = lambda *_: answered.append(True)
        client.connect("127.0.0.1", self.tcp_port)
        for _ in range(20):
            if answered or client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        client.disconnect()
        return bool(answered)
