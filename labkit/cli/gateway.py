"""The command that talks to the gateway: request."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import httpx
import typer

from labkit.cli.console import err, print_json
from labkit.errors import LabkitError, UsageError


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command(
        epilog="Examples: labkit request /foo; labkit request http://www.example.com/ -i; "
        "labkit request /echo -X POST -d hello -H 'x-user: me'"
    )(request)


def request(
    url: Annotated[str, typer.Argument(help="A path, or a URL whose host becomes the Host header.")],
    method: Annotated[str | None, typer.Option("-X", "--method", help="GET, or POST with a body.")] = None,
    header: Annotated[list[str] | None, typer.Option("-H", "--header", help="'name: value'; may be repeated.")] = None,
    host: Annotated[str | None, typer.Option(help="The Host header.")] = None,
    data: Annotated[str | None, typer.Option("-d", "--data", help="The body.")] = None,
    include: Annotated[bool, typer.Option("-i", "--include", help="Print status and headers too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Send a request to the lab's gateway and print the answer; a status of 400 or more is no error."""
    from labkit.lab import Lab

    status = Lab().require_up()
    assert status.gateway
    target = _target(url)
    headers = [_header(f"host: {host or target.netloc}"), *(_header(line) for line in header or ())]
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    started = time.monotonic()
    try:
        answer = httpx.request(
            method or ("POST" if data is not None else "GET"),
            status.gateway["url"] + path,
            headers=headers,
            content=data,
            timeout=30.0,
            trust_env=False,
        )
    except (httpx.LocalProtocolError, UnicodeEncodeError) as error:
        raise UsageError(f"no such request can be sent: {error}", hint="correct the method or the header") from error
    except httpx.HTTPError as error:
        raise LabkitError(
            f"the gateway at {status.gateway['url']} did not answer: {error}",
            hint="see: labkit status, labkit logs gateway",
        ) from error
    seconds = time.monotonic() - started
    if json:
        print_json(
            {
                "host": headers[0][1],
                "path": path,
                "status": answer.status_code,
                "headers": [[name, value] for name, value in answer.headers.multi_items()],
                "body": answer.text,
                "seconds": round(seconds, 6),
            }
        )
        return
    if include:
        print(f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}")
        for name, value in answer.headers.multi_items():
            print(f"{name}: {value}")
        print()
    elif answer.is_error:
        err.print(f"status {answer.status_code}")
    print(answer.text)


def _target(url: str) -> SplitResult:
    try:
        return urlsplit(url if "//" in url else f"http://localhost/{url.lstrip('/')}")
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}", hint="such as /foo or http://www.example.com/") from error


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise UsageError(f"not a header: {line!r}", hint="write it as 'name: value'")
    return name.strip(), value.strip()
