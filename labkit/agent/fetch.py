"""Where modules come from: image registries, HTTP servers, files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from labkit.agent.errors import ImageInvalid, PullFailed
from labkit.agent.resource import PluginResource
from labkit.agent.store import Fetched, Offer
from labkit.oci import (
    DigestMismatch,
    InvalidImage,
    InvalidReference,
    OciError,
    Reference,
    RegistryClient,
    extract_module,
)

MAX_MODULE = 256 << 20
"""The largest module that is taken, in bytes."""


class Sources:
    """Fetches by the scheme of the address.

    Args:
        mirrors: Registry hosts and the hosts that really serve them.
        timeout: Seconds to wait for each answer.
    """

    def __init__(self, mirrors: Mapping[str, str], *, timeout: float = 30.0) -> None:
        self._mirrors = mirrors
        self._timeout = timeout

    def look(self, resource: PluginResource, digest: str | None = None) -> Offer:
        """Find out what is at a resource's address.

        Args:
            resource: The resource.
            digest: What must be there; by default, whatever is there now.

        Raises:
            PluginRefused: Nothing that could be taken.
        """
        if resource.url.startswith("oci:"):
            return self._look_at_image(resource, digest)
        if resource.url.startswith("file:"):
            content = _read_file(Path(unquote(urlsplit(resource.url).path)))
        else:
            content = self._download(resource.url)
        found = "sha256:" + hashlib.sha256(content).hexdigest()
        if digest not in (None, found):
            raise ImageInvalid(f"{resource.url} is {found} now, no longer {digest}", step=7)
        return Offer(found, lambda: Fetched(found, content, resource.url, size=len(content)))

    def _look_at_image(self, resource: PluginResource, digest: str | None) -> Offer:
        with _as_refusal(7):
            reference = Reference.parse(resource.url)
            if digest:
                reference = reference.with_digest(digest)
            with self._client(resource) as client:
                manifest = client.resolve(reference)

        def take() -> Fetched:
            with _as_refusal(7), self._client(resource) as client:
                image = client.pull(reference, manifest)
            with _as_refusal(8):
                module = extract_module(image)
            return Fetched(
                digest=image.digest,
                content=module.content,
                reference=str(reference),
                layer=module.layer,
                diff_id=module.diff_id,
                size=image.size,
            )

        return Offer(manifest.digest, take)

    def _client(self, resource: PluginResource) -> RegistryClient:
        # Few attempts: the agent itself tries again, and says so in the status meanwhile.
        return RegistryClient(
            mirrors=self._mirrors, pull_secret=resource.pull_secret or None, timeout=self._timeout, attempts=2
        )

    def _download(self, url: str) -> bytes:
        content = bytearray()
        # A proxy that the user has for the world outside must not stand between this machine and itself.
        outside = urlsplit(url).hostname not in ("127.0.0.1", "::1", "localhost")
        try:
            with httpx.stream("GET", url, timeout=self._timeout, follow_redirects=True, trust_env=outside) as answer:
                answer.raise_for_status()
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > MAX_MODULE:
                        raise ImageInvalid(f"{url} is larger than {MAX_MODULE >> 20} MiB", step=7)
        except httpx.HTTPStatusError as error:
            raise PullFailed(f"{url} answers {error.response.status_code}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PullFailed(f"{url}: {error or type(error).__name__}") from error
        return bytes(content)


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MODULE:
            raise ImageInvalid(f"{path} is larger than {MAX_MODULE >> 20} MiB", step=7)
        return path.read_bytes()
    except OSError as error:
        raise PullFailed(f"{path}: {error.strerror}") from error


@contextmanager
def _as_refusal(step: int) -> Iterator[None]:
    try:
        yield
    except (InvalidImage, InvalidReference) as error:
        text = f"{error} ({error.hint})" if error.hint else str(error)
        raise ImageInvalid(text, step=7 if isinstance(error, DigestMismatch) else step) from error
    except OciError as error:
        raise PullFailed(f"{error} ({error.hint})" if error.hint else str(error)) from error
