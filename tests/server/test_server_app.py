"""What each route answers, and to whom."""

import base64
import hashlib
import json
import re

import pytest
from fake_model import FakeModel, expected
from served import JSON, served

from fairseq_nart.server import bodies


def error_of(answer):
    """The status of a refusal and its reason."""
    status, headers, body = answer
    assert headers["Content-Type"] == "application/json"
    (said,) = json.loads(body).items()
    assert said[0] == "error" and said[1]
    return status, said[1]


def test_translations_keep_order_and_number(client):
    lines = ["ein langer Satz mit vielen Wörtern", "", "b a", "  ", "ein  Satz\r", "c\u2028b a"]
    status, answer = client.post("/translate", {"lines": lines})
    assert status == 200 and answer.keys() == {"translations", "milliseconds"}
    assert [one["text"] for one in answer["translations"]] == [expected(line) for line in lines]
    assert answer["translations"][1] == {"text": "", "score": 0.0, "alternatives": []}
    assert answer["translations"][2] == {
        "text": "a b",
        "score": -0.5,
        "alternatives": [{"text": "A B", "score": -1.25}, {"text": "impossible", "score": None}],
    }
    assert answer["milliseconds"] > 0
    assert client.post("/translate", {"lines": []})[1]["translations"] == []


REFUSALS = {
    "no JSON": (b"{", 400, "not JSON"),
    "empty": (b"", 400, "not JSON"),
    "Latin-1": ('{"lines": ["für"]}'.encode("latin-1"), 400, r"not UTF-8 \(byte 14\)"),
    "UTF-16": ('{"lines": ["a"]}'.encode("utf-16"), 400, "not UTF-8"),
    "levels": (b"[" * 100_000, 400, "not JSON of a few levels"),
    "long number": (b"1" * 10_000, 400, "not JSON"),
    "list": (b'["a"]', 400, "must be"),
    "text for lines": (b'{"lines": "a"}', 400, "must be"),
    "unknown field": (b'{"lines": ["a"], "beam": 4}', 400, "must be"),
    "number": (b'{"lines": ["a", 1]}', 400, "line 2 is not a string"),
    "null": (b'{"lines": [null]}', 400, "line 1 is not a string"),
    "line feed": (b'{"lines": ["a\\nb"]}', 400, "line 1 holds a line feed"),
    "surrogate": (b'{"lines": ["a", "b\\ud800"]}', 400, "line 2 .* surrogate, character 2"),
    "many lines": (json.dumps({"lines": ["a"] * 257}).encode(), 413, "257 lines; at most 256"),
    "long line": (json.dumps({"lines": ["ä" * 2001]}).encode(), 413, "2001 char.* at most 2000"),
    "long body": (b" " * ((1 << 20) + 1), 413, "1048577 bytes; at most 1048576"),
    "mistake": (b'{"lines": ["a", "POISON"]}', 400, "'POISON' is bad"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case, client):
    body, status, said = REFUSALS[case]
    refused, reason = error_of(client.send("POST", "/translate", body, JSON))
    assert refused == status and re.search(said, reason), reason
    assert client.translate(["b a"]) == ["a b"]


def test_a_sender_of_far_too_much_is_told(client):
    """The server reads on: a client that still sends would see a failed connection instead."""
    status, reason = error_of(client.send("POST", "/translate", bytes(30 << 20), JSON))
    assert status == 413 and "31457280 bytes" in reason


def test_largest_that_is_allowed(client):
    lines = ["a" * 2000] * 256
    assert client.translate(lines) == lines
    padded = b'{"lines": ["b a"]}'.ljust(1 << 20)
    assert client.send("POST", "/translate", padded, JSON)[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
def test_content_types(kind, client):
    body = b'{"lines": ["b a"]}'
    refused = client.send("POST", "/translate", body, {"Content-Type": kind})
    assert error_of(refused)[0] == 415
    typed = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.send("POST", "/translate", body, typed)[0] == 200


def test_unknown_paths_and_methods(client):
    assert error_of(client.get("/nothing"))[0] == 404
    assert error_of(client.get("/translate"))[0] == 405
    assert error_of(client.send("POST", "/health"))[0] == 405
    assert error_of(client.send("OPTIONS", "/translate"))[0] == 405


def test_a_fault_is_answered_and_logged(client, caplog):
    status, answer = client.post("/translate", {"lines": ["BUG"]})
    assert (status, answer) == (500, {"error": "the server failed: its log says why"})
    assert client.translate(["b a"]) == ["a b"]  # by now it is logged
    assert "ZeroDivisionError" in caplog.text


def test_slow_bodies_are_cut_off(client, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    head = b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = client.raw(head + b'Content-Length: 20\r\n\r\n{"lines"', end=False)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"longer than 0.1 seconds" in answer


def test_lattice(client):
    status, answer = client.post("/lattice", {"line": "ein Satz"})
    assert status == 200
    assert answer["tokens"] == [
        [f"▁{word}{'+' * c}" for c in range(6)] for word in ("Satz", "ein", "</s>")
    ]
    assert answer["emissions"][0][-1] is None  # JSON has no infinity
    assert len(answer["transitions"]) == 2 and len(answer["transitions"][0][0]) == 6
    assert answer["viterbi"] == {"columns": [0, 1, 1], "text": "Satz ein", "log_prob": -2.25}
    assert answer["differing"] == [1, 2] and answer["candidates"] == 64
    for body, said in ((b'{"line": ""}', "empty"), (b'{"lines": ["a"]}', "must be")):
        status, reason = error_of(client.send("POST", "/lattice", body, JSON))
        assert status == 400 and said in reason


def test_a_model_without_crf_has_no_lattice():
    with served(FakeModel(has_crf=False)) as client:
        refused = client.send("POST", "/lattice", b'{"line": "a"}', JSON)
        assert error_of(refused) == (404, "fake has no CRF, so it has no lattice")
        assert json.loads(client.get("/health")[2])["crf"] is False


def test_health(client):
    assert json.loads(client.get("/health")[2]) == {
        "status": "ok",
        "model": "fake",
        "system": "nart_dcrf",
        "source": "de",
        "target": "en",
        "crf": True,
    }


def metrics_of(client):
    """{sample: value}; each is of a type that a line before it names."""
    status, headers, body = client.get("/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples, types = {}, {}
    for line in body.decode().splitlines():
        if kind := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            types[kind[1]] = kind[2]
        elif not re.fullmatch(r"# HELP \w+ .+\.", line):
            label = r'\w+="[^"\\\n]*"'
            name, sample, value = re.fullmatch(
                rf"((\w+)(?:\{{{label}(?:,{label})*\}})?) (\S+)", line
            ).groups()
            assert sample in types or re.sub("_(bucket|sum|count)$", "", sample) in types
            samples[name] = float(value)
    return samples


def test_metrics():
    with served(FakeModel()) as client:
        client.translate(["a", "b c", ""])
        client.post("/translate", {})
        client.get("/translate/../../etc/passwd")
        client.get("/health", Host="evil.example")
        samples = metrics_of(client)
        assert 'fairseq_nart_requests_total{path="/metrics",status="200"}' not in samples
        for path, status in (
            ("/translate", 200),
            ("/translate", 400),
            ("other", 404),
            ("/health", 403),
        ):
            name = f'fairseq_nart_requests_total{{path="{path}",status="{status}"}}'
            assert samples[name] == 1
        assert samples["fairseq_nart_lines_total"] == 3
        assert samples["fairseq_nart_waiting"] == 0
        assert samples['fairseq_nart_batch_lines_bucket{le="2"}'] == 0
        assert samples['fairseq_nart_batch_lines_bucket{le="4"}'] == 1
        assert samples["fairseq_nart_batch_lines_sum"] == 3
        for name in ("translate_seconds", "batch_lines"):
            buckets = [v for k, v in samples.items() if k.startswith(f"fairseq_nart_{name}_bucket")]
            assert buckets == sorted(buckets)
            assert buckets[-1] == samples[f"fairseq_nart_{name}_count"] == 1
        assert metrics_of(client)['fairseq_nart_requests_total{path="/metrics",status="200"}'] == 1


def test_page_runs_only_its_own_script(client):
    status, headers, body = client.get("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), body, re.S)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(rb"innerHTML|insertAdjacentHTML|document\.write| on\w+=|style=", body)
    assert set(re.findall(rb"https?://[\w.]+", body)) == {
        b"http://www.w3.org"
    }  # a name, not fetched
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Server"] is None


ADDRESS = "localhost:8000"
HOSTS = {
    **dict.fromkeys(["localhost", ADDRESS, "127.0.0.1:1", "[::1]:8000", "192.168.1.5"], 200),
    **dict.fromkeys(["named.example", "NAMED.example:80", "[::1]"], 200),
    **dict.fromkeys(["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"], 403),
    **dict.fromkeys(["evil.example:8000", "[evil]", "a:b:c", "", "localhost@evil.example"], 403),
}
ORIGINS = {
    (ADDRESS, f"http://{ADDRESS}"): 200,
    ("localhost", "http://localhost"): 200,
    ("localhost:80", "http://localhost"): 200,
    ("named.example", "https://named.example"): 200,  # behind a proxy
    ("[::1]:8000", "http://[::1]:8000"): 200,
    (ADDRESS, "http://localhost"): 403,
    (ADDRESS, "http://localhost:8001"): 403,
    (ADDRESS, "http://127.0.0.1:8000"): 403,
    (ADDRESS, "http://evil.example"): 403,
    (ADDRESS, f"http://{ADDRESS}.evil.example"): 403,
    (ADDRESS, "null"): 403,
    (ADDRESS, ""): 403,
    (ADDRESS, "http://["): 403,
    (ADDRESS, f"file://{ADDRESS}"): 403,
}


@pytest.mark.parametrize("host", HOSTS)
def test_names_of_the_server(host, client):
    answer = client.get("/health", Host=host)
    assert answer[0] == HOSTS[host]
    if answer[0] == 403:
        assert "--allowed-host" in error_of(answer)[1]


@pytest.mark.parametrize(("host", "origin"), ORIGINS)
def test_pages_of_other_sites(host, origin, client):
    headers = {**JSON, "Host": host, "Origin": origin}
    answer = client.send("POST", "/translate", b'{"lines": ["b a"]}', headers)
    assert answer[0] == ORIGINS[host, origin]
    assert not any(name.startswith("access-control") for name in map(str.lower, answer[1]))
    if answer[0] == 403:
        assert "other sites" in error_of(answer)[1]
