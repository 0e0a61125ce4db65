"""Building an image with the Docker engine, when one answers."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from labkit.errors import UsageError
from labkit.oci._errors import DockerBuildFailed, DockerUnavailable, InvalidImage
from labkit.oci.digest import digest_of
from labkit.oci.image import DOCKER_LAYER, Descriptor, Image, Layer, assemble, layer_of
from labkit.oci.manifest import diff_ids

if TYPE_CHECKING:
    from docker import DockerClient

_MAX_IMAGE = 256 << 20
_GZIP = b"\x1f\x8b"


def docker_engine(*, timeout: float = 60.0) -> DockerClient:
    """The Docker engine that DOCKER_HOST or the default socket names.

    Raises:
        DockerUnavailable: None answers.
    """
    # Imported here because the package comes with labkit[lab] only, and everything else in labkit.oci works without.
    try:
        import docker
    except ModuleNotFoundError:
        raise DockerUnavailable(
            "the docker package is not installed", hint="`pip install 'labkit[lab]'`, or build without Docker"
        ) from None
    try:
        engine = docker.from_env(timeout=int(timeout))
        engine.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise DockerUnavailable(
            f"no Docker engine answers: {error}",
            hint="start one, or leave it: the image is built without Docker as well, with the same content",
        ) from None
    return engine


def build_with_docker(
    context: str | os.PathLike[str],
    tag: str,
    *,
    engine: DockerClient | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Image:
    """Run `docker build` in a directory and take the image out of the engine.

    The image is pushed like any other afterwards, by labkit and not by the engine, so that the digests that reach
    the registry are the ones in the returned value.

    Args:
        context: The directory with the Dockerfile and plugin.wasm.
        tag: What the engine calls the image.
        engine: The engine, instead of `docker_engine()`.
        on_progress: Is told each line of the build.

    Raises:
        DockerUnavailable: No engine answers.
        DockerBuildFailed: It could not build; `details` has its output.
    """
    directory = Path(context).absolute()
    if not (directory / "Dockerfile").is_file():
        raise UsageError(f"{context} has no Dockerfile", hint="two lines do: FROM scratch, and COPY plugin.wasm ./")
    engine = engine or docker_engine()
    from docker.errors import APIError, BuildError

    try:
        image, log = engine.images.build(path=str(directory), tag=tag, rm=True, forcerm=True)
        _report(log, on_progress)
        with tempfile.TemporaryFile() as file:
            _spool(image.save(named=False), file)
            return _read_saved(file, tag)
    except BuildError as error:
        lines = "".join(str(entry.get("stream", "")) for entry in error.build_log if isinstance(entry, dict))
        raise DockerBuildFailed(
            f"docker build in {context} failed: {error.msg}",
            hint="is plugin.wasm there? `labkit build` makes it",
            details=lines.strip() or None,
        ) from None
    except (APIError, OSError) as error:
        raise DockerBuildFailed(f"docker build in {context} failed: {error}", hint="see the engine's log") from None


def _report(log: Iterable[Any], on_progress: Callable[[str], None] | None) -> None:
    for entry in log:
        line = str(entry.get("stream", "")).strip() if isinstance(entry, dict) else ""
        if line and on_progress is not None:
            on_progress(line)


def _spool(chunks: Iterable[bytes], file: IO[bytes]) -> None:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > _MAX_IMAGE:
            raise InvalidImage(f"the image is larger than {_MAX_IMAGE >> 20} MiB", hint="build it FROM scratch")
        file.write(chunk)
    file.seek(0)


def _read_saved(file: IO[bytes], tag: str) -> Image:
    """Read what `docker save` writes: a manifest.json that names config and layers, in all versions of the engine."""
    try:
        with tarfile.open(fileobj=file) as archive:
            listed = json.loads(_member(archive, "manifest.json"))[0]
            config = _member(archive, listed["Config"])
            layers = tuple(_layer(_member(archive, path)) for path in listed["Layers"])
    except (tarfile.TarError, KeyError, ValueError, TypeError, IndexError, EOFError, zlib.error) as error:
        raise InvalidImage(
            f"the engine's export of {tag} cannot be read: {error!r}", hint="build without Docker"
        ) from None
    if diff_ids(config) != tuple(layer.diff_id for layer in layers):
        raise InvalidImage(f"the engine's export of {tag} is inconsistent", hint="build without Docker")
    return assemble(layers, config=config, builder="docker")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()


def _layer(content: bytes) -> Layer:
    """Engines with containerd's image store export layers as they would push them, others unpacked."""
    if content.startswith(_GZIP):
        return Layer(Descriptor.of(DOCKER_LAYER, content), content, digest_of(gzip.decompress(content)))
    return layer_of(content)
