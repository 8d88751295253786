"""Stands for Kinfolk where a test asks what nginx sends on: it answers each request with what it saw of it."""

import json
import socket
from threading import Thread
from typing import Any, Self

HEAD_END = b"\r\n\r\n"


class Upstream:
    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.body_bytes = 0
        """How much of bodies has arrived."""

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:  # closed
                return
            Thread(target=self._converse, args=[line], daemon=True).start()

    def _converse(self, line: socket.socket) -> None:
        with line:
            received = b""
            while HEAD_END not in received:
                piece = line.recv(65_536)
                if not piece:
                    return
                received += piece
            head, _, body = received.partition(HEAD_END)
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
            self._take(line, body, int(headers.get("content-length", "0")))
            answer = json.dumps({"request": first, "headers": headers}).encode()
            line.sendall(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
            )

    def _take(self, line: socket.socket, begun: bytes, size: int) -> None:
        taken = len(begun)
        self.body_bytes += taken
        while taken < size and (piece := line.recv(1_048_576)):
            taken += len(piece)
            self.body_bytes += len(piece)

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: Any) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
