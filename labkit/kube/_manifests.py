"""Manifests: YAML with one or more Kubernetes objects, with the places of their fields kept for messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labkit.kube._errors import ManifestError

Object = dict[str, Any]
Manifest = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A path, YAML (or JSON) text, one object, or several."""

_MAX_BYTES = 4 * 1024 * 1024
_MAX_EXPANDED = 8 * 1024 * 1024


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: dates stay strings, a key counts once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} appears twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a manifest.

    Attributes:
        value: The object.
        source: Where it stands, for messages: `plugin.yaml, document 2`; empty for an object made in Python.
        node: The YAML it was read from.
    """

    value: Object
    source: str = ""
    node: yaml.Node | None = field(default=None, repr=False, compare=False)

    @property
    def title(self) -> str:
        """Kind, namespace and name: `WasmPlugin higress-system/mock`."""
        metadata = self.value.get("metadata") or {}
        namespace = metadata.get("namespace")
        name = metadata.get("name") or metadata.get("generateName")
        return f"{self.value.get('kind')} {f'{namespace}/' if namespace else ''}{name}"

    def line(self, path: str) -> int | None:
        """The line in the file of a field such as `spec.matchRules[0].foo`, or of the nearest one above it."""
        node = self.node
        line: int | None = None
        for step in re.findall(r"[^.\[\]]+", path):
            below = _below(node, step)
            if below is None:
                break
            line, node = below
        return line


def _below(node: yaml.Node | None, step: str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        value = node.value[int(step)]
        return value.start_mark.line + 1, value
    return None


def documents(manifest: Manifest) -> list[Document]:
    """The objects of a manifest, in order; a `List` counts as its items.

    Raises:
        ManifestError: The file cannot be read, is not YAML, or holds something that is no Kubernetes object.
    """
    if isinstance(manifest, Mapping):
        found = list(_checked(Document(dict(manifest)), "the object"))
    elif isinstance(manifest, str | os.PathLike):
        text, name = _read(manifest)
        found = list(_parse(text, name))
    else:
        found = [one for item in manifest for one in _checked(Document(dict(item)), "the object")]
    if not found:
        raise ManifestError(
            "the manifest holds no objects", hint="it needs at least apiVersion, kind and metadata.name"
        )
    return found


def _read(manifest: str | os.PathLike[str]) -> tuple[str, str]:
    """The text of a manifest, and its file's name (empty when it was given as text)."""
    if isinstance(manifest, str) and ("\n" in manifest or manifest.lstrip().startswith("{")):
        return manifest, ""
    path = Path(manifest)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ManifestError(f"{path} is larger than {_MAX_BYTES >> 20} MB", hint="is it a manifest?")
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        raise ManifestError(
            f"there is no file {path}", hint="name a manifest, such as manifests/wasmplugin.yaml"
        ) from None
    except IsADirectoryError:
        raise ManifestError(f"{path} is a folder", hint="name a file in it") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path} is not text in UTF-8", hint="is it a manifest?") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None


def _parse(text: str, name: str) -> Iterator[Document]:
    loader = _Loader(text)
    shown = name or "the manifest"
    try:
        number = 0
        while loader.check_node():
            node = loader.get_node()
            number += 1
            if node:
                _refuse_bomb(node, shown)
            value = loader.construct_document(node)
            if value is None:
                continue
            source = f"{shown}, document {number}"
            yield from _checked(Document(value, source, node), source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        snippet = mark.get_snippet() if mark else None
        raise ManifestError(
            f"{shown}{where}: {error.problem or error.context}", hint="correct the YAML there", details=snippet
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(f"{shown} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ManifestError(f"{shown} is nested too deeply") from None
    finally:
        loader.dispose()


def _refuse_bomb(root: yaml.Node, shown: str) -> None:
    """Refuse aliases of aliases of aliases, which are a few lines here and gigabytes as JSON."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        sizes[id(node)] = _MAX_EXPANDED + 1  # an alias to what it stands in has no end
        if isinstance(node, yaml.MappingNode):
            below = [size(key) + size(value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            below = [size(value) for value in node.value]
        else:
            below = [len(node.value)]
        sizes[id(node)] = 1 + sum(below)
        return sizes[id(node)]

    if size(root) > _MAX_EXPANDED:
        raise ManifestError(
            f"{shown} grows beyond {_MAX_EXPANDED >> 20} MB when its aliases are written out",
            hint="write the repeated parts once",
        )


def _checked(document: Document, source: str) -> Iterator[Document]:
    value = document.value
    if not isinstance(value, dict):
        raise ManifestError(f"{source} is not an object", hint="each document starts with apiVersion and kind")
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise ManifestError(f"{source}: {key} is missing", hint="such as kind: WasmPlugin")
    if value["kind"] == "List" and isinstance(value.get("items"), list):
        for number, item in enumerate(value["items"], 1):
            where = f"{source}, item {number}"
            yield from _checked(Document(item, where if document.source else ""), where)
        return
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise ManifestError(f"{source} ({value['kind']}): metadata.name is missing", hint="give the object a name")
    namespace = metadata.get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        raise ManifestError(f"{source} ({value['kind']}): metadata.namespace is not a string")
    yield document
