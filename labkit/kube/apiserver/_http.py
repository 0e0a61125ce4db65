"""The HTTP side: one request in, one answer or stream out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from labkit.kube.apiserver import _codec, _discovery, _paths
from labkit.kube.apiserver._catalog import Catalog
from labkit.kube.apiserver._objects import Objects, Preconditions, Write
from labkit.kube.apiserver._openapi import OpenApi
from labkit.kube.apiserver._paths import Target, flag, number
from labkit.kube.apiserver._responses import Shape, json_response, shape_of, status_response, warned
from labkit.kube.apiserver._selectors import Predicate, selector
from labkit.kube.apiserver._status import ApiError, bad_request, expired, method_not_allowed, no_such_resource
from labkit.kube.apiserver._store import Object, Store
from labkit.kube.apiserver._watch import WatchRequest, watch

_log = logging.getLogger(__name__)

VERSION = {"major": "1", "minor": "37", "gitVersion": "v1.37.0-labkit", "platform": "labkit/embedded"}
"""The answer to /version: the API of this Kubernetes release, and who speaks it."""

_HEALTH = ("/healthz", "/readyz", "/livez")
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Api:
    """The server's state and its one entry point, `handle`."""

    def __init__(self, store: Store, catalog: Catalog, token: str) -> None:
        self.stopping = asyncio.Event()
        self._store = store
        self._catalog = catalog
        self._objects = Objects(store, catalog)
        self._openapi = OpenApi(catalog)
        # client-go sends a kubeconfig's token over TLS only; over plain http it sends what the server's URL carries.
        basic = base64.b64encode(f"labkit:{token}".encode()).decode()
        self._authorizations = (f"Bearer {token}".encode(), f"Basic {basic}".encode())

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/{path:path}", self.handle, methods=_METHODS)])

    def stop(self) -> None:
        """End every open watch, so that connections close."""
        self.stopping.set()
        self._store.wake()

    async def handle(self, request: Request) -> Response:
        """Answer one request; every failure becomes a Status."""
        try:
            path = request.url.path
            if path == "/" or path.startswith(_HEALTH):
                return PlainTextResponse("ok")
            self._authenticate(request)
            return await self._answer(request, path)
        except ApiError as error:
            return status_response(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            _log.exception("%s %s", request.method, request.url.path)
            return status_response(ApiError(500, "InternalError", "the API server failed; see its log"))

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not any(hmac.compare_digest(given, known) for known in self._authorizations):
            raise ApiError(401, "Unauthorized", "Unauthorized")

    async def _answer(self, request: Request, path: str) -> Response:
        if path == "/version" or path == "/version/":
            return json_response(VERSION)
        if path.startswith("/openapi/"):
            return self._openapi.answer(request)
        parts = [part for part in path.split("/") if part]
        if len(parts) <= (2 if parts[0] == "api" else 3) and parts[0] in ("api", "apis"):
            return self._discover(request, parts)
        target = _paths.parse(self._catalog, path)
        verbs = {
            "GET": self._get if target.name else self._list,
            "POST": None if target.name else self._create,
            "PUT": self._update if target.name else None,
            "PATCH": self._patch if target.name else None,
            "DELETE": self._delete if target.name else self._delete_all,
        }
        verb = verbs.get("GET" if request.method == "HEAD" else request.method)
        if verb is None or (target.subresource and request.method in ("POST", "DELETE")):
            raise method_not_allowed()
        return await verb(request, target)

    def _discover(self, request: Request, parts: list[str]) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        accept = request.headers.get("accept", "")
        if len(parts) == 1:
            for version in ("v2", "v2beta1"):
                if f"g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" in accept.replace(" ", ""):
                    document = _discovery.aggregated(self._catalog, core=parts[0] == "api", version=version)
                    media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                    return json_response(document, media_type=media)
            if parts[0] == "api":
                return json_response(_discovery.core_versions(request.headers.get("host", "")))
            return json_response(_discovery.group_list(self._catalog))
        if parts[0] == "apis" and len(parts) == 2:
            found = _discovery.group(self._catalog, parts[1])
        elif parts[0] == "api":
            found = _discovery.resource_list(self._catalog, "", parts[1])
        else:
            found = _discovery.resource_list(self._catalog, parts[1], parts[2])
        if found is None:
            raise no_such_resource()
        return json_response(found)

    async def _get(self, request: Request, target: Target) -> Response:
        body = self._objects.get(target.resource, target.store_namespace, target.name)
        return self._one(request, target, body)

    def _one(
        self, request: Request, target: Target, body: Object, code: int = 200, write: Write | None = None
    ) -> Response:
        shape = shape_of(request, target.resource)
        answer = json_response(shape.one(self._objects.shown(target.resource, body)), code=code)
        return warned(answer, write.warnings if write else [])

    async def _list(self, request: Request, target: Target) -> Response:
        query = request.query_params
        wanted = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        if flag(query, "watch"):
            return self._watch(request, target, wanted)
        limit = number(query, "limit")
        version, after = self._store.version, ("", "")
        if query.get("continue"):
            version, after = _read_continue(query["continue"])
            bodies = self._store.objects_at(target.resource.key, target.namespace, version)
        else:
            if query.get("resourceVersionMatch") == "Exact":
                version = number(query, "resourceVersion") or version
                bodies = self._store.objects_at(target.resource.key, target.namespace, version)
            else:
                bodies = self._store.objects(target.resource.key, target.namespace)
        if wanted is not None:
            bodies = [body for body in bodies if wanted(body)]
        bodies = [body for body in bodies if _place(body) > after]
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if limit and len(bodies) > limit:
            metadata["continue"] = _write_continue(version, bodies[limit - 1])
            metadata["remainingItemCount"] = len(bodies) - limit
            bodies = bodies[:limit]
        shown = [self._objects.shown(target.resource, body) for body in bodies]
        return json_response(shape_of(request, target.resource).many(shown, metadata))

    def _watch(self, request: Request, target: Target, wanted: Predicate | None) -> Response:
        query = request.query_params
        initial = flag(query, "sendInitialEvents")
        version = None if initial else number(query, "resourceVersion") or None
        if version is not None and version > self._store.version:
            raise expired(f"resource version {version} is in the future; the latest is {self._store.version}")
        if version is not None:
            self._store.changes_after(version)
        if target.name:
            raise method_not_allowed()
        seconds = number(query, "timeoutSeconds") or random.randint(1800, 3600)
        asked = WatchRequest(
            target.resource,
            target.namespace,
            wanted,
            version,
            initial_events_end=initial,
            bookmarks=flag(query, "allowWatchBookmarks"),
            seconds=float(seconds),
        )
        shape = shape_of(request, target.resource)
        return StreamingResponse(self._stream(asked, shape), media_type="application/json")

    async def _stream(self, asked: WatchRequest, shape: Shape) -> AsyncIterator[bytes]:
        async for kind, body in watch(self._store, asked, self.stopping):
            shown = body if kind in ("ERROR", "BOOKMARK") else self._objects.shown(asked.resource, body)
            event = {"type": kind, "object": shape.event(kind, shown)}
            yield json.dumps(event, separators=(",", ":")).encode() + b"\n"

    async def _create(self, request: Request, target: Target) -> Response:
        if target.resource.namespaced and target.namespace is None:
            raise method_not_allowed()
        body, write = await self._body(request), self._write_options(request, target)
        created = self._objects.create(target.resource, target.store_namespace, body, write)
        return self._one(request, target, created, 201, write)

    async def _update(self, request: Request, target: Target) -> Response:
        body, write = await self._body(request), self._write_options(request, target)
        updated = self._objects.update(target.resource, target.store_namespace, target.name, body, write)
        return self._one(request, target, updated, 200, write)

    async def _patch(self, request: Request, target: Target) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        patch, write = await self._body(request), self._write_options(request, target)
        body, created = self._objects.patch(
            target.resource, target.store_namespace, target.name, media_type, patch, write
        )
        return self._one(request, target, body, 201 if created else 200, write)

    async def _delete(self, request: Request, target: Target) -> Response:
        options = await self._delete_options(request)
        preconditions = options.get("preconditions") or {}
        if not isinstance(preconditions, dict):
            raise bad_request("preconditions must be an object")
        expected = Preconditions(str(preconditions.get("uid") or ""), str(preconditions.get("resourceVersion") or ""))
        resource = target.resource
        dry_run = self._dry_run(request, options)
        body = self._objects.delete(resource, target.store_namespace, target.name, expected, dry_run=dry_run)
        if body["metadata"].get("deletionTimestamp"):
            return self._one(request, target, body)
        details = {"name": target.name, "kind": resource.plural, "uid": body["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return json_response(status)

    async def _delete_all(self, request: Request, target: Target) -> Response:
        options = await self._delete_options(request)
        query = request.query_params
        wanted = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        dry_run = self._dry_run(request, options)
        bodies = self._objects.delete_all(target.resource, target.namespace, wanted, dry_run=dry_run)
        shown = [self._objects.shown(target.resource, body) for body in bodies]
        metadata = {"resourceVersion": str(self._store.version)}
        return json_response(shape_of(request, target.resource).many(shown, metadata))

    async def _delete_options(self, request: Request) -> dict[str, Any]:
        raw = await _read(request)
        options = _codec.decode(raw, request.headers.get("content-type", "")) if raw.strip() else {}
        if not isinstance(options, dict):
            raise bad_request("DeleteOptions must be an object")
        return options

    def _dry_run(self, request: Request, options: dict[str, Any] | None = None) -> bool:
        asked = request.query_params.getlist("dryRun") or (options or {}).get("dryRun") or []
        if asked in ([], ["All"]):
            return bool(asked)
        raise bad_request(f'dryRun: Unsupported value: {asked}: supported values: "All"')

    async def _body(self, request: Request) -> Any:
        raw = await _read(request)
        return _codec.decode(raw, request.headers.get("content-type", ""))

    def _write_options(self, request: Request, target: Target) -> Write:
        query = request.query_params
        validation = query.get("fieldValidation") or "Warn"
        if validation not in ("Strict", "Warn", "Ignore"):
            raise bad_request(
                f"fieldValidation: Unsupported value: {validation!r}: supported values: Ignore, Strict, Warn"
            )
        agent = request.headers.get("user-agent", "unknown").partition("/")[0]
        manager = query.get("fieldManager") or agent or "unknown"
        if "apply-patch" in request.headers.get("content-type", "") and not query.get("fieldManager"):
            raise bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        return Write(
            field_validation=validation,
            dry_run=self._dry_run(request),
            manager=manager[:128],
            force=flag(query, "force"),
            subresource=target.subresource,
        )


async def _read(request: Request) -> bytes:
    """The body, refused as soon as it is longer than allowed."""
    length = request.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = int(length) if length.isdigit() else 0
    if size <= _codec.MAX_BYTES:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > _codec.MAX_BYTES:
                break
            chunks.append(chunk)
    if size > _codec.MAX_BYTES:
        message = f"Request entity too large: limit is {_codec.MAX_BYTES} bytes"
        raise ApiError(413, "RequestEntityTooLarge", message)
    return b"".join(chunks)


def _place(body: Object) -> tuple[str, str]:
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


def _write_continue(version: int, last: Object) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, *_place(last)]).encode()).decode()


def _read_continue(text: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(text))
        return int(version), (str(namespace), str(name))
    except (ValueError, TypeError, binascii.Error):
        raise bad_request("continue key is not valid") from None
