"""The commands about the lab as a whole: doctor, up, down, status, logs, demo."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from labkit.cli.console import err, out, print_json, progress

if TYPE_CHECKING:
    from labkit.lab import Status

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for command, epilog in (
        (doctor, "Example: labkit doctor --json"),
        (up, "Examples: labkit up; labkit up --gateway-port 8080"),
        (down, "Example: labkit down"),
        (status, "Example: curl $(labkit status --json | jq -r .gateway.url)/foo"),
        (logs, "Examples: labkit logs; labkit logs gateway -n 100 --follow"),
        (demo, "Examples: labkit demo; labkit demo --json"),
    ):
        app.command(epilog=epilog)(command)


def doctor(json: Json = False) -> None:
    """Check what this machine has for the lab: Go, Envoy, Docker, kubectl."""
    from labkit.lab import doctor as checks

    found = checks.examine()
    if json:
        print_json(
            {"ok": all(check.ok or not check.required for check in found), "checks": [c.to_json() for c in found]}
        )
    else:
        table = Table(box=None, show_header=False)
        for check in found:
            mark = "[green]ok[/]" if check.ok else ("[red]missing[/]" if check.required else "[yellow]absent[/]")
            table.add_row(check.name, mark, escape(check.found or check.hint or ""))
        out.print(table)
    if any(check.required and not check.ok for check in found):
        raise typer.Exit(1)


def up(
    gateway_port: Port = 0,
    admin_port: Port = 0,
    kube_port: Port = 0,
    registry_port: Port = 0,
    json: Json = False,
) -> None:
    """Start the lab: API server, registry, controller, agent, Envoy and the demo services."""
    from labkit.lab import Lab, Ports

    ports = Ports(gateway=gateway_port, admin=admin_port, kube=kube_port, registry=registry_port)
    with progress("starting the lab") as on_progress:
        found = Lab().up(ports, on_progress)
    print_json(found.to_json()) if json else _show(found)


def down() -> None:
    """Stop the lab and remove its state and logs; caches stay."""
    from labkit.lab import Lab

    with progress("stopping the lab") as on_progress:
        Lab().down(on_progress)
    err.print("the lab is down")


def status(json: Json = False) -> None:
    """Show every part of the lab, its process, its health and how to reach it."""
    from labkit.lab import Lab

    found = Lab().status()
    print_json(found.to_json()) if json else _show(found)


def _show(status: Status) -> None:
    colour = {"up": "green", "down": "yellow"}.get(status.state, "red")
    out.print(f"lab is [{colour}]{status.state}[/]")
    if status.state == "broken":
        out.print("its supervisor was killed; labkit up takes the lab up again, with all its state")
    if not status.gateway:
        return
    table = Table("part", "pid", "state", "restarts", "log", box=None, header_style="bold")
    for part in status.parts:
        table.add_row(part.name, str(part.pid or "-"), part.state, str(part.restarts), escape(part.log))
    out.print(table)
    out.print(f"gateway     {status.gateway['url']}  (admin {status.gateway['admin']})")
    out.print(f"registry    {status.registry}  (in manifests: registry.lab)")
    out.print(f"kubeconfig  {status.kubeconfig}")


def logs(
    part: Annotated[str | None, typer.Argument(help="A part's name; all parts when left out.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines of each log.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the end of the parts' logs."""
    from labkit.lab import Lab

    lab = Lab()
    names = [part] if part else lab.part_names()
    files = {name: lab.log(name) for name in names}
    offsets = {name: _print_tail(name, path, lines, named=len(files) > 1) for name, path in files.items()}
    while follow:
        for name, path in files.items():
            offsets[name] = _print_from(name, path, offsets[name], named=len(files) > 1)
        sys.stdout.flush()
        time.sleep(0.2)


def _print_tail(name: str, path: Path, lines: int, *, named: bool) -> int:
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    text = content[:end].decode(errors="replace").splitlines()
    for line in text[-lines:] if lines else ():
        print(f"{name}: {line}" if named else line)
    return end


def _print_from(name: str, path: Path, offset: int, *, named: bool) -> int:
    size = path.stat().st_size if path.exists() else 0
    # A log that became shorter was rotated: start over.
    offset = 0 if size < offset else offset
    if size == offset:
        return offset
    with path.open("rb") as log:
        log.seek(offset)
        content = log.read()
    end = content.rfind(b"\n") + 1
    for line in content[:end].decode(errors="replace").splitlines():
        print(f"{name}: {line}" if named else line)
    return offset + end


def demo(
    json: Json = False,
    stop: Annotated[bool, typer.Option("--down", help="Stop the lab afterwards.")] = False,
) -> None:
    """Run the article's demo for real: compile, package, push, deploy, load, four requests, one update under load."""
    from labkit.lab import Lab
    from labkit.lab import demo as article

    lab = Lab()
    with progress("starting the demo") as on_progress:
        result = article.run(lab, on_progress)
        if stop:
            lab.down(on_progress)
    if json:
        print_json(result.to_json())
        return
    replies = Table("request", "status", "reply", "because of", box=None, header_style="bold")
    for reply in result.replies:
        replies.add_row(f"http://{reply.host}{reply.path}", str(reply.status), escape(reply.body), escape(reply.rule))
    steps = Table("step", "", "part", "seconds", box=None, header_style="bold")
    for step in result.steps:
        steps.add_row(str(step.n), step.name, step.part, f"{step.seconds:.3f}")
    out.print(replies, "", steps, "", sep="\n")
    update = result.update
    out.print(
        f"update: a changed rule answered after {update.seconds * 1000:.0f} ms; "
        f"{update.requests} requests meanwhile, {update.failed} failed"
    )
    shares = ", ".join(f"{share.name} {share.seconds:.1f} s" for share in result.shares)
    out.print(f"all in {result.seconds:.1f} s: {shares}")
    if not stop:
        err.print(f"the lab is still up: curl {result.gateway}/foo    stop it with: labkit down")
