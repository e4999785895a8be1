"""Reads the bodies of requests. Invalid ones are refused with one sentence that says why."""

import asyncio
import json

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fairseq_nart.server.limits import Limits

BODY_SECONDS = 10
"""A slower sender is cut off."""


async def read_lines(request: Request, limits: Limits) -> list[str]:
    """The lines of `{"lines": [...]}`. HTTPException with status and reason for anything else."""
    match await _read_json(request, limits.body):
        case {"lines": [*lines], **others} if not others:
            pass
        case _:
            raise HTTPException(400, 'the body must be {"lines": ["a line", "another line"]}')
    if len(lines) > limits.lines:
        raise HTTPException(413, f"{len(lines)} lines; at most {limits.lines} are allowed")
    return [_checked(line, f"line {n}", limits) for n, line in enumerate(lines, 1)]


async def read_line(request: Request, limits: Limits) -> str:
    """The line of `{"line": "..."}`. HTTPException with status and reason for anything else."""
    match await _read_json(request, limits.body):
        case {"line": line, **others} if not others:
            return _checked(line, "the line", limits)
    raise HTTPException(400, 'the body must be {"line": "a line"}')


def _checked(line: object, name: str, limits: Limits) -> str:
    if not isinstance(line, str):
        raise HTTPException(400, f"{name} is not a string: put it in quotes")
    if len(line) > limits.characters:
        raise HTTPException(
            413, f"{name} has {len(line)} characters; at most {limits.characters} are allowed"
        )
    if "\n" in line:
        raise HTTPException(400, f"{name} holds a line feed: send several lines")
    try:
        line.encode()
    except UnicodeEncodeError as error:
        where = f"character {error.start + 1}"
        raise HTTPException(400, f"{name} is not valid Unicode (lone surrogate, {where})") from None
    return line


async def _read_json(request: Request, most: int) -> object:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "the Content-Type must be application/json")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request, most)
    except TimeoutError:
        reason = f"the body took longer than {BODY_SECONDS} seconds"
        raise HTTPException(408, reason, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body is cut off") from None
    try:
        content: object = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8 (byte {error.start + 1})") from None
    except RecursionError:
        raise HTTPException(400, "the body is not JSON of a few levels") from None
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON ({error})") from None
    return content


async def _read(request: Request, most: int) -> bytes:
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        # Read on without keeping it: a client still sending would miss the answer.
        if size <= most:
            body += chunk
    if size > most:
        raise HTTPException(413, f"the body has {size} bytes; at most {most} are allowed")
    return bytes(body)
