"""One Kafka request written by hand, because clients log every failed attempt while a broker starts."""

import socket
import struct
from typing import BinaryIO


def known_brokers(address: str) -> int:
    """How many brokers a node names in its answer to a metadata request.

    Args:
        address: Host and port of a listener without encryption and users.

    Raises:
        OSError: There was no answer.
    """
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=2.0) as connection, connection.makefile("rb") as stream:
        # Metadata (3) in version 4, correlation 1, a client without a name; about no topics, creating none
        request = struct.pack(">hhihi?", 3, 4, 1, -1, 0, False)
        connection.sendall(struct.pack(">i", len(request)) + request)
        size = struct.unpack(">i", _read(stream, 4))[0]
        _correlation, _throttled_ms, brokers = struct.unpack_from(">iii", _read(stream, size))
    return int(brokers)


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ConnectionError("the broker closed the connection")
    return data
