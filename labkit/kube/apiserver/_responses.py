"""Answers: objects, lists and tables as the Accept header asks for them, and Status."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from labkit.kube.apiserver._catalog import Resource
from labkit.kube.apiserver._status import ApiError
from labkit.kube.apiserver._store import Object
from labkit.kube.apiserver._table import partial, table


def json_response(value: Any, *, code: int = 200, media_type: str = "application/json") -> Response:
    """A JSON answer."""
    return Response(json.dumps(value, separators=(",", ":")), status_code=code, media_type=media_type)


def status_response(error: ApiError) -> Response:
    """A failure."""
    return json_response(error.status(), code=error.code)


def warned(response: Response, warnings: list[str]) -> Response:
    """The same answer with Warning headers, which clients print."""
    for warning in warnings:
        # Quoted as JSON does: field names are a stranger's, and a header takes neither line ends nor Unicode.
        response.headers.append("Warning", f"299 - {json.dumps(warning)}")
    return response


@dataclass(frozen=True, slots=True)
class Shape:
    """How objects are to be shown: whole, as a table's rows, or their metadata alone."""

    resource: Resource
    form: Literal["Object", "Table", "Partial"]
    include: str = "Metadata"

    def one(self, body: Object) -> Any:
        """A single object."""
        if self.form == "Table":
            return self._table([body], {"resourceVersion": body["metadata"].get("resourceVersion", "")})
        return partial(body) if self.form == "Partial" else body

    def many(self, bodies: list[Object], metadata: dict[str, Any]) -> Any:
        """A list."""
        if self.form == "Table":
            return self._table(bodies, metadata)
        if self.form == "Partial":
            items = [partial(body) for body in bodies]
            kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        else:
            items, version = bodies, self.resource.api_version
            kind = self.resource.list_kind or self.resource.kind + "List"
        return {"kind": kind, "apiVersion": version, "metadata": metadata, "items": items}

    def event(self, kind: str, body: Object) -> Any:
        """The object of a watch event; a failure stays a Status."""
        return body if kind == "ERROR" else self.one(body) if kind != "BOOKMARK" else self._bookmark(body)

    def _bookmark(self, body: Object) -> Any:
        if self.form == "Table":
            return {**self._table([], body["metadata"]), "columnDefinitions": None}
        return partial(body) if self.form == "Partial" else body

    def _table(self, bodies: list[Object], metadata: dict[str, Any]) -> Any:
        return table(self.resource, bodies, metadata, self.include)


def shape_of(request: Request, resource: Resource) -> Shape:
    """The first form of the Accept header that is known here; JSON objects when none is."""
    for part in request.headers.get("accept", "").split(","):
        words = {word.strip() for word in part.split(";")}
        if "application/json" not in words:
            continue
        if "as=Table" in words:
            if "v=v1" in words or "v=v1beta1" in words:
                return Shape(resource, "Table", request.query_params.get("includeObject", "Metadata"))
        elif words & {"as=PartialObjectMetadata", "as=PartialObjectMetadataList"}:
            return Shape(resource, "Partial")
        else:
            break
    return Shape(resource, "Object")
