"""Getting modules and keeping them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from labkit.agent import ImageInvalid, ModuleInvalid, ModuleStore, PluginRefused, PluginResource, PullFailed, Sources
from labkit.agent.store import StoredModule
from labkit.oci.image import assemble, layer_of, tar_of

from .modules import echo
from .registry import Registry


@pytest.fixture
def registry() -> Iterator[Registry]:
    running = Registry()
    yield running
    running.close()


@pytest.fixture
def store(tmp_path: Path, registry: Registry) -> ModuleStore:
    return new_store(tmp_path, registry)


def new_store(folder: Path, registry: Registry) -> ModuleStore:
    return ModuleStore(folder / "cache", Sources({"registry.lab": registry.address}, timeout=5))


def wanting(url: str, **more: Any) -> PluginResource:
    fields = {"name": "ns.p", "version": "v", "plugin": "ns/p", "generation": 1, "revision": "u.1", "sha256": ""}
    fields |= {"pull_policy": "UNSPECIFIED_POLICY", "pull_secret": "", "fail_open": False, "config": AnyMessage()}
    return PluginResource(**{**fields, "url": url, **more})


def get(store: ModuleStore, url: str = "oci://registry.lab/p:1", **more: Any) -> StoredModule:
    return asyncio.run(store.get(wanting(url, **more)))


def test_image_is_pulled_through_the_mirror_verified_and_fitted(
    store: ModuleStore, registry: Registry, tmp_path: Path
) -> None:
    image = registry.put("p:1", echo(tmp_path, marker="proxy_abi_version_0_2_100"))
    module = get(store)
    assert (module.digest, module.layer, module.cached) == (image.digest, image.layers[0].digest, False)
    assert (module.fitted, module.abi) == (True, "0.2.1")
    assert module.module != module.fitted_digest == f"sha256:{module.path.stem}"


def test_what_is_stored_needs_no_registry_even_after_a_restart(
    store: ModuleStore, registry: Registry, tmp_path: Path
) -> None:
    registry.put("p:1", echo(tmp_path))
    first = get(store)
    registry.close()
    again = get(new_store(tmp_path, registry), revision="u.2")
    assert (again.path, again.cached) == (first.path, True)


@pytest.mark.parametrize(
    ("url", "policy", "looks"),
    [
        ("oci://registry.lab/p:1", "UNSPECIFIED_POLICY", False),
        ("oci://registry.lab/p:1", "Always", True),
        ("oci://registry.lab/p:latest", "UNSPECIFIED_POLICY", True),
        ("oci://registry.lab/p", "UNSPECIFIED_POLICY", True),
        ("oci://registry.lab/p:latest", "IfNotPresent", False),
    ],
)
def test_pull_policy_decides_whether_a_changed_resource_looks_again(
    store: ModuleStore, registry: Registry, tmp_path: Path, url: str, policy: str, looks: bool
) -> None:
    name = url.removeprefix("oci://registry.lab/")
    name = name if ":" in name else f"{name}:latest"
    registry.put(name, echo(tmp_path, "old"))
    old = get(store, url, pull_policy=policy)
    registry.put(name, echo(tmp_path, "new"))
    assert get(store, url, pull_policy=policy).digest == old.digest  # the same revision: nothing to look for
    new = get(store, url, pull_policy=policy, revision="u.2")
    assert (new.digest != old.digest) is looks


def test_tag_that_still_leads_to_the_same_image_is_not_pulled_again(
    store: ModuleStore, registry: Registry, tmp_path: Path
) -> None:
    registry.put("p:1", echo(tmp_path))
    get(store, pull_policy="Always")
    blobs = registry.asked("blobs")
    assert get(store, pull_policy="Always", revision="u.2").cached
    assert registry.asked("blobs") == blobs


def test_damaged_file_is_pulled_again(store: ModuleStore, registry: Registry, tmp_path: Path) -> None:
    registry.put("p:1", echo(tmp_path))
    first = get(store)
    first.path.write_bytes(b"\0asm")
    again = get(store)
    assert (again.path, again.cached) == (first.path, False)
    assert again.path.read_bytes() != b"\0asm"


@pytest.mark.parametrize("folder", ["sources", "addresses"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 7, "path": 7}', '{"digest": "sha256:../../x"}'])
def test_damaged_index_is_as_good_as_none(
    store: ModuleStore, registry: Registry, tmp_path: Path, folder: str, text: str
) -> None:
    registry.put("p:1", echo(tmp_path))
    first = get(store)
    (index,) = (tmp_path / "cache" / folder).iterdir()
    index.write_text(text)
    assert get(store).path == first.path


@pytest.mark.parametrize("pin", ["digest", "module"])
def test_pin_may_be_the_images_digest_or_the_modules(
    store: ModuleStore, registry: Registry, tmp_path: Path, pin: str
) -> None:
    registry.put("p:1", echo(tmp_path))
    digest = getattr(get(store), pin).removeprefix("sha256:")
    assert get(store, sha256=digest).cached
    with pytest.raises(ImageInvalid, match=r"spec\.sha256 wants"):
        get(store, sha256="0" * 64)


def test_pull_secret_opens_the_registry(store: ModuleStore, registry: Registry, tmp_path: Path) -> None:
    registry.put("p:1", echo(tmp_path))
    registry.user = "me:secret"
    with pytest.raises(PullFailed):
        get(store)
    secret = json.dumps({"auths": {"registry.lab": {"username": "me", "password": "secret"}}})
    assert get(store, pull_secret=secret).path.exists()


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("oci://registry.lab/p:9", PullFailed, "repository p"),
        ("oci://registry.lab/nobody:1", PullFailed, "no repository nobody"),
        (f"oci://registry.lab/p@sha256:{'0' * 64}", PullFailed, "repository p"),
        ("oci://registry.lab/readme:1", ImageInvalid, "plugin.wasm"),
        ("oci://registry.lab/text:1", PluginRefused, "wasm"),
        ("file:///nowhere/x.wasm", PullFailed, "/nowhere/x.wasm"),
        ("http://127.0.0.1:1/x.wasm", PullFailed, "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_had_is_said(
    store: ModuleStore, registry: Registry, tmp_path: Path, url: str, error: type[Exception], words: str
) -> None:
    registry.put("p:1", echo(tmp_path))
    registry.put_image("readme:1", assemble((layer_of(tar_of("readme", b"hello")),), builder="test"))
    registry.put_image("text:1", assemble((layer_of(tar_of("plugin.wasm", b"text")),), builder="test"))
    with pytest.raises(error, match=words):
        get(store, url)


def test_module_for_another_host_is_refused_with_the_reason(store: ModuleStore, tmp_path: Path) -> None:
    path = echo(tmp_path, marker="no_marker_at_all")
    with pytest.raises(ModuleInvalid, match="no proxy-wasm ABI marker"):
        get(store, f"file://{path}")


def test_module_may_come_by_http(store: ModuleStore, registry: Registry, tmp_path: Path) -> None:
    image = registry.put("p:1", echo(tmp_path))
    registry._blobs["x.wasm"] = (tmp_path / "one.wasm").read_bytes()
    module = get(store, f"http://{registry.address}/files/x.wasm")
    assert module.digest == module.module != image.digest


def test_those_who_want_the_same_share_one_pull_and_may_leave(
    store: ModuleStore, registry: Registry, tmp_path: Path
) -> None:
    registry.put("p:1", echo(tmp_path))
    registry.open.clear()

    async def run() -> StoredModule:
        first = asyncio.create_task(store.get(wanting("oci://registry.lab/p:1")))
        second = asyncio.create_task(store.get(wanting("oci://registry.lab/p:1", version="w")))
        while not registry.requests:
            await asyncio.sleep(0.001)
        first.cancel()
        registry.open.set()
        return await second

    assert asyncio.run(run()).path.exists()
    assert registry.asked("manifests") == 1


def test_no_half_written_files_stay(store: ModuleStore, registry: Registry, tmp_path: Path) -> None:
    registry.put("p:1", echo(tmp_path))
    get(store)
    assert not list((tmp_path / "cache").rglob("*.part"))
