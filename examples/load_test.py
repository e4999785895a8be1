#!/usr/bin/env python3
"""Asks a server of `fairseq-nart serve` with many clients at once, and checks every answer.

Example: python examples/load_test.py http://127.0.0.1:8000 text.de --clients 32 --seconds 10
"""

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Tally:
    """What one client saw."""

    seconds: list[float] = field(default_factory=list)
    lines: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def translate(connection: http.client.HTTPConnection, lines: list[str]) -> list[str]:
    """The translations of `lines`. OSError or HTTPException says why there are none."""
    body = json.dumps({"lines": lines})
    connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    try:
        answer = json.loads(content)
        if response.status == 200:
            return [one["text"] for one in answer["translations"]]
        reason = answer["error"]
    except (ValueError, KeyError, TypeError):
        reason = "not an answer of fairseq-nart serve"
    raise http.client.HTTPException(f"status {response.status}: {reason}")


def ask(address: str, alone: dict[str, str], most: int, until: float, seed: int) -> Tally:
    """Sends requests of 1 to `most` lines until then; `alone` holds the right answers."""
    tally, choice, sources = Tally(), random.Random(seed), list(alone)
    connection = http.client.HTTPConnection(address, timeout=60)
    while time.monotonic() < until:
        lines = choice.choices(sources, k=choice.randint(1, most))
        begin = time.monotonic()
        try:
            answers = translate(connection, lines)
        except (OSError, http.client.HTTPException) as error:
            tally.errors[str(error) or type(error).__name__] += 1
            connection.close()
            continue
        tally.seconds.append(time.monotonic() - begin)
        tally.lines += len(lines)
        if answers != [alone[line] for line in lines]:
            tally.errors["another answer than alone"] += 1
    connection.close()
    return tally


def lines_of(file: Path) -> list[str]:
    """The lines of a text. Ends the program with a message if it is not one."""
    try:
        content = file.read_bytes()
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except OSError as error:
        sys.exit(str(error))
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        sys.exit(f"{file}, line {number} is not UTF-8")
    return [line.removesuffix("\r") for line in lines]


def amount(word: str) -> int:
    """A number from 1. ValueError for others."""
    if (number := int(word)) < 1:
        raise ValueError
    return number


def duration(word: str) -> float:
    """A number above 0. ValueError for others."""
    if not 0 < (number := float(word)) < threading.TIMEOUT_MAX:
        raise ValueError
    return number


def main() -> int:
    """Returns 1 if there was an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="such as http://127.0.0.1:8000")
    parser.add_argument("file", type=Path, help="text, one sentence per line")
    parser.add_argument("--clients", type=amount, default=32)
    parser.add_argument("--seconds", type=duration, default=10)
    parser.add_argument(
        "--lines", type=amount, default=4, help="most lines of a request (default: 4)"
    )
    parser.add_argument("--sentences", type=amount, default=200, help="of the file (default: 200)")
    options = parser.parse_args()

    text = lines_of(options.file)[: options.sentences]
    where = urlsplit(options.address).netloc
    if not where:
        parser.error(f"{options.address} is no address: give one such as http://127.0.0.1:8000")
    connection = http.client.HTTPConnection(where, timeout=60)
    try:
        alone = {line: translate(connection, [line])[0] for line in text}
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"{options.address} does not translate ({error}): is it running?")
    connection.close()

    tallies: list[Tally] = []
    until = time.monotonic() + options.seconds

    def client(seed: int) -> None:
        tallies.append(ask(where, alone, options.lines, until, seed))

    threads = [threading.Thread(target=client, args=[n]) for n in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    seconds = sorted(second for tally in tallies for second in tally.seconds)
    lines = sum(tally.lines for tally in tallies)
    errors = sum((tally.errors for tally in tallies), Counter[str]())
    print(f"requests  {len(seconds)}, {len(seconds) / options.seconds:.1f} per second")
    print(f"lines     {lines}, {lines / options.seconds:.1f} per second")
    for share in (50, 95, 99) if seconds else ():
        at = seconds[min(len(seconds) * share // 100, len(seconds) - 1)]
        print(f"p{share}       {at * 1000:.1f} ms")
    print(f"errors    {errors.total()}")
    for reason, count in errors.most_common(5):
        print(f"  {count} times: {reason}")
    return 1 if errors or len(tallies) < options.clients else 0


if __name__ == "__main__":
    sys.exit(main())
