"""Images as values: a manifest, a config, layers, tied together by digests."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import UsageError
from labkit.oci.digest import digest_of
from labkit.wasm import MAGIC

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
WASM_LAYER = "application/vnd.module.wasm.content.layer.v1+wasm"

MODULE_NAME = "plugin.wasm"
"""The file that a gateway looks for in an image."""

_EPOCH = "1970-01-01T00:00:00Z"
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names a blob or a manifest: what kind it is, its digest, its length."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, media_type: str, content: bytes) -> Descriptor:
        """The descriptor of these bytes."""
        return cls(media_type, digest_of(content), len(content))

    def to_json(self) -> dict[str, str | int]:
        """As manifests have it."""
        return {"mediaType": self.media_type, "size": self.size, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it travels (compressed, mostly); `diff_id` is the digest of what it unpacks to, when known."""

    descriptor: Descriptor
    content: bytes
    diff_id: str | None = None

    @property
    def digest(self) -> str:
        """The digest of the bytes as they travel."""
        return self.descriptor.digest


@dataclass(frozen=True, slots=True)
class Image:
    """A complete image.

    Attributes:
        manifest: The manifest's exact bytes; their digest is the image's.
        media_type: The kind of manifest.
        config: The config's exact bytes.
        config_descriptor: What the manifest says of the config.
        layers: In the manifest's order, the lowest first.
        builder: Who made it: `daemonless`, `docker`, or None for an image that was pulled.
    """

    manifest: bytes
    media_type: str
    config: bytes
    config_descriptor: Descriptor
    layers: tuple[Layer, ...]
    builder: str | None = None

    @property
    def digest(self) -> str:
        """The digest by which a registry knows the image."""
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the image's manifest."""
        return Descriptor(self.media_type, self.digest, len(self.manifest))

    @property
    def size(self) -> int:
        """Bytes that travel when nothing of it is there yet."""
        return len(self.manifest) + len(self.config) + sum(len(layer.content) for layer in self.layers)


def build_image(module: bytes | str | os.PathLike[str], *, oci: bool = False) -> Image:
    """Build the image that `docker build` makes of `FROM scratch` and `COPY plugin.wasm ./`, without Docker.

    The same module always gives the same bytes: no times, no user, no host in them.

    Args:
        module: The wasm module, or the file that has it.
        oci: Write OCI media types instead of Docker's.

    Raises:
        UsageError: No such file, or it is not wasm.
    """
    content = module if isinstance(module, bytes) else _read_module(Path(module))
    if not content.startswith(MAGIC):
        raise UsageError("what should go into the image is not a wasm module", hint="compile it with `labkit build`")
    return assemble((layer_of(tar_of(MODULE_NAME, content), oci=oci),), oci=oci, builder="daemonless")


def assemble(
    layers: tuple[Layer, ...], *, config: Mapping[str, Any] | bytes | None = None, oci: bool = False, builder: str
) -> Image:
    """Write the manifest, and the config unless there is one, that tie layers into an image."""
    if not isinstance(config, bytes):
        config = _canonical(config or _config(layers))
    config_descriptor = Descriptor.of(OCI_CONFIG if oci else DOCKER_CONFIG, config)
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config_descriptor.to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    return Image(_canonical(manifest), media_type, config, config_descriptor, layers, builder)


def tar_of(name: str, content: bytes) -> bytes:
    """A tar archive of one file that belongs to root and was written in 1970."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def layer_of(archive: bytes, *, oci: bool = False) -> Layer:
    """A gzip layer of a tar archive. The header is written here because gzip's own differs between versions."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(
        (
            _GZIP_HEADER,
            compressor.compress(archive),
            compressor.flush(),
            struct.pack("<II", zlib.crc32(archive), len(archive) & 0xFFFFFFFF),
        )
    )
    return Layer(Descriptor.of(OCI_LAYER if oci else DOCKER_LAYER, packed), packed, digest_of(archive))


def _read_module(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="compile the plugin first with `labkit build`"
        ) from None


def _config(layers: tuple[Layer, ...]) -> dict[str, Any]:
    # What docker build writes on most machines: Docker engines refuse to pull images for other systems than theirs.
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": {"WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": _EPOCH, "created_by": f"COPY {MODULE_NAME} ./"}],
    }


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=False).encode()
