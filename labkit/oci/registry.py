"""Pushing images to registries and pulling them, believing nothing that was not checked against its digest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from labkit.oci._errors import (
    DigestMismatch,
    ImageNotFound,
    ImageTooLarge,
    OciError,
    PushRefused,
    RegistryUnavailable,
)
from labkit.oci._transport import Transient, Transport, read_limited
from labkit.oci.credentials import read_dockerconfigjson
from labkit.oci.digest import digest_of
from labkit.oci.extract import extract_module
from labkit.oci.image import Descriptor, Image, Layer
from labkit.oci.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Manifest,
    choose,
    diff_ids,
    is_index,
    read_index,
    read_manifest,
)
from labkit.oci.reference import Reference

MAX_IMAGE = 256 << 20
"""How many bytes of an image are pulled at most."""

_MAX_MANIFEST = 4 << 20
_ACCEPT = ", ".join(MANIFEST_TYPES + INDEX_TYPES)
_SHOWN_TAGS = 10


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that the registry confirmed.

    Attributes:
        reference: Where the image is now.
        digest: The manifest's digest, as the registry answered it.
        uploaded: Bytes that had to travel; what the registry had already did not.
        seconds: How long it took.
    """

    reference: Reference
    digest: str
    uploaded: int
    seconds: float


class RegistryClient:
    """A client of OCI registries.

    >>> with RegistryClient(mirrors={"registry.lab": "127.0.0.1:5000"}) as client:
    ...     client.push(build_image(module), "registry.lab/plugins/mock:1.0.0")
    ...     image = client.pull("registry.lab/plugins/mock:1.0.0")

    Args:
        mirrors: Where a registry really is: logical host to `host:port`, as containerd's hosts.toml does it.
        pull_secret: The text of a dockerconfigjson with credentials.
        limit: How many bytes of an image are pulled at most.
        timeout: Seconds without an answer, or without a byte of it, after which an attempt is given up.
        attempts: How often something is tried that fails in a way that may pass.
        sleep: How to wait between attempts.
    """

    def __init__(
        self,
        *,
        mirrors: Mapping[str, str] | None = None,
        pull_secret: str | bytes | None = None,
        limit: int = MAX_IMAGE,
        timeout: float = 30.0,
        attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit = limit
        self._transport = Transport(
            mirrors=mirrors or {},
            credentials=read_dockerconfigjson(pull_secret) if pull_secret else {},
            timeout=timeout,
            attempts=attempts,
            sleep=sleep,
        )

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def push(self, image: Image, reference: Reference | str) -> Pushed:
        """Push an image: what the registry lacks of its blobs, then its manifest.

        Raises:
            RegistryUnavailable: Nothing answers there.
            AuthenticationFailed: The registry wants other credentials.
            PushRefused: It did not take the image.
        """
        started = time.monotonic()
        reference = _reference(reference)
        blobs = {layer.digest: layer.content for layer in image.layers}
        blobs[image.config_descriptor.digest] = image.config
        uploaded = sum(self._push_blob(reference, digest, content) for digest, content in blobs.items())
        digest = self._put_manifest(reference, image)
        return Pushed(reference, digest, uploaded + len(image.manifest), time.monotonic() - started)

    def resolve(self, reference: Reference | str) -> Manifest:
        """Find the manifest that a reference stands for now; of an index, the image that a gateway would take.

        Raises:
            RegistryUnavailable: Nothing answers there.
            ImageNotFound: No such repository, tag or digest.
            AuthenticationFailed: The registry wants other credentials.
            DigestMismatch: The manifest is not the one that was asked for.
            InvalidImage: It is no image.
        """
        reference = _reference(reference)
        content, media_type = self._manifest(reference)
        if is_index(content, media_type, str(reference)):
            chosen = choose(read_index(content, str(reference)), str(reference))
            content, media_type = self._manifest(reference.with_digest(chosen.digest))
        return read_manifest(content, media_type, str(reference))

    def pull(self, reference: Reference | str, manifest: Manifest | None = None) -> Image:
        """Pull an image whole, every part checked against size and digest.

        Args:
            reference: The image.
            manifest: What `resolve` found, to pull exactly that.

        Raises:
            ImageTooLarge: It is announced larger than the client's limit.
            OciError: As `resolve`.
        """
        reference = _reference(reference)
        manifest = manifest or self.resolve(reference)
        if manifest.size > self._limit:
            raise ImageTooLarge(
                f"{reference} has {manifest.size >> 20} MiB, more than the {self._limit >> 20} MiB that are allowed",
                hint="a plugin's image is a few MiB; is the reference right?",
            )
        config = self._blob(reference, manifest.config)
        blobs = {descriptor.digest: self._blob(reference, descriptor) for descriptor in set(manifest.layers)}
        unpacked: tuple[str | None, ...] = diff_ids(config)
        if len(unpacked) != len(manifest.layers):
            unpacked = (None,) * len(manifest.layers)
        layers = tuple(
            Layer(descriptor, blobs[descriptor.digest], diff_id)
            for descriptor, diff_id in zip(manifest.layers, unpacked, strict=True)
        )
        return Image(manifest.content, manifest.media_type, config, manifest.config, layers)

    def tags(self, reference: Reference | str) -> tuple[str, ...] | None:
        """The tags of the reference's repository; None when there is no such repository."""
        image = _reference(reference)

        def attempt() -> tuple[str, ...] | None:
            with self._open(image, "GET", f"/v2/{image.repository}/tags/list") as response:
                if response.status_code != 200:
                    return None
                try:
                    listed = json.loads(read_limited(response, _MAX_MANIFEST)).get("tags") or ()
                except (ValueError, AttributeError, RecursionError):
                    return ()
                return tuple(sorted(tag for tag in listed if isinstance(tag, str)))

        return self._transport.persist(image.registry, attempt)

    def _open(self, reference: Reference, method: str, url: str, **more: Any) -> Any:
        rights = "pull" if method in ("GET", "HEAD") and not more.pop("pushing", False) else "pull,push"
        scope = f"repository:{reference.repository}:{rights}"
        return self._transport.open(reference.registry, method, url, scope=scope, **more)

    def _manifest(self, reference: Reference) -> tuple[bytes, str]:
        """The bytes of a manifest or index, checked, and what the registry calls them."""
        url = f"/v2/{reference.repository}/manifests/{reference.target}"

        def attempt() -> tuple[bytes, str, str | None] | None:
            with self._open(reference, "GET", url, headers={"Accept": _ACCEPT}) as response:
                if response.status_code == 404:
                    return None
                _expect(response, 200, reference)
                try:
                    content = read_limited(response, _MAX_MANIFEST)
                except ValueError:
                    raise ImageTooLarge(
                        f"the manifest of {reference} has more than {_MAX_MANIFEST >> 20} MiB",
                        hint="is that really a registry?",
                    ) from None
                return content, response.headers.get("content-type", ""), response.headers.get("docker-content-digest")

        found = self._transport.persist(reference.registry, attempt)
        if found is None:
            raise self._not_found(reference)
        content, media_type, announced = found
        for expected in (reference.digest, announced):
            if expected is not None and expected.startswith("sha256:") and expected != digest_of(content):
                raise DigestMismatch(
                    f"the manifest of {reference} has the digest {digest_of(content)}, not {expected}",
                    hint="somebody between the registry and this machine changes what is sent; don't use it",
                )
        return content, media_type

    def _blob(self, reference: Reference, descriptor: Descriptor) -> bytes:
        url = f"/v2/{reference.repository}/blobs/{descriptor.digest}"

        def attempt() -> bytes:
            with self._open(reference, "GET", url) as response:
                if response.status_code == 404:
                    raise ImageNotFound(
                        f"{reference} is incomplete: the registry has no blob {descriptor.digest}",
                        hint="push the image again",
                    )
                _expect(response, 200, reference)
                return _read_blob(response, descriptor, reference)

        return self._transport.persist(reference.registry, attempt)

    def _push_blob(self, reference: Reference, digest: str, content: bytes) -> int:
        """Upload a blob that the registry does not have yet; the bytes that travelled."""
        base = f"/v2/{reference.repository}/blobs"

        def attempt() -> int:
            with self._open(reference, "HEAD", f"{base}/{digest}", pushing=True) as response:
                if response.status_code == 200:
                    return 0
            with self._open(reference, "POST", f"{base}/uploads/", content=b"") as response:
                _accepted(response, 202, reference)
                url = _with_digest(response, digest)
            headers = {"Content-Type": "application/octet-stream"}
            with self._open(reference, "PUT", url, headers=headers, content=content) as response:
                _accepted(response, 201, reference)
            return len(content)

        return self._transport.persist(reference.registry, attempt)

    def _put_manifest(self, reference: Reference, image: Image) -> str:
        url = f"/v2/{reference.repository}/manifests/{reference.tag or image.digest}"
        headers = {"Content-Type": image.media_type}

        def attempt() -> str:
            with self._open(reference, "PUT", url, headers=headers, content=image.manifest) as response:
                _accepted(response, 201, reference)
                return str(response.headers.get("docker-content-digest", image.digest))

        answered = self._transport.persist(reference.registry, attempt)
        if answered != image.digest:
            raise DigestMismatch(
                f"{reference} was pushed as {image.digest}, the registry has {answered}", hint="push it again"
            )
        return answered

    def _not_found(self, reference: Reference) -> ImageNotFound:
        try:
            tags = self.tags(reference)
        except OciError:
            tags = ()
        if tags is None:
            return ImageNotFound(
                f"registry {reference.registry} has no repository {reference.repository}",
                hint="check the name; `labkit push` makes a repository by pushing to it",
            )
        what = f"digest {reference.digest}" if reference.digest else f"tag {reference.tag}"
        shown = ", ".join(tags[-_SHOWN_TAGS:])
        return ImageNotFound(
            f"{reference.registry}/{reference.repository} has no {what}",
            hint=f"it has the tags {shown}" if shown else "push the image first",
        )


def pull_module(reference: Reference | str, **client: Any) -> bytes:
    """Pull an image and take the module out of it; keyword arguments are `RegistryClient`'s."""
    with RegistryClient(**client) as registry:
        return extract_module(registry.pull(reference)).content


def _reference(reference: Reference | str) -> Reference:
    return reference if isinstance(reference, Reference) else Reference.parse(reference)


def _with_digest(response: httpx.Response, digest: str) -> str:
    """Where an upload goes on, by the registry's answer to its beginning."""
    try:
        location = response.url.join(response.headers["location"])
    except (KeyError, ValueError, httpx.InvalidURL):
        raise PushRefused(
            "the registry does not say where to upload to", hint="is that really a registry, and may one push there?"
        ) from None
    return str(location.copy_merge_params({"digest": digest}))


def _read_blob(response: httpx.Response, descriptor: Descriptor, reference: Reference) -> bytes:
    """The blob's bytes; reading stops as soon as there are more than announced."""
    content = bytearray()
    digest = hashlib.sha256()
    for part in response.iter_raw():
        content += part
        digest.update(part)
        if len(content) > descriptor.size:
            break
    if len(content) == descriptor.size and f"sha256:{digest.hexdigest()}" == descriptor.digest:
        return bytes(content)
    if len(content) == descriptor.size:
        problem = "has another digest"
    else:
        cut = len(content) < descriptor.size
        problem = f"{descriptor.size} bytes were announced, {len(content) if cut else 'more'} arrived"
    raise DigestMismatch(
        f"blob {descriptor.digest} of {reference} is not what was pushed: {problem}",
        hint="the registry's storage is damaged, or somebody changes what it sends: push the image again",
    )


def _expect(response: httpx.Response, status: int, reference: Reference) -> None:
    if response.status_code != status:
        raise RegistryUnavailable(
            f"registry {reference.registry} answers {response.status_code} for {reference}{_said(response)}",
            hint="is that really a registry?",
        )


def _accepted(response: httpx.Response, status: int, reference: Reference) -> None:
    if response.status_code != status:
        raise PushRefused(
            f"registry {reference.registry} refuses {reference} with {response.status_code}{_said(response)}",
            hint="is that really a registry, and may one push there?",
        )


def _said(response: httpx.Response) -> str:
    """The registry's own words, when it has any."""
    try:
        errors = json.loads(read_limited(response, 64 << 10))["errors"]
        return ": " + str(errors[0].get("message") or errors[0]["code"])[:300]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, Transient, RecursionError):
        return ""
