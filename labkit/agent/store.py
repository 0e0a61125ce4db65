"""The agent's store of modules: fetched once, kept on disk by digest, checked again whenever they are used.

    CACHE/modules/<sha256>.wasm    what Envoy loads, named by its own digest
    CACHE/sources/<sha256>.json    what is known of one content: an image by manifest digest, a file by its own
    CACHE/addresses/<hash>.json    to which content an address (a tag, a URL) led, and for which revision

Every file is written beside its place and renamed, so a killed agent leaves no half of one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from labkit.agent.errors import ImageInvalid, ModuleInvalid
from labkit.agent.resource import PluginResource
from labkit.oci import is_digest
from labkit.wasm import WasmError, fit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A module as it came from where it is kept.

    Attributes:
        digest: `sha256:…` of the image's manifest, or of the file itself when it is none.
        content: The module's bytes.
        reference: Where it came from.
        layer: Digest of the layer it was in, None for a file.
        diff_id: Digest of that layer uncompressed, None for a file.
        size: How many bytes came over the wire.
    """

    digest: str
    content: bytes
    reference: str
    layer: str | None = None
    diff_id: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """What is at an address.

    Attributes:
        digest: See `Fetched.digest`.
        take: Fetches it, verified against the digest; blocks, and raises a `PluginRefused`.
    """

    digest: str
    take: Callable[[], Fetched]


class Fetcher(Protocol):
    """Where modules come from."""

    def look(self, resource: PluginResource, digest: str | None = None) -> Offer:
        """What is at the resource's address, or the content with this digest; blocks, may raise a `PluginRefused`."""


@dataclass(frozen=True, slots=True)
class StoredModule:
    """A module on disk, ready for Envoy.

    Attributes:
        digest: What it was fetched by (see `Fetched.digest`).
        reference: Where it came from.
        layer: Digest of its layer, None for a file.
        diff_id: Digest of the layer uncompressed.
        size: Bytes that came over the wire.
        module: `sha256:…` of the module as it was built.
        fitted_digest: `sha256:…` of the file for Envoy.
        fitted: Whether that differs from the module.
        abi: The proxy-wasm ABI that the file speaks.
        path: The file.
        cached: Whether it was there already.
    """

    digest: str
    reference: str
    layer: str | None
    diff_id: str | None
    size: int
    module: str
    fitted_digest: str
    fitted: bool
    abi: str
    path: Path
    cached: bool = True


class ModuleStore:
    """Modules by digest, on disk.

    Args:
        directory: Where; made when it is not there.
        fetcher: Where modules come from.
    """

    def __init__(self, directory: Path, fetcher: Fetcher) -> None:
        self._modules = directory / "modules"
        self._sources = directory / "sources"
        self._addresses = directory / "addresses"
        for folder in (self._modules, self._sources, self._addresses):
            folder.mkdir(parents=True, exist_ok=True)
        self._fetcher = fetcher
        self._running: dict[tuple[str, ...], asyncio.Task[StoredModule]] = {}

    async def get(self, resource: PluginResource) -> StoredModule:
        """The module a resource asks for.

        Whoever waits may be cancelled; the fetch goes on, and the next who asks for the same joins it.

        Raises:
            PluginRefused: It cannot be had, or is not what it should be.
        """
        key = (resource.url, resource.sha256, resource.revision if _wants_fresh(resource) else "", resource.pull_secret)
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(asyncio.to_thread(self._get, resource))
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: tuple[str, ...], task: asyncio.Task[StoredModule]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; nobody waiting is no fault

    def _get(self, resource: PluginResource) -> StoredModule:
        digest = self._known_digest(resource)
        stored = self._load(digest) if digest else None
        if stored is None:
            offer = self._fetcher.look(resource, digest)
            stored = self._load(offer.digest) or self._keep(offer.take())
        _check_pin(resource, stored)
        address = {"url": resource.url, "digest": stored.digest, "revision": resource.revision}
        _write(self._address_file(resource), json.dumps(address).encode())
        return replace(stored, reference=resource.url)

    def _known_digest(self, resource: PluginResource) -> str | None:
        """The digest an address led to before, when the pull policy lets us go by it."""
        _, separator, pinned = resource.url.partition("@sha256:")
        if separator:
            return f"sha256:{pinned}"
        if resource.url.startswith("file:"):
            return None
        address = _read_json(self._address_file(resource))
        digest = address.get("digest")
        if not isinstance(digest, str) or not is_digest(digest):
            return None
        if _wants_fresh(resource) and address.get("revision") != resource.revision:
            return None
        if resource.sha256 and not self._satisfies(resource, digest):
            return None
        return digest

    def _satisfies(self, resource: PluginResource, digest: str) -> bool:
        source = _read_json(self._source_file(digest))
        return f"sha256:{resource.sha256}" in (digest, source.get("module"))

    def _load(self, digest: str) -> StoredModule | None:
        """What is on disk for a digest, or None when it is not there or is damaged."""
        known = _read_json(self._source_file(digest))
        try:
            stored = StoredModule(**{**known, "path": Path(known["path"])})
            content = stored.path.read_bytes()
        except (KeyError, TypeError, OSError):
            return None
        if _sha256(content) != stored.fitted_digest:
            log.warning("%s is damaged; it is fetched again", stored.path)
            return None
        return stored

    def _keep(self, fetched: Fetched) -> StoredModule:
        try:
            fitted = fit(fetched.content)
        except WasmError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise ModuleInvalid(f"{fetched.reference}: {error}{hint}") from error
        path = self._modules / f"{fitted.digest.removeprefix('sha256:')}.wasm"
        _write(path, fitted.content)
        stored = StoredModule(
            digest=fetched.digest,
            reference=fetched.reference,
            layer=fetched.layer,
            diff_id=fetched.diff_id,
            size=fetched.size,
            module=fitted.module_digest,
            fitted_digest=fitted.digest,
            fitted=fitted.changed,
            abi=fitted.abi,
            path=path.absolute(),
        )
        _write(self._source_file(fetched.digest), json.dumps({**asdict(stored), "path": str(stored.path)}).encode())
        return replace(stored, cached=False)

    def _source_file(self, digest: str) -> Path:
        return self._sources / f"{digest.removeprefix('sha256:')}.json"

    def _address_file(self, resource: PluginResource) -> Path:
        return self._addresses / f"{hashlib.sha256(resource.url.encode()).hexdigest()}.json"


def _wants_fresh(resource: PluginResource) -> bool:
    """Whether the address is to be looked up again for each revision, as Istio defines the pull policies."""
    if resource.pull_policy != "UNSPECIFIED_POLICY":
        return resource.pull_policy == "Always"
    if not resource.url.startswith("oci://"):
        return False
    last = resource.url.rpartition("/")[2]
    return ":" not in last or last.endswith(":latest")


def _check_pin(resource: PluginResource, stored: StoredModule) -> None:
    if resource.sha256 and f"sha256:{resource.sha256}" not in (stored.digest, stored.module):
        raise ImageInvalid(
            f"{resource.url} is {stored.digest} with module {stored.module}, "
            f"but spec.sha256 wants sha256:{resource.sha256}",
            step=7,
        )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
