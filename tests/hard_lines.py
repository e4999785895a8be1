"""Lines that no corpus should hold and that some do, and random ones like them."""

import random

WORDS = ["heute", "muss", "der", "mann", "lesen", "die", "frau", ".", "morgen"]

HARD = {
    "empty": b"",
    "blank": b" \t  ",
    "NUL": b"der\0mann \0 lesen",
    "only NUL": b"\0",
    "carriage return at the end": b"der mann\r",
    "carriage return inside": b"der\rmann",
    "byte order mark": b"\xef\xbb\xbfder mann",
    "where Python splits lines": "der\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029mann".encode(),
    "lone surrogates in UTF-8": b"der \xed\xa0\x80\xed\xb0\x80 mann",
    "not UTF-8": b"\xff\xfe der \xc3",
    "overlong": b"\xc0\xaf\xf8\x88\x80\x80\x80",
    "UTF-16": "der mann".encode("utf-16-le"),
    "right to left": "\u202e\u05d0\u05d1 \u0627\u0644\u200f mann".encode(),
    "combining marks": ("e" + "\u0301" * 300 + " mann").encode(),
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f466 \U0001f1e9\U0001f1ea mann".encode(),
    "special tokens": b"<s> <pad> </s> <unk> <mask> <<unk>> mann </s>",
    "unknown words": b"xyzzy plugh " * 9,
    "noncharacters": "\ufdd0 \uffff \U0010ffff".encode(),
    "pieces": "\u2581 \u2581\u2581der @@ mann@@ <0x0A>".encode(),
    "other spaces": "der\u00a0mann\u3000lesen\u200bdie\u2003frau".encode(),
    "markup": b'{"a": "<b>\'%s\\n" & S-0\tH-0\t-1.0\tder',
    "one long word": b"x" * 50_000,
}
"""Lines without their line feed, by name."""

LONG = b"der mann muss lesen . " * 20_000
"""100,000 tokens."""


def plain(choice: random.Random) -> bytes:
    """A line of known words."""
    return " ".join(choice.choices(WORDS, k=choice.randrange(1, 9))).encode()


def random_lines(seed: int, count: int) -> list[bytes]:
    """`count` lines: hard ones, two of 100,000 tokens, random bytes and characters, and plain."""
    choice = random.Random(seed)

    def line() -> bytes:
        match choice.randrange(6):
            case 0:
                return choice.choice(list(HARD.values()))
            case 1:
                return choice.randbytes(choice.randrange(60)).replace(b"\n", b"")
            case 2:
                numbers = (choice.randrange(0x110000) for _ in range(choice.randrange(30)))
                text = "".join(map(chr, numbers))
                return text.encode("utf-8", "surrogatepass").replace(b"\n", b"")
            case 3:
                parts = [plain(choice), choice.choice(list(HARD.values())), plain(choice)]
                return b" ".join(parts)
        return plain(choice)

    lines = [line() for _ in range(count)]
    for place in choice.sample(range(count), 2 if count > 500 else 1):
        lines[place] = LONG
    return lines
