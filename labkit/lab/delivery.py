"""Steps 1 to 4 of the article: compile, build the image, push it, create the WasmPlugin.

Each function does one step and writes its event into the lab's journal once the step really happened.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from labkit import kube, oci, toolchains
from labkit.lab.lab import Lab, Progress
from labkit.lab.parts import REGISTRY_HOST

VERSION = "1.0.0"


def default_reference(source: Path) -> str:
    """The image a plugin folder is pushed as unless told otherwise: `registry.lab/plugins/mock:1.0.0`."""
    return f"{REGISTRY_HOST}/plugins/{source.resolve().name.lower()}:{VERSION}"


def compile_plugin(
    lab: Lab, source: Path, output: Path | None = None, on_progress: Progress | None = None
) -> toolchains.Build:
    """Step 1: compile the Go plugin in `source` into a wasm module.

    Raises:
        CompileError: The compiler refused it; `details` holds its own lines.
        ToolchainMissing: There is no Go.
    """

    def compiling(line: str) -> None:
        # Besides the packages it compiles, go build prints its errors; those come with the exception.
        if on_progress and " " not in line:
            on_progress(f"compiling {line}")

    build = toolchains.build(source, output, on_progress=compiling)
    lab.journal.record(
        1,
        part="toolchain",
        seconds=build.seconds,
        digest=build.digest,
        path=str(build.module),
        command=list(build.command),
        cached=build.cached,
        size=build.size,
        toolchain=build.toolchain,
    )
    return build


def build_image(lab: Lab, module: Path, *, docker_context: Path | None = None) -> oci.Image:
    """Step 2: make an image of the module, through the Docker engine when `docker_context` is given.

    Args:
        lab: Whose journal it goes into.
        module: The compiled `plugin.wasm`.
        docker_context: A folder with a Dockerfile and the module in it.
    """
    started = time.monotonic()
    if docker_context:
        from labkit.oci.docker import build_with_docker

        image = build_with_docker(docker_context, f"labkit/{docker_context.resolve().name.lower()}:{VERSION}")
    else:
        image = oci.build_image(module)
    extracted = oci.extract_module(image)
    lab.journal.record(
        2,
        part="oci",
        seconds=time.monotonic() - started,
        digest=image.digest,
        module=extracted.digest,
        layer=extracted.layer,
        diff_id=extracted.diff_id,
        config=image.config_descriptor.digest,
        builder=image.builder,
    )
    return image


def push_image(lab: Lab, image: oci.Image, reference: str) -> str:
    """Step 3: push the image; returns the reference by digest that the registry now answers to.

    Raises:
        RegistryUnavailable: Nobody answers there.
    """
    with oci.RegistryClient(mirrors=mirrors(lab)) as registry:
        pushed = registry.push(image, oci.Reference.parse(reference))
    lab.journal.record(
        3, part="oci", seconds=pushed.seconds, digest=pushed.digest, reference=reference, uploaded=pushed.uploaded
    )
    return f"{reference}@{pushed.digest}"


def mirrors(lab: Lab) -> dict[str, str]:
    """Where the registries that manifests name really are."""
    return {REGISTRY_HOST: f"127.0.0.1:{lab.ports.registry}"}


def pinned(manifest: Path, image: oci.Image) -> dict[str, Any]:
    """The WasmPlugin in `manifest` with `sha256` set to the image's digest.

    A tag can be pushed again, and a gateway that has an image of that name asks for no other. With the digest in its
    spec the resource changes whenever the image does, and no other image can take its place.
    """
    plugin = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    assert isinstance(plugin, dict)
    plugin["spec"]["sha256"] = image.digest.removeprefix("sha256:")
    return plugin


def apply_manifest(lab: Lab, manifest: kube.Manifest) -> list[kube.Applied]:
    """Step 4: create or change what `manifest` says. The API server notes each WasmPlugin in the journal.

    Raises:
        KubeError: The API server refused a document; earlier documents of the file stay applied.
    """
    return lab.kube().apply(manifest)
