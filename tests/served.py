"""A server with a model, in a thread, and a client that does what no browser would."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from fairseq_nart.server import running
from fairseq_nart.server.app import application
from fairseq_nart.server.limits import Limits

JSON = {"Content-Type": "application/json"}


class Client:
    """One connection, kept alive; opened again where the server closed it."""

    def __init__(self, address: str) -> None:
        self.address = address
        where = urlsplit(address)
        self.host, self.port = where.hostname, where.port
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=60)

    def send(self, method, path, body=None, headers=()):
        """(status, headers, body)"""
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            return response.status, response.headers, response.read()
        except BaseException:
            self.close()
            raise

    def get(self, path, **headers):
        return self.send("GET", path, headers=headers)

    def post(self, path, content):
        """(status, answer)"""
        status, headers, body = self.send("POST", path, json.dumps(content), JSON)
        assert headers["Content-Type"] == "application/json"
        return status, json.loads(body)

    def translate(self, lines):
        """Their translations."""
        status, answer = self.post("/translate", {"lines": lines})
        assert status == 200, answer
        return [translation["text"] for translation in answer["translations"]]

    def raw(self, data: bytes, end: bool = True) -> bytes:
        """What the server sends back to these bytes until it closes the connection."""
        with socket.create_connection((self.host, self.port), timeout=60) as connection:
            received = b""
            with contextlib.suppress(OSError):  # the server may close it at any time
                connection.sendall(data)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while more := connection.recv(1 << 16):
                    received += more
            return received

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def served(model, names=(), **limits) -> Iterator[Client]:
    """A client of a server that runs during the block."""
    listening = running.listen("127.0.0.1", 0)
    server = running.server_of(application(model, Limits(**limits), names))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    client = Client(running.address_of(listening))
    try:
        yield client
    finally:
        client.close()
        server.should_exit = True
        thread.join()
