"""The commands about one plugin, along the article's ten steps: build, push, apply, get, delete, trace."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.markup import escape
from rich.table import Table

from labkit import resources
from labkit.cli.console import err, out, print_json, progress
from labkit.errors import UsageError

Source = Annotated[Path | None, typer.Argument(help="The plugin's folder, with its go.mod; plugins/mock if left out.")]
Files = Annotated[list[str] | None, typer.Option("-f", "--filename", help="A manifest; - is stdin; may be repeated.")]
Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="The namespace.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for command, epilog in (
        (build, "Examples: labkit build plugins/mock; labkit build plugins/mock -o plugin.wasm --docker"),
        (push, "Examples: labkit push plugins/mock; labkit push plugin.wasm registry.lab/plugins/mine:0.1"),
        (apply, "Examples: labkit apply -f manifests/wasmplugin.yaml; labkit apply -f plugin.yaml --no-wait"),
        (get, "Examples: labkit get wasmplugins; labkit get wasmplugin mock -n higress-system -o yaml"),
        (delete, "Examples: labkit delete wasmplugin mock; labkit delete -f manifests/wasmplugin.yaml"),
        (trace, "Examples: labkit trace; labkit trace higress-system/mock --json"),
    ):
        app.command(epilog=epilog)(command)


def build(
    source: Source = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the module goes; SOURCE/plugin.wasm if left out.")
    ] = None,
    docker: Annotated[bool, typer.Option("--docker", help="Build the image through the Docker engine.")] = False,
) -> None:
    """Compile a Go plugin and build its image (steps 1 and 2)."""
    from labkit import lab as labs

    lab = labs.Lab()
    source = source or resources.path("plugins/mock")
    with progress("compiling") as on_progress:
        built = labs.compile_plugin(lab, source, output, on_progress)
        on_progress("building the image")
        image = labs.build_image(lab, built.module, docker_context=source if docker else None)
    out.print(f"module  {escape(str(built.module))}  {built.digest}  {built.size / 1e6:.1f} MB")
    out.print(f"image   {image.digest}")


def push(
    source: Annotated[
        Path | None, typer.Argument(help="The plugin's folder, or a compiled module; plugins/mock if left out.")
    ] = None,
    reference: Annotated[
        str | None, typer.Argument(help="Where to: registry.lab/plugins/NAME:1.0.0 if left out.")
    ] = None,
    docker: Annotated[bool, typer.Option("--docker", help="Build the image through the Docker engine.")] = False,
) -> None:
    """Build a plugin's image and push it to the registry (steps 1 to 3)."""
    from labkit import lab as labs

    lab = labs.Lab()
    lab.require_up()
    source = source or resources.path("plugins/mock")
    if source.is_file() and docker:
        raise UsageError("--docker needs the plugin's folder with its Dockerfile, not a module")
    with progress("compiling") as on_progress:
        module = source if source.is_file() else labs.compile_plugin(lab, source, None, on_progress).module
        on_progress("building the image")
        image = labs.build_image(lab, module, docker_context=source if docker else None)
        on_progress("pushing the image")
        target = reference or labs.default_reference(source.with_suffix("") if source.is_file() else source)
        pushed = labs.push_image(lab, image, target)
    out.print(f"pushed oci://{pushed}")


def apply(
    filename: Files = None,
    wait: Annotated[bool, typer.Option(help="Wait until the gateway runs the WasmPlugins, or refuses them.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="How many seconds to wait.")] = 60.0,
) -> None:
    """Create or change what manifests say (step 4) and wait until it is in effect (steps 5 to 10)."""
    from labkit import lab as labs

    if not filename:
        raise UsageError("nothing to apply", hint="name a manifest: labkit apply -f manifests/wasmplugin.yaml")
    lab = labs.Lab()
    lab.require_up()
    plugins = []
    for path in filename:
        applied = labs.apply_manifest(lab, _manifest(path))
        for one in applied:
            out.print(escape(str(one)))
        plugins += [one for one in applied if one.kind == "WasmPlugin"]
    if not wait:
        return
    for plugin in plugins:
        with progress(f"waiting for the gateway to load {plugin.namespace}/{plugin.name}"):
            lab.kube().wait_for_ready(plugin.object, timeout=timeout)
        out.print(f"wasmplugin/{escape(plugin.name)} is in effect")


def get(
    kind: Annotated[str, typer.Argument(help="A kind, as kubectl takes it: wasmplugins, ingress, svc, …")],
    name: Annotated[str | None, typer.Argument(help="One object; all when left out.")] = None,
    namespace: Namespace = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table, yaml or json.")] = "table",
) -> None:
    """Show objects of the API server."""
    from labkit.lab import Lab

    if output not in {"table", "yaml", "json"}:
        raise UsageError(f"no output format {output!r}", hint="formats: table, yaml, json")
    client = Lab()
    client.require_up()
    kube, namespace = client.kube(), namespace or _namespace_of(kind)
    if output == "table":
        table = kube.table(kind, name, namespace=namespace)
        shown = Table(*table.columns, box=None, header_style="bold")
        for row in table.rows:
            shown.add_row(*(escape(cell) for cell in row))
        out.print(shown) if table.rows else err.print(f"no {kind} found")
        return
    document: Any = kube.get(kind, name, namespace=namespace) if name else kube.list(kind, namespace=namespace)
    print_json(document) if output == "json" else print(yaml.safe_dump(document, sort_keys=False), end="")


def delete(
    kind: Annotated[str | None, typer.Argument(help="A kind, as kubectl takes it.")] = None,
    name: Annotated[str | None, typer.Argument(help="The object.")] = None,
    filename: Files = None,
    namespace: Namespace = None,
) -> None:
    """Delete one object, or all that manifests name."""
    from labkit.lab import Lab

    lab = Lab()
    lab.require_up()
    if filename:
        deleted = [one for path in filename for one in lab.kube().delete(_manifest(path))]
        for one in deleted:
            out.print(escape(str(one)))
        if not deleted:
            err.print("nothing of it was there")
    elif kind and name:
        lab.kube().delete_object(kind, name, namespace=namespace or _namespace_of(kind))
        out.print(f"{kind}/{escape(name)} deleted")
    else:
        raise UsageError("nothing to delete", hint="name it: labkit delete wasmplugin mock, or: labkit delete -f FILE")


def _manifest(name: str) -> str | Path:
    """A manifest by file name; `-` is what stdin says."""
    return sys.stdin.read() if name == "-" else Path(name)


def _namespace_of(kind: str) -> str | None:
    """WasmPlugins count in one namespace only, so nobody should have to type it."""
    from labkit.lab.quickstart import NAMESPACE

    return NAMESPACE if kind.lower().startswith("wasmplugin") else None


def trace(
    plugin: Annotated[
        str | None, typer.Argument(help="namespace/name; the plugin of the last event if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Show how far a plugin has come on the article's ten steps, from the journal."""
    from labkit.lab import Lab
    from labkit.lab.trace import trace as read

    found = read(Lab().journal.read(), plugin)
    if json:
        print_json(found.to_json())
        return
    out.print(f"{escape(found.plugin or 'no plugin yet')}  generation {found.generation or '-'}")
    table = Table("step", "", "part", "at", "seconds", "digest / error", box=None, header_style="bold")
    for step in found.steps:
        if step.event is None:
            table.add_row(str(step.n), step.name, "", "", "", "not yet")
            continue
        at = datetime.fromtimestamp(step.event.at, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        seconds = "" if step.event.seconds is None else f"{step.event.seconds:.3f}"
        what = f"[red]{escape(step.event.error)}[/]" if step.event.error else (step.event.digest or "")[:19]
        table.add_row(str(step.n), step.name, step.event.part, at, seconds, what)
    out.print(table)
