"""What a request's path and query ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.kube.apiserver._catalog import Catalog, Resource
from labkit.kube.apiserver._status import bad_request, no_such_resource


@dataclass(frozen=True, slots=True)
class Target:
    """A resource's path: the kind, the namespace (None: all of them, or cluster-scoped), one object, a subresource."""

    resource: Resource
    namespace: str | None
    name: str
    subresource: str

    @property
    def store_namespace(self) -> str:
        """The namespace as the store keys it."""
        return self.namespace or ""


def parse(catalog: Catalog, path: str) -> Target:
    """The target of `/api/v1/…` or `/apis/GROUP/VERSION/…`; 404 when nothing is served there."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_resource()
    namespace: str | None = None
    # /namespaces/NAME/status is about the namespace; /namespaces/NAME/services about what is in it.
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = catalog.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace is not None and not resource.namespaced):
        raise no_such_resource()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if name and resource.namespaced and namespace is None:
        raise no_such_resource()
    if subresource and not (subresource == "status" and resource.has_status):
        raise no_such_resource()
    return Target(resource, namespace, name, subresource)


def flag(query: Mapping[str, str], key: str) -> bool:
    """A boolean of the query; `?watch`, `?watch=1` and `?watch=true` are all true."""
    value = query.get(key)
    if value is None:
        return False
    if value.lower() in ("", "1", "true", "t"):
        return True
    if value.lower() in ("0", "false", "f"):
        return False
    raise bad_request(f"invalid value for query parameter {key}: {value!r} is not a boolean")


def number(query: Mapping[str, str], key: str) -> int | None:
    """A non-negative number of the query, or None when it is not there."""
    value = query.get(key)
    if not value:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise bad_request(f"invalid value for query parameter {key}: {value!r} is not a number")
    return int(value)
