"""Reading manifests, indexes and configs that somebody else wrote: every field is checked before it is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.oci._errors import InvalidImage
from labkit.oci.digest import digest_of, is_digest
from labkit.oci.image import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor

MANIFEST_TYPES = (DOCKER_MANIFEST, OCI_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)

MAX_LAYERS = 127
"""More than any builder makes."""

_MAX_SIZE = 1 << 50


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image's manifest: its exact bytes, and what they say."""

    content: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def digest(self) -> str:
        """The digest by which a registry knows the image."""
        return digest_of(self.content)

    @property
    def size(self) -> int:
        """Bytes that travel for the whole image, as announced."""
        return len(self.content) + self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Platform:
    """One image of an index and what it is for."""

    descriptor: Descriptor
    os: str
    architecture: str


def read_manifest(content: bytes, media_type: str, where: str) -> Manifest:
    """Read an image's manifest.

    Args:
        content: Its bytes.
        media_type: What the registry called it; the manifest's own word counts when it has one.
        where: The image, for messages.

    Raises:
        InvalidImage: It is no manifest, with what it is instead.
    """
    document = _object(content, where)
    media_type = _media_type(document, media_type, where)
    if media_type not in MANIFEST_TYPES:
        raise InvalidImage(
            f"{where} is not an image: its media type is {media_type}",
            hint="a gateway reads docker images (schema 2), OCI images and OCI artifacts with a wasm layer",
        )
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise _invalid(where, "its manifest has no proper list of layers")
    return Manifest(
        content,
        media_type,
        _descriptor(document.get("config"), f"the config of {where}"),
        tuple(_descriptor(layer, f"layer {n} of {where}") for n, layer in enumerate(layers, 1)),
    )


def read_index(content: bytes, where: str) -> tuple[Platform, ...]:
    """The images that an index offers. Attestations and what is no image are left out."""
    entries = _object(content, where).get("manifests")
    if not isinstance(entries, list) or len(entries) > 1000:
        raise _invalid(where, "its index has no proper list of manifests")
    platforms = []
    for number, entry in enumerate(entries, 1):
        descriptor = _descriptor(entry, f"entry {number} in the index of {where}")
        platform = entry.get("platform")
        platform = platform if isinstance(platform, dict) else {}
        os, architecture = str(platform.get("os", "")), str(platform.get("architecture", ""))
        if descriptor.media_type in MANIFEST_TYPES and (os, architecture) != ("unknown", "unknown"):
            platforms.append(Platform(descriptor, os, architecture))
    return tuple(platforms)


def choose(platforms: tuple[Platform, ...], where: str) -> Descriptor:
    """The image to take from an index: the one for wasm, else Linux on x86-64 as Istio takes it, else the first."""

    def rank(platform: Platform) -> int:
        if platform.architecture == "wasm":
            return 0
        return 1 if (platform.os, platform.architecture) == ("linux", "amd64") else 2

    if not platforms:
        raise _invalid(where, "its index lists no image")
    return min(platforms, key=rank).descriptor


def is_index(content: bytes, media_type: str, where: str) -> bool:
    """Whether these bytes are an index of images rather than one image's manifest."""
    return _media_type(_object(content, where), media_type, where) in INDEX_TYPES


def diff_ids(config: bytes) -> tuple[str, ...]:
    """What an image's config says its layers unpack to; nothing for configs of another kind."""
    try:
        document = json.loads(config)
        listed = document["rootfs"]["diff_ids"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(listed) if isinstance(listed, list) and all(map(is_digest, listed)) else ()


def _media_type(document: Mapping[str, Any], announced: str, where: str) -> str:
    own = document.get("mediaType")
    if own is not None and not isinstance(own, str):
        raise _invalid(where, "its manifest's mediaType is no text")
    announced = announced.split(";")[0].strip()
    known = MANIFEST_TYPES + INDEX_TYPES
    # OCI manifests may leave the field out.
    media_type = own or announced
    if own and announced in known and own != announced:
        raise _invalid(where, f"the registry calls it {announced}, its manifest calls itself {own}")
    if media_type not in known and not own and document.get("schemaVersion") == 2:
        return OCI_INDEX if "manifests" in document else OCI_MANIFEST
    return media_type or "unknown"


def _object(content: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _invalid(where, "its manifest is not JSON") from None
    if not isinstance(document, dict):
        raise _invalid(where, "its manifest is not a JSON object")
    return document


def _descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _invalid(what, "it is not described")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str):
        raise _invalid(what, "it has no mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        raise _invalid(what, "it has no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _MAX_SIZE:
        raise _invalid(what, "it has no proper size")
    return Descriptor(media_type, digest, size)


def _invalid(where: str, problem: str) -> InvalidImage:
    return InvalidImage(f"{where} is damaged: {problem}", hint="build the image again and push it")
