"""A snapshot: every xDS resource the gateway should have, with versions that are hashes of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from labkit.controlplane.listener import pack

_TYPES = "type.googleapis.com/envoy.config."
CLUSTER = f"{_TYPES}cluster.v3.Cluster"
ENDPOINTS = f"{_TYPES}endpoint.v3.ClusterLoadAssignment"
LISTENER = f"{_TYPES}listener.v3.Listener"
ROUTES = f"{_TYPES}route.v3.RouteConfiguration"
EXTENSION = f"{_TYPES}core.v3.TypedExtensionConfig"

TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION)
"""The types served, in the order in which they are sent."""


@dataclass(frozen=True)
class Resource:
    """One xDS resource, packed for the wire.

    Attributes:
        name: Its name.
        body: Its bytes, as they are sent.
    """

    name: str
    body: AnyMessage

    @cached_property
    def version(self) -> str:
        """A hash of the content."""
        return hashlib.sha256(self.body.value).hexdigest()[:16]

    @classmethod
    def of(cls, message: Message) -> Resource:
        """The resource that a message of one of the xDS types is."""
        name = message.cluster_name if message.DESCRIPTOR.name == "ClusterLoadAssignment" else message.name  # type: ignore[attr-defined]
        return cls(name, pack(message))


class Snapshot:
    """All resources by type and name; never changed after it is made."""

    def __init__(self, resources: Iterable[Message] = ()) -> None:
        types: dict[str, dict[str, Resource]] = {type_url: {} for type_url in TYPES}
        for message in resources:
            resource = Resource.of(message)
            types[resource.body.type_url][resource.name] = resource
        self._types = types

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of one type by name; empty for a type that is not served."""
        return MappingProxyType(self._types.get(type_url, {}))


def version_of(resources: Iterable[Resource]) -> str:
    """The version of a set of resources: a hash of their names and contents in the order of names."""
    digest = hashlib.sha256()
    for resource in sorted(resources, key=lambda item: item.name):
        digest.update(f"{resource.name}\0{resource.version}\n".encode())
    return digest.hexdigest()[:16]
