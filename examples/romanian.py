"""Changes Romanian letters, from standard input to standard output.

    python romanian.py normalise < text.ro    # s and t get a comma below, not a cedilla
    python romanian.py remove < text.ro       # no diacritics at all

Texts mix both forms of these letters, and published BLEU is often computed without diacritics.
"""

import argparse
import sys
import unicodedata

LETTERS = {
    "normalise": str.maketrans("şţŞŢ", "șțȘȚ"),
    "remove": str.maketrans("şţŞŢșțȘȚăâîĂÂÎ", "stSTstSTaaiAAI"),
}


def changed(line: str, change: str) -> str:
    """The line with the letters of a `change` replaced, also if they are several characters."""
    return unicodedata.normalize("NFC", line).translate(LETTERS[change])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("change", choices=LETTERS)
    options = parser.parse_args()
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8", newline="\n")
    for line in sys.stdin:
        sys.stdout.write(changed(line, options.change))
