"""OpenAPI documents, made from the served kinds' schemas: what kubectl explains, validates and patches by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from labkit.kube.apiserver._catalog import Catalog, Resource
from labkit.kube.apiserver._models import Schema, model_schema
from labkit.kube.apiserver._openapi_proto import encode_document
from labkit.kube.apiserver._patch import MERGE_KEYS
from labkit.kube.apiserver._responses import json_response
from labkit.kube.apiserver._status import no_such_resource

# The type that clients ask for has an @, which their own parsers of answers refuse.
_PROTOBUF = "application/octet-stream"

_QUERY = ("dryRun", "fieldManager", "fieldValidation")


class OpenApi:
    """The documents, made on first use and again when a CustomResourceDefinition changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._made: dict[str, tuple[int, bytes]] = {}

    def answer(self, request: Request) -> Response:
        """Answer a request below /openapi/."""
        path = request.url.path.removeprefix("/openapi/").rstrip("/")
        if path == "v2":
            if "proto-openapi" in request.headers.get("accept", "") and "json" not in request.headers.get("accept", ""):
                return Response(self._cached("v2.pb", lambda: encode_document(self._v2())), media_type=_PROTOBUF)
            return self._json("v2", self._v2)
        if path == "v3":
            return json_response(self._index())
        if path.startswith("v3/"):
            group, version = self._split(path.removeprefix("v3/"))
            if any((held.group, held.version) == (group, version) for held in self._catalog.all()):
                return self._json(path, lambda: self._v3(group, version))
        raise no_such_resource()

    def _json(self, key: str, make: Callable[[], dict[str, Any]]) -> Response:
        text = self._cached(key, lambda: json.dumps(make(), separators=(",", ":")).encode())
        return Response(text, media_type="application/json")

    def _cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        held = self._made.get(key)
        if held is None or held[0] != self._catalog.revision:
            held = self._made[key] = (self._catalog.revision, make())
        return held[1]

    def _split(self, path: str) -> tuple[str, str]:
        parts = path.split("/")
        if parts[0] == "api" and len(parts) == 2:
            return "", parts[1]
        return (parts[1], parts[2]) if parts[0] == "apis" and len(parts) == 3 else ("", "")

    def _index(self) -> dict[str, Any]:
        paths = {}
        for resource in self._catalog.all():
            path = f"apis/{resource.group}/{resource.version}" if resource.group else f"api/{resource.version}"
            held = [r for r in self._catalog.all() if (r.group, r.version) == (resource.group, resource.version)]
            digest = hashlib.sha256(repr([(r.kind, r.schema) for r in held]).encode()).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def _v3(self, group: str, version: str) -> dict[str, Any]:
        served = [held for held in self._catalog.all() if (held.group, held.version) == (group, version)]
        names = _Names(served, "#/components/schemas/", custom_extensions=True)
        paths: dict[str, Any] = {}
        for resource in served:
            paths |= _paths_of(resource, names, v3=True)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.37.0-labkit"},
            "paths": paths,
            "components": {"schemas": names.definitions()},
        }

    def _v2(self) -> dict[str, Any]:
        names = _Names(self._catalog.all(), "#/definitions/", custom_extensions=False)
        paths: dict[str, Any] = {}
        for resource in self._catalog.all():
            paths |= _paths_of(resource, names, v3=False)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.37.0-labkit"},
            "paths": paths,
            "definitions": names.definitions(),
        }


class _Names:
    """Gives every schema its public name and rewrites references to it."""

    def __init__(self, served: list[Resource], prefix: str, *, custom_extensions: bool) -> None:
        self._prefix = prefix
        self._custom_extensions = custom_extensions
        self._done: dict[str, Schema] = {}
        self._kinds = {resource.model: resource for resource in served if resource.model}
        for resource in served:
            self._add_kind(resource)

    def definitions(self) -> dict[str, Schema]:
        """Every schema by name."""
        return dict(sorted(self._done.items()))

    def of(self, resource: Resource) -> str:
        """The name of a kind's schema."""
        if resource.model:
            return self._model_name(resource.model)
        reverse = ".".join(reversed(resource.group.split(".")))
        return f"{reverse}.{resource.version}.{resource.kind}"

    def reference(self, name: str) -> Schema:
        """A reference to a schema by its public name."""
        return {"$ref": self._prefix + name}

    def _model_name(self, model: str) -> str:
        kind = model.removeprefix("CoreV1").removeprefix("V1")
        if model in self._kinds:
            group = self._kinds[model].group
        elif model in _META_MODELS:
            return f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"
        else:
            group = ""
        package = (group.split(".")[0] or "core") if group else "core"
        if group == "apiextensions.k8s.io":
            return f"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{kind}"
        return f"io.k8s.api.{package}.v1.{kind}"

    def _add_kind(self, resource: Resource) -> None:
        kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}
        if resource.model:
            self._add_model(resource.model)
            schema = self._done[self.of(resource)]
        else:
            schema = self._rewrite(resource.object_schema(), "")
            self._done[self.of(resource)] = schema
        schema["x-kubernetes-group-version-kind"] = [kind]

    def _add_model(self, model: str) -> None:
        name = self._model_name(model)
        if name not in self._done:
            self._done[name] = {}
            self._done[name] = self._rewrite(model_schema(model), _MODEL_PATHS.get(model, "?"))

    def _rewrite(self, schema: Any, path: str) -> Any:
        """A copy with public references, in the dialect of this document."""
        if "$ref" in schema:
            self._add_model(schema["$ref"])
            reference = self.reference(self._model_name(schema["$ref"]))
            extra = {key: value for key, value in schema.items() if key == "description"}
            return {"allOf": [reference], **extra} if extra and self._custom_extensions else {**extra, **reference}
        result: dict[str, Any] = {}
        for key, value in schema.items():
            if key == "properties":
                result[key] = {
                    name: self._rewrite(below, f"{path}.{name}" if path else name) for name, below in value.items()
                }
            elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
                result[key] = self._rewrite(value, path)
            elif key in ("allOf", "anyOf", "oneOf"):
                if self._custom_extensions:
                    result[key] = [self._rewrite(below, path) for below in value]
            else:
                result[key] = value
        if path in MERGE_KEYS and result.get("type") == "array":
            result["x-kubernetes-patch-merge-key"] = MERGE_KEYS[path]
            result["x-kubernetes-patch-strategy"] = "merge"
        if not self._custom_extensions and schema.get("x-kubernetes-preserve-unknown-fields"):
            # The validation of old clients knows no such extension; without properties an object is free-form.
            result.pop("properties", None)
        return result


_META_MODELS = {"V1ObjectMeta", "V1ManagedFieldsEntry", "V1OwnerReference", "V1Condition", "V1LabelSelector"}
_MODEL_PATHS = {
    "V1ServiceSpec": "spec",
    "V1ObjectMeta": "metadata",
    "V1ServiceStatus": "status",
    "V1CustomResourceDefinitionStatus": "status",
    "V1NamespaceStatus": "status",
}


def _paths_of(resource: Resource, names: _Names, *, v3: bool) -> dict[str, Any]:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    middle = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{root}{middle}/{resource.plural}"
    kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}

    def operation(action: str, *, write: bool) -> dict[str, Any]:
        text = {"type": "string"}
        query = [
            {"name": name, "in": "query", **({"schema": text} if v3 else {"type": "string"})}
            for name in _QUERY
            if write
        ]
        reference = names.reference(names.of(resource))
        content = {"application/json": {"schema": reference}}
        answer: dict[str, Any] = {"description": "OK", **({"content": content} if v3 else {"schema": reference})}
        made: dict[str, Any] = {
            "operationId": f"{action}{resource.kind}",
            "responses": {"200": answer},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        }
        if query:
            made["parameters"] = query
        return made

    return {
        collection: {"get": operation("list", write=False), "post": operation("post", write=True)},
        collection + "/{name}": {
            "get": operation("get", write=False),
            "put": operation("put", write=True),
            "patch": operation("patch", write=True),
            "delete": operation("delete", write=True),
        },
    }
