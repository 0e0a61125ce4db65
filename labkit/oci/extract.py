"""Taking the wasm module out of an image, by the rules of Istio's agent.

An image with a Docker or OCI layer: the *last* layer must be a gzip tar archive, and the first file in it that is
called `plugin.wasm`, in whatever directory, is the module. An OCI artifact: exactly two layers, one of them of the
media type for wasm, whose bytes are the module itself.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
import zlib
from dataclasses import dataclass

from labkit.oci._errors import DigestMismatch, ImageTooLarge, InvalidImage, ModuleNotInImage
from labkit.oci.digest import digest_of
from labkit.oci.image import DOCKER_LAYER, DOCKER_MANIFEST, MODULE_NAME, OCI_LAYER, WASM_LAYER, Image, Layer
from labkit.wasm import MAGIC

MAX_UNPACKED = 256 << 20
"""How much a layer may unpack to."""

_CHUNK = 256 << 10
_SHOWN = 8
# Each entry and each gzip member costs memory and time whatever its size; a plugin's layer has one of each.
_MAX_ENTRIES = 20_000
_MAX_MEMBERS = 10_000


@dataclass(frozen=True, slots=True)
class Extracted:
    """The module of an image.

    Attributes:
        content: The module's bytes.
        digest: `sha256:…` of them.
        layer: The digest of the layer they were in.
        diff_id: The digest of what that layer unpacks to.
        path: Where in the layer they were; None for an artifact's layer, which is the module.
    """

    content: bytes
    digest: str
    layer: str
    diff_id: str
    path: str | None


def extract_module(image: Image, *, limit: int = MAX_UNPACKED) -> Extracted:
    """Find the module in an image.

    Args:
        image: The image, built or pulled.
        limit: How many bytes its layer may unpack to.

    Raises:
        ModuleNotInImage: There is none where Istio's agent looks; says what is there instead.
        InvalidImage: The layer is damaged, hostile, too large, or the file is not wasm.
    """
    if not image.layers:
        raise ModuleNotInImage(f"image {image.digest} has no layers", hint=_HOW)
    last = image.layers[-1]
    if last.descriptor.media_type == (DOCKER_LAYER if image.media_type == DOCKER_MANIFEST else OCI_LAYER):
        return _from_archive(image, last, limit)
    wasm = [layer for layer in image.layers if layer.descriptor.media_type == WASM_LAYER]
    if image.media_type != DOCKER_MANIFEST and wasm and len(image.layers) == 2:
        return _as_module(wasm[0], wasm[0].content, wasm[0].digest, None)
    kinds = ", ".join(layer.descriptor.media_type for layer in image.layers)
    raise ModuleNotInImage(f"image {image.digest} has no layer that a gateway reads; it has {kinds}", hint=_HOW)


_HOW = (
    "a gateway takes plugin.wasm from the last layer of an image built FROM scratch with COPY plugin.wasm ./, "
    f"or an OCI artifact of two layers, one of type {WASM_LAYER}"
)


def _from_archive(image: Image, layer: Layer, limit: int) -> Extracted:
    unpacked = _Unpacked(layer, limit)
    names: list[str] = []
    try:
        found = _search(unpacked, names)
        diff_id = unpacked.finish()
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        raise InvalidImage(
            f"layer {layer.digest} is not a proper tar archive: {error}", hint="build the image again and push it"
        ) from None
    if layer.diff_id is not None and layer.diff_id != diff_id:
        raise DigestMismatch(
            f"layer {layer.digest} unpacks to {diff_id}, the image's config says {layer.diff_id}",
            hint="config and layers are of different images: build the image again and push it",
        )
    if found is None:
        raise _not_found(image, names)
    path, content = found
    return _as_module(layer, content, diff_id, path)


def _search(unpacked: _Unpacked, names: list[str]) -> tuple[str, bytes] | None:
    """The first plugin.wasm in the archive; `names` gets what else there is until then."""
    with tarfile.open(fileobj=unpacked, mode="r|", bufsize=_CHUNK, errorlevel=2) as archive:
        for number, entry in enumerate(archive):
            if number >= _MAX_ENTRIES:
                raise InvalidImage(
                    f"the image's last layer has more than {_MAX_ENTRIES} files", hint="that is no plugin's image"
                )
            if ".." in entry.name.split("/"):
                raise InvalidImage(
                    f"the image has a path that leads out of it: {entry.name[:100]!r}", hint="don't use this image"
                )
            if posixpath.basename(entry.name) != MODULE_NAME:
                if len(names) <= _SHOWN:
                    names.append(entry.name[:100])
                continue
            if not entry.isreg() or entry.issparse():
                raise InvalidImage(
                    f"{entry.name} in the image is not an ordinary file (a link, a directory or a device)",
                    hint="COPY the file itself into the image",
                )
            file = archive.extractfile(entry)
            content = file.read() if file is not None else b""
            if len(content) != entry.size:
                raise EOFError(f"{entry.name} is cut short")
            return entry.name, content
    return None


def _as_module(layer: Layer, content: bytes, diff_id: str, path: str | None) -> Extracted:
    if not content.startswith(MAGIC):
        raise InvalidImage(
            f"{path or 'the wasm layer'} in layer {layer.digest} is not a wasm module",
            hint="was it compiled with GOOS=wasip1 GOARCH=wasm?",
        )
    return Extracted(content, digest_of(content), layer.digest, diff_id, path)


def _not_found(image: Image, names: list[str]) -> ModuleNotInImage:
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    place = "its layer" if len(image.layers) == 1 else f"the last of its {len(image.layers)} layers"
    return ModuleNotInImage(f"image {image.digest} has no plugin.wasm; {place} has {shown or 'no files'}", hint=_HOW)


class _Unpacked(io.RawIOBase):
    """Reads what a gzip layer unpacks to, counts it, hashes it, and stops at a limit."""

    def __init__(self, layer: Layer, limit: int) -> None:
        self._layer = layer
        self._limit = limit
        self._left = memoryview(layer.content)
        self._input = b""
        self._members = 1
        self._decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._hash = hashlib.sha256()
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none at the end."""
        size = _CHUNK if size < 0 else size
        try:
            part = self._decompress(size)
        except zlib.error as error:
            raise EOFError(f"gzip: {error}") from None
        self._size += len(part)
        if self._size > self._limit:
            raise ImageTooLarge(
                f"layer {self._layer.digest} unpacks to more than {self._limit >> 20} MiB",
                hint="a plugin is a few MiB; don't use this image",
            )
        self._hash.update(part)
        return part

    def finish(self) -> str:
        """Read what is left; the digest of everything."""
        while self.read(_CHUNK):
            pass
        return "sha256:" + self._hash.hexdigest()

    def _decompress(self, size: int) -> bytes:
        """The next bytes; a layer may be several gzip files one after the other."""
        while True:
            if not self._input:
                self._input, self._left = bytes(self._left[:_CHUNK]), self._left[_CHUNK:]
            if self._decompressor.eof:
                if not self._input:
                    return b""
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise EOFError("gzip: too many members")
                self._decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
            elif not self._input:
                raise EOFError("gzip: it is cut short")
            part = self._decompressor.decompress(self._input, size)
            self._input = self._decompressor.unused_data or self._decompressor.unconsumed_tail
            if part:
                return part
