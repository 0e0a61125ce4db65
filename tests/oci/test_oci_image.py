"""Building images without Docker, and taking modules out of images of every kind."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import UsageError
from labkit.oci import (
    Descriptor,
    DigestMismatch,
    Image,
    ImageTooLarge,
    InvalidImage,
    Layer,
    ModuleNotInImage,
    OciError,
    build_image,
    digest_of,
    extract_module,
)
from labkit.oci.image import DOCKER_LAYER, OCI_LAYER, WASM_LAYER, assemble, tar_of
from labkit.oci.manifest import choose, read_index, read_manifest

MODULE = b"\0asm\x01\0\0\0"


def archive(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def image(*packed: bytes, kind: str = DOCKER_LAYER, oci: bool = False) -> Image:
    layers = tuple(Layer(Descriptor.of(kind, content), content) for content in packed)
    return assemble(layers, oci=oci, builder="test")


@pytest.mark.parametrize("oci", [False, True])
def test_the_module_comes_out_as_it_went_in(mock_module: Path, oci: bool):
    built = build_image(mock_module, oci=oci)
    extracted = extract_module(built)
    assert extracted.content == mock_module.read_bytes()
    assert extracted.digest == digest_of(extracted.content)
    assert (extracted.layer, extracted.diff_id) == (built.layers[0].digest, built.layers[0].diff_id)
    config, manifest = json.loads(built.config), json.loads(built.manifest)
    assert config["rootfs"]["diff_ids"] == [extracted.diff_id]
    assert manifest["config"]["digest"] == digest_of(built.config)
    assert read_manifest(built.manifest, built.media_type, "image").digest == built.digest


def test_the_same_module_gives_the_same_image_anywhere(tmp_path: Path):
    (tmp_path / "other.wasm").write_bytes(MODULE)
    assert build_image(MODULE) == build_image(tmp_path / "other.wasm")


def test_the_layer_is_what_other_tools_read():
    with tarfile.open(fileobj=io.BytesIO(build_image(MODULE).layers[0].content), mode="r:gz") as tar:
        [entry] = tar.getmembers()
    assert (entry.name, entry.size, entry.mtime, entry.uid, entry.mode) == ("plugin.wasm", 8, 0, 0, 0o644)


@pytest.mark.parametrize("module", [b"text", "does-not-exist.wasm"])
def test_what_is_no_module_gets_no_image(module: bytes | str):
    with pytest.raises(UsageError):
        build_image(module)


def test_only_the_last_layer_counts():
    first, last = (gzip.compress(tar_of("plugin.wasm", MODULE + bytes((n,)))) for n in (1, 2))
    assert extract_module(image(first, last)).content == MODULE + b"\2"
    with pytest.raises(ModuleNotInImage, match=r"the last of its 2 layers has etc/hosts"):
        extract_module(image(first, gzip.compress(archive(("etc/hosts", b"")))))


@pytest.mark.parametrize("path", ["plugin.wasm", "./plugin.wasm", "/plugin.wasm", "opt/wasm/plugin.wasm"])
def test_the_file_may_be_in_any_directory(path: str):
    assert extract_module(image(gzip.compress(archive(("a", b""), (path, MODULE))))).content == MODULE


def test_an_artifact_has_the_module_as_a_layer():
    config = Layer(Descriptor.of("application/json", b"{}"), b"{}")
    wasm = Layer(Descriptor.of(WASM_LAYER, MODULE), MODULE)
    extracted = extract_module(assemble((config, wasm), oci=True, builder="test"))
    assert (extracted.content, extracted.path) == (MODULE, None)
    with pytest.raises(ModuleNotInImage, match="no layer that a gateway reads"):
        extract_module(assemble((wasm,), oci=True, builder="test"))


def test_gzip_files_in_a_row_are_one_layer():
    packed = archive(("plugin.wasm", MODULE))
    assert extract_module(image(gzip.compress(packed[:700]) + gzip.compress(packed[700:]))).content == MODULE


GOOD = gzip.compress(archive(("plugin.wasm", MODULE)))


@pytest.mark.parametrize(
    ("packed", "error", "message"),
    [
        (
            gzip.compress(archive(("main.go", b""), ("go.mod", b""))),
            ModuleNotInImage,
            r"has main\.go, go\.mod",
        ),
        (gzip.compress(archive()), ModuleNotInImage, "no files"),
        (gzip.compress(archive(("../plugin.wasm", MODULE))), InvalidImage, "leads out"),
        (gzip.compress(archive(special("plugin.wasm", tarfile.SYMTYPE, "/etc/passwd"))), InvalidImage, "ordinary"),
        (gzip.compress(archive(special("plugin.wasm", tarfile.LNKTYPE, "/etc/passwd"))), InvalidImage, "ordinary"),
        (gzip.compress(archive(special("plugin.wasm", tarfile.FIFOTYPE))), InvalidImage, "ordinary"),
        (gzip.compress(archive(("plugin.wasm", b"ELF"))), InvalidImage, "not a wasm module"),
        (b"not gzip", InvalidImage, "not a proper tar"),
        (GOOD[:-20], InvalidImage, "not a proper tar"),
        (gzip.compress(b"x" * 600), InvalidImage, "not a proper tar"),
        (gzip.compress(archive(("plugin.wasm", MODULE * 99))[:600]), InvalidImage, "not a proper tar"),
        (gzip.compress(b"") * 20_000, InvalidImage, "too many members"),
        (
            gzip.compress(archive(*[special(f"f{n}", tarfile.DIRTYPE) for n in range(20_001)])),
            InvalidImage,
            "20000 files",
        ),
    ],
)
def test_damaged_and_hostile_layers_are_refused(packed: bytes, error: type[OciError], message: str):
    with pytest.raises(error, match=message) as caught:
        extract_module(image(packed))
    assert caught.value.hint


def test_a_layer_of_another_kind_is_refused_with_its_kind():
    zstd = "application/vnd.oci.image.layer.v1.tar+zstd"
    with pytest.raises(ModuleNotInImage, match="zstd"):
        extract_module(image(GOOD, kind=zstd, oci=True))
    with pytest.raises(ModuleNotInImage):
        extract_module(image(GOOD, kind=OCI_LAYER))


def test_a_bomb_is_stopped_at_the_limit():
    compressor = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    entry = tarfile.TarInfo("plugin.wasm")
    entry.size = 1 << 33
    packed = compressor.compress(entry.tobuf()) + compressor.compress(bytes(64 << 20)) + compressor.flush()
    with pytest.raises(ImageTooLarge, match="more than 16 MiB"):
        extract_module(image(packed), limit=16 << 20)


def test_a_sparse_file_does_not_get_round_the_limit():
    info = tarfile.TarInfo("plugin.wasm")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    info.size = 512
    packed = gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + b"1\n1099511627776\n0\n".ljust(512, b"\0") + bytes(1024))
    with pytest.raises(InvalidImage):
        extract_module(image(packed))


def test_a_layer_of_another_image_is_noticed():
    built = build_image(MODULE)
    foreign = replace(built.layers[0], diff_id="sha256:" + "0" * 64)
    with pytest.raises(DigestMismatch, match="config says"):
        extract_module(replace(built, layers=(foreign,)))


@settings(max_examples=200)
@given(st.binary(max_size=600), st.booleans())
def test_any_layer_is_read_or_refused(content: bytes, packed: bool):
    with pytest.raises(OciError):
        extract_module(image(gzip.compress(content) if packed else content))


@settings(max_examples=200)
@given(st.integers(0, 1535), st.integers(0, 255))
def test_a_damaged_archive_is_read_or_refused(place: int, value: int):
    damaged = bytearray(archive(("plugin.wasm", MODULE), ("b", b"")))
    damaged[place] = value
    try:
        extract_module(image(gzip.compress(bytes(damaged))))
    except OciError as error:
        assert error.hint  # noqa: PT017


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([OCI_LAYER, digest_of(b"")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["layers", "config", "mediaType", "digest", "size", "manifests", "platform", "schemaVersion"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(JSON | st.binary(max_size=30))
def test_any_manifest_is_read_or_refused(document: object):
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    for read in (lambda: read_manifest(content, "", "image"), lambda: choose(read_index(content, "image"), "image")):
        try:
            read()
        except InvalidImage as error:
            assert error.hint  # noqa: PT017


@pytest.mark.parametrize(
    ("platforms", "chosen"),
    [
        ([("linux", "arm64"), ("linux", "amd64"), ("wasip1", "wasm")], 2),
        ([("linux", "arm64"), ("linux", "amd64")], 1),
        ([("unknown", "unknown"), ("linux", "arm64")], 1),
    ],
)
def test_of_an_index_the_wasm_image_is_taken(platforms: list[tuple[str, str]], chosen: int):
    manifests = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest_of(bytes((n,))),
            "size": 1,
            "platform": {"os": os, "architecture": architecture},
        }
        for n, (os, architecture) in enumerate(platforms)
    ]
    listed = read_index(json.dumps({"manifests": manifests}).encode(), "image")
    assert choose(listed, "image").digest == digest_of(bytes((chosen,)))
