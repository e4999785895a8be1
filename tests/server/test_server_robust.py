"""Malformed and cut requests, many clients, and the end under load."""

import concurrent.futures
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_model import FakeModel, expected, patch
from served import JSON, Client, served

from fairseq_nart import runtime
from fairseq_nart.cli import main
from fairseq_nart.server import running
from fairseq_nart.tools.serve import NO_SERVER

HEAD = b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD = b'{"lines": ["b a"]}'


def json_value(choice, depth=0):
    """Any JSON value, with the request's own words among others."""
    kind = choice.randrange(8 if depth < 4 else 6)
    if kind < 6:
        words = ["lines", "", "a b", "\ud800", "a\nb", "POISON", "BUG", "x" * 3000]
        scalars = [None, True, -1, 1e999, 10**30, *words]
        return choice.choice(scalars)
    values = [json_value(choice, depth + 1) for _ in range(choice.randrange(5))]
    return values if kind == 6 else {choice.choice(["lines", "line", "x"]): v for v in values}


def malformed(choice):
    """A body that is most likely no request."""
    match choice.randrange(4):
        case 0:
            return choice.randbytes(choice.randrange(200))
        case 1:
            body = bytearray(GOOD)
            for _ in range(choice.randrange(1, 4)):
                body[choice.randrange(len(body))] = choice.randrange(256)
            return bytes(body)
        case 2:
            return GOOD[: choice.randrange(len(GOOD))]
    return json.dumps(choice.choice([{"lines": json_value(choice)}, json_value(choice)])).encode()


def test_a_thousand_malformed_requests(client):
    choice = random.Random(1)
    statuses = set()
    for _ in range(1000):
        body = malformed(choice)
        kind = choice.choice([*["application/json"] * 9, "text/html"])
        path = choice.choice([*["/translate"] * 4, "/lattice"])
        status, headers, answer = client.send("POST", path, body, {"Content-Type": kind})
        statuses.add(status)
        assert headers["Content-Type"] == "application/json"
        content = json.loads(answer)
        if status == 200 and path == "/translate":
            texts = [one["text"] for one in content["translations"]]
            assert texts == list(map(expected, json.loads(body)["lines"]))
        elif status != 200:
            assert status in (400, 413, 415) or (status == 500 and b"BUG" in body), (status, body)
            assert list(content) == ["error"] and isinstance(content["error"], str)
    assert statuses >= {200, 400, 413, 415, 500}
    assert client.translate(["b a"]) == ["a b"]


CUT = {
    "nothing": b"",
    "half a line": b"POST /trans",
    "half a head": HEAD[:60],
    "head alone": HEAD + b"Content-Length: 18\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 18\r\n\r\n" + GOOD[:9],
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n12\r\n" + GOOD[:9],
    "length too long": HEAD + b"Content-Length: 99\r\n\r\n" + GOOD,
    "length too short": HEAD + b"Content-Length: 9\r\n\r\n" + GOOD,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + GOOD,
    "huge length": HEAD + b"Content-Length: 9" + b"9" * 30 + b"\r\n\r\n" + GOOD,
    "two lengths": HEAD + b"Content-Length: 18\r\nContent-Length: 9\r\n\r\n" + GOOD,
    "length and chunks": HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" + GOOD,
    "bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + GOOD,
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "endless head": HEAD + b"X: " + b"x" * 200_000,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
}


INCOMPLETE = ("nothing", "head alone", "length too long", "length and chunks")


@pytest.mark.parametrize("end", [True, False], ids=["closed", "left open"])
@pytest.mark.parametrize("case", CUT)
def test_cut_requests(case, end, client):
    """No translation of what was not all there; the next client is served."""
    waits = case in INCOMPLETE or case.startswith("half")
    if waits and not end:  # for the rest; meanwhile others are served
        with socket.create_connection((client.host, client.port)) as connection:
            connection.sendall(CUT[case])
            assert client.translate(["b a"]) == ["a b"]
        return
    received = client.raw(CUT[case], end)
    assert b'"translations"' not in received
    assert all(status[:1] == b"4" for status in received.split(b"HTTP/1.1 ")[1:]), received
    assert client.translate(["b a"]) == ["a b"]


def test_random_bytes_instead_of_http(client):
    choice = random.Random(2)
    for _ in range(100):
        data = choice.randbytes(choice.randrange(1, 300))
        data = choice.choice([data, HEAD + data, HEAD + b"Content-Length: 40\r\n\r\n" + data])
        assert b'"translations"' not in client.raw(data)
    assert client.translate(["b a"]) == ["a b"]


def test_thirty_two_clients():
    """Every answer is right, and none is lost."""
    until = time.monotonic() + 3

    def ask(number):
        choice, count = random.Random(number), 0
        mine = Client(client.address)
        while time.monotonic() < until:
            lines = [
                f"{number} {count} {k} " + "x " * choice.randrange(9) for k in range(count % 5)
            ]
            assert mine.translate(lines) == [expected(line) for line in lines]
            count += 1
        mine.close()
        return count

    model = FakeModel(seconds=0.002)
    with served(model) as client, concurrent.futures.ThreadPoolExecutor(32) as pool:
        counts = list(pool.map(ask, range(32)))
        assert min(counts) > 0
        metrics = client.get("/metrics")[2].decode()
    answered = f'fairseq_nart_requests_total{{path="/translate",status="200"}} {sum(counts)}\n'
    assert answered in metrics
    assert max(map(len, model.batches)) > 5  # they were joined


def test_too_many_waiting_are_told_to_come_back():
    with served(FakeModel(seconds=0.3), waiting=2) as client:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:

            def ask(_):
                mine = Client(client.address)
                try:
                    return mine.send("POST", "/translate", GOOD, JSON)
                finally:
                    mine.close()

            answers = list(pool.map(ask, range(8)))
        statuses = sorted(status for status, *_ in answers)
        assert statuses[0] == 200 and statuses[-1] == 503
        for status, headers, body in answers:
            if status == 503:
                assert headers["Retry-After"] and "(at most 2)" in json.loads(body)["error"]
        assert client.translate(["b a"]) == ["a b"]


class Program:
    """`fairseq-nart serve` with the fake model, in a process of its own."""

    def __init__(self, *options):
        words = [sys.executable, str(Path(__file__).with_name("fake_model.py")), *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said = [self.process.stdout.readline() for _ in range(2)]

    @property
    def address(self):
        return self.said[1].split()[1]

    def end(self, number):
        """(exit code, standard error) after the signal."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_under_load(number):
    """A client gets its whole answer or a failed connection; then the port is free again."""
    program = Program("--port", "0")
    assert program.said[0] == "model: fake (a small demo model; give a folder to serve yours)\n"
    counts = []

    def ask(thread):
        client, count = Client(program.address), 0
        try:
            while True:
                lines = [f"{thread} {count} {k}" for k in range(10)]
                assert client.translate(lines) == [expected(line) for line in lines]
                count += 1
        except http.client.IncompleteRead:
            raise
        except (OSError, http.client.RemoteDisconnected):
            return count
        finally:
            client.close()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(ask, thread) for thread in range(16)]
        watch = Client(program.address)
        while b'path="/translate",status="200"} ' not in watch.get("/metrics")[2]:
            time.sleep(0.05)
        watch.close()
        time.sleep(0.3)
        assert program.end(number) == (0, "")
        counts = [client.result(60) for client in clients]
    assert sum(counts) > 16
    port = program.address.rpartition(":")[2]
    again = Program("my_model", "--port", port)
    try:
        assert again.said[0] == "model: fake\n"
        client = Client(again.address)
        assert client.translate(["b a"]) == ["a b"]
        client.close()
    finally:
        assert again.end(signal.SIGTERM) == (0, "")


@pytest.fixture
def faked(monkeypatch):
    """The runtime loads the fake model."""
    for name in ("load", "demo_folder"):
        monkeypatch.setattr(runtime, name, getattr(runtime, name))
    patch(runtime)


ADDRESSES = {
    ("--port", "70000"): "--port must be 0 to 65535, not 70000",
    ("--port", "-1"): "--port must be 0 to 65535, not -1",
    ("--host", "nowhere.invalid"): "--host nowhere.invalid --port 8000: ",
    ("--host", "192.0.2.1"): "--host 192.0.2.1 --port 8000: Cannot assign requested address: give",
    ("--max-lines", "0"): "--max-lines must be at least 1, not 0",
}


@pytest.mark.parametrize("options", ADDRESSES, ids=" ".join)
def test_mistaken_options(options, capsys, faked):
    assert main(["serve", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"fairseq-nart serve: {ADDRESSES[options]}") and error.count("\n") == 1


def test_the_socket():
    """After a stop the port is free at once, and answers are sent at once (asyncio)."""
    with running.listen("127.0.0.1", 0) as listening:
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert listening.proto == socket.IPPROTO_TCP
        assert running.address_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_port_in_use(capsys, faked):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == 1
    error = capsys.readouterr().err
    assert error == f"fairseq-nart serve: port {port} is in use: give another as --port\n"


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_without_the_extra(name):
    code = f"import sys; sys.modules[{name!r}] = None; from fairseq_nart.cli import main\n"
    words = [sys.executable, "-c", f"{code}sys.exit(main(['serve']))"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"fairseq-nart serve: {NO_SERVER}\n")


def test_neither_torch_nor_fairseq_is_loaded():
    code = "import sys, fake_model, fairseq_nart.server.app, fairseq_nart.server.running\n"
    code += "assert not {'torch', 'fairseq'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
