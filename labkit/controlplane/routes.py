"""Ingress resources → one Envoy route configuration.

Route names are `namespace/ingress-name`: what a WasmPlugin's `ingress` rules match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.route.v3 import route_components_pb2 as components
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from labkit.controlplane.services import ServicePorts
from labkit.controlplane.wasmplugin import KubeObject

ROUTE_CONFIG = "http"
"""Name of the one route configuration."""

INGRESS_CLASS = "higress"
"""The class served; an Ingress without a class is served too."""

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"


@dataclass(frozen=True, slots=True)
class IngressRoute:
    """One path of one Ingress.

    Attributes:
        host: The host it belongs to, `*` for any.
        path: The path; a prefix without its last slash, the root as the empty text.
        exact: Whether the whole path must be equal, else elements from the left.
        ingress: `namespace/name`.
        created: The Ingress' creation time: among equals, the older wins.
        position: Place inside the Ingress.
        default: Whether this is the Ingress' default backend, which comes after everything else.
        cluster: The Envoy cluster, or None when the backend cannot be resolved.
        problem: Why it cannot.
    """

    host: str
    path: str
    exact: bool
    ingress: str
    created: str
    position: int
    default: bool
    cluster: str | None
    problem: str = ""


def route_order(route: IngressRoute) -> tuple[bool, int, bool, str, str, int]:
    """Sort key inside a virtual host: the longest path first, exact before prefix, then the older Ingress."""
    return (route.default, -len(route.path), not route.exact, route.created, route.ingress, route.position)


def ingress_routes(ingress: KubeObject, services: ServicePorts) -> Iterator[IngressRoute]:
    """The routes of one Ingress, in no particular order."""
    metadata = ingress.get("metadata") or {}
    namespace = str(metadata.get("namespace", "default"))
    name = f"{namespace}/{metadata.get('name', '')}"
    created = str(metadata.get("creationTimestamp") or "")
    spec = ingress.get("spec") or {}

    def route(host: str, path: str, exact: bool, position: int, backend: Any, default: bool = False) -> IngressRoute:
        cluster, problem = _cluster_of(namespace, backend, services)
        return IngressRoute(host, path, exact, name, created, position, default, cluster, problem)

    position = 0
    for rule in spec.get("rules") or ():
        host = str(rule.get("host") or "*").lower()
        for path in (rule.get("http") or {}).get("paths") or ():
            position += 1
            exact = path.get("pathType") == "Exact"
            text = str(path.get("path") or "/")
            yield route(host, text if exact else text.rstrip("/"), exact, position, path.get("backend"))
    if spec.get("defaultBackend"):
        yield route("*", "", False, position + 1, spec["defaultBackend"], default=True)


def is_served(ingress: KubeObject) -> bool:
    """Whether the Ingress is of this gateway's class, or of none."""
    annotations = (ingress.get("metadata") or {}).get("annotations") or {}
    wanted = (ingress.get("spec") or {}).get("ingressClassName") or annotations.get(_CLASS_ANNOTATION)
    return not wanted or wanted == INGRESS_CLASS


def route_configuration(ingresses: Iterable[KubeObject], services: ServicePorts) -> RouteConfiguration:
    """The virtual hosts of all Ingresses; what no route matches is answered with 404 by the router."""
    hosts: dict[str, list[IngressRoute]] = {"*": []}
    for ingress in ingresses:
        if is_served(ingress):
            for route in ingress_routes(ingress, services):
                hosts.setdefault(route.host, []).append(route)
    defaults = [route for route in hosts["*"] if route.default]
    return RouteConfiguration(
        name=ROUTE_CONFIG,
        # A browser names the port in its Host header; rules are about the host alone.
        ignore_port_in_host_matching=True,
        virtual_hosts=[
            components.VirtualHost(
                name=host,
                domains=[host],
                routes=[
                    _route(route) for route in sorted(routes if host == "*" else [*routes, *defaults], key=route_order)
                ],
            )
            for host, routes in sorted(hosts.items())
        ],
    )


def _cluster_of(namespace: str, backend: object, services: ServicePorts) -> tuple[str | None, str]:
    service = backend.get("service") if isinstance(backend, Mapping) else None
    if not isinstance(service, Mapping) or not service.get("name"):
        return None, "the backend names no service"
    return services.cluster(namespace, str(service["name"]), service.get("port") or {})


def _route(route: IngressRoute) -> components.Route:
    match = components.RouteMatch()
    if route.exact:
        match.path = route.path
    elif route.path:
        match.path_separated_prefix = route.path
    else:
        match.prefix = "/"
    if route.cluster is None:
        reply = components.DirectResponseAction(status=503)
        reply.body.inline_string = f"Ingress {route.ingress}: {route.problem}\n"
        return components.Route(name=route.ingress, match=match, direct_response=reply)
    return components.Route(name=route.ingress, match=match, route=components.RouteAction(cluster=route.cluster))
