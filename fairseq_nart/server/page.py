"""The page at /: one file, whose script and style the browser runs by their hashes alone."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Page:
    """The page and the headers it needs."""

    html: str
    headers: dict[str, str]


def load() -> Page:
    """Reads the page that the package ships."""
    html = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash_of('script', html)}",
            f"style-src {_hash_of('style', html)}",
            "connect-src 'self'",
            "img-src data:",  # the empty icon
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # Text cannot become markup, not even by a mistake in the script.
            "require-trusted-types-for 'script'",
        ]
    )
    return Page(
        html, {"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin"}
    )


def _hash_of(tag: str, html: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
