"""A small HTTP server with answers prepared: what a real one says only when it is in trouble."""

import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Answering:
    """A server that gives the listed answers, one after another."""

    def __init__(self, answers: Sequence[tuple[int, dict[str, str]]], port: int = 0) -> None:
        left = list(answers)

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = left.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.web = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self.url = f"http://127.0.0.1:{self.web.server_port}"
        self.thread = threading.Thread(target=self.web.serve_forever)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.web.shutdown()
        self.thread.join()
        self.web.server_close()
