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
    answer = json.loads(response.read())
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status}: {answer['error']}")
    return [one["text"] for one in answer["translations"]]


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


def main() -> int:
    """Returns 1 if there was an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="such as http://127.0.0.1:8000")
    parser.add_argument("file", type=Path, help="text, one sentence per line")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--lines", type=int, default=4, help="most lines of a request (default: 4)")
    parser.add_argument("--sentences", type=int, default=200, help="of the file (default: 200)")
    options = parser.parse_args()

    text = options.file.read_text("utf-8").removesuffix("\n").split("\n")[: options.sentences]
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
