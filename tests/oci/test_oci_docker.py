"""The Docker engine's way to an image, on a real dockerd."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from labkit import oci, resources
from labkit.errors import UsageError

pytestmark = pytest.mark.docker


@pytest.fixture
def context(tmp_path: Path, mock_module: Path) -> Path:
    shutil.copy(resources.path("plugins/mock") / "Dockerfile", tmp_path)
    shutil.copy(mock_module, tmp_path / "plugin.wasm")
    return tmp_path


def test_docker_and_labkit_build_the_same_layout(docker_engine: Any, context: Path, mock_module: Path, registry: Any):
    lines: list[str] = []
    built = oci.build_with_docker(context, "mock:test", engine=docker_engine, on_progress=lines.append)
    assert any("COPY plugin.wasm" in line for line in lines)
    extracted, without = oci.extract_module(built), oci.build_image(mock_module)
    assert extracted.content == mock_module.read_bytes()
    assert extracted.path == oci.extract_module(without).path
    assert built.builder == "docker"
    assert (built.media_type, len(built.layers)) == (without.media_type, len(without.layers))
    assert built.layers[0].descriptor.media_type == without.layers[0].descriptor.media_type
    with registry.client() as client:
        client.push(built, "registry.lab/mock:docker")
        assert client.pull("registry.lab/mock:docker").digest == built.digest


def test_docker_takes_what_labkit_pushed(docker_engine: Any, mock_module: Path, registry: Any):
    with registry.client() as client:
        pushed = client.push(oci.build_image(mock_module), "registry.lab/mock:1")
    image = docker_engine.images.pull(f"{registry.address}/mock", tag="1")
    assert image.attrs["RepoDigests"] == [f"{registry.address}/mock@{pushed.digest}"]


def test_what_the_engine_refuses_is_said_in_its_words(docker_engine: Any, context: Path):
    (context / "plugin.wasm").unlink()
    with pytest.raises(oci.DockerBuildFailed, match=r"plugin\.wasm: file does not exist") as caught:
        oci.build_with_docker(context, "mock:test", engine=docker_engine)
    assert "labkit build" in (caught.value.hint or "")
    (context / "Dockerfile").unlink()
    with pytest.raises(UsageError, match="no Dockerfile"):
        oci.build_with_docker(context, "mock:test", engine=docker_engine)


def test_no_engine_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(oci.DockerUnavailable, match="no Docker engine answers"):
        oci.docker_engine()
