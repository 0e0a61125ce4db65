"""Ingresses and Services as Envoy sees them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from labkit.controlplane.routes import ingress_routes, is_served, route_configuration, route_order
from labkit.controlplane.services import ServicePorts, cluster, endpoints, service_ports, slices_by_service

FOO = "outbound|80||foo.default.svc.cluster.local"


def service(name: str, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    listed = list(ports) or [{"name": "http", "port": 80}]
    return {"metadata": {"namespace": "default", "name": name}, "spec": {"ports": listed, **spec}}


def path(text: str, kind: str = "Prefix", name: str = "foo", **port: Any) -> dict[str, Any]:
    backend = {"service": {"name": name, "port": port or {"number": 80}}}
    return {"path": text, "pathType": kind, "backend": backend}


def ingress(name: str, *paths: dict[str, Any], host: str | None = None, **spec: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {"http": {"paths": list(paths)}}
    if host:
        rule["host"] = host
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {**({"rules": [rule]} if paths else {}), **spec},
    }


def hosts(*ingresses: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    services = ServicePorts([service("foo"), service("bar")])
    found = MessageToDict(route_configuration(ingresses, services), preserving_proto_field_name=True)
    return {host["domains"][0]: host.get("routes", []) for host in found["virtual_hosts"]}


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (path("/foo"), {"path_separated_prefix": "/foo"}),
        (path("/foo/"), {"path_separated_prefix": "/foo"}),
        (path("/"), {"prefix": "/"}),
        (path("/foo", "Exact"), {"path": "/foo"}),
        (path("/foo/", "Exact"), {"path": "/foo/"}),
        (path("/foo", "ImplementationSpecific"), {"path_separated_prefix": "/foo"}),
    ],
)
def test_path_types(entry: dict[str, Any], match: dict[str, str]) -> None:
    (route,) = hosts(ingress("one", entry))["*"]
    assert route == {"name": "default/one", "match": match, "route": {"cluster": FOO}}


def test_longest_path_comes_first_and_exact_before_prefix() -> None:
    found = hosts(
        ingress("one", path("/"), path("/foo"), path("/foo/bar")),
        ingress("two", path("/foo", "Exact")),
    )
    matches = [next(iter(route["match"].items())) for route in found["*"]]
    assert matches == [
        ("path_separated_prefix", "/foo/bar"),
        ("path", "/foo"),
        ("path_separated_prefix", "/foo"),
        ("prefix", "/"),
    ]


def test_hosts_have_their_own_routes_and_the_default_backend_comes_last_everywhere() -> None:
    found = hosts(
        ingress("one", path("/foo"), host="www.Example.com"),
        ingress("wild", path("/bar"), host="*.example.com"),
        ingress("default", defaultBackend=path("/", name="bar")["backend"]),
    )
    assert [route["name"] for route in found["www.example.com"]] == ["default/one", "default/default"]
    assert [route["name"] for route in found["*.example.com"]] == ["default/wild", "default/default"]
    assert [route["name"] for route in found["*"]] == ["default/default"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (path("/", name="nobody"), "there is no Service default/nobody"),
        (path("/", number=81), "has no port 81"),
        (path("/", name_="x") | {"backend": {"resource": {}}}, "names no service"),
    ],
)
def test_backend_that_is_missing_is_said_in_the_answer(entry: dict[str, Any], problem: str) -> None:
    (route,) = hosts(ingress("one", entry))["*"]
    assert route["direct_response"]["status"] == 503
    assert problem in route["direct_response"]["body"]["inline_string"]


def test_port_of_a_backend_may_be_named() -> None:
    entry = path("/")
    entry["backend"]["service"]["port"] = {"name": "http"}
    (route,) = hosts(ingress("one", entry))["*"]
    assert route["route"]["cluster"] == FOO


@pytest.mark.parametrize(
    ("spec", "annotations", "served"),
    [
        ({}, {}, True),
        ({"ingressClassName": "higress"}, {}, True),
        ({"ingressClassName": "nginx"}, {}, False),
        ({}, {"kubernetes.io/ingress.class": "nginx"}, False),
    ],
)
def test_only_this_gateways_class_is_served(spec: dict[str, Any], annotations: dict[str, str], served: bool) -> None:
    assert is_served({"metadata": {"annotations": annotations}, "spec": spec}) is served


paths = st.builds(
    path,
    st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"]),
)


@given(st.lists(st.lists(paths, min_size=1, max_size=3), max_size=4), st.randoms())
def test_route_order_is_total_and_no_route_hides_a_better_one(
    entries: list[list[dict[str, Any]]], shuffle: Any
) -> None:
    services = ServicePorts([service("foo")])
    routes = [
        route
        for index, listed in enumerate(entries)
        for route in ingress_routes(ingress(f"i{index}", *listed), services)
    ]
    ordered = sorted(routes, key=route_order)
    shuffle.shuffle(routes)
    assert sorted(routes, key=route_order) == ordered
    for before, after in itertools.pairwise(ordered):
        assert len(before.path) >= len(after.path)
        assert len(before.path) > len(after.path) or before.exact or not after.exact


def test_clusters_are_named_as_istio_names_them() -> None:
    found = list(service_ports(service("foo", {"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"})))
    assert [port.cluster for port in found] == [FOO]
    assert cluster(found[0]).type == 3  # EDS


def test_external_name_is_looked_up_in_dns() -> None:
    (port,) = service_ports(service("out", {"port": 443}, type="ExternalName", externalName="example.com"))
    found = cluster(port)
    assert found.type == 1  # STRICT_DNS
    address = found.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    assert (address.address, address.port_value) == ("example.com", 443)


def test_endpoints_are_the_ready_ones_of_all_slices_else_the_serving() -> None:
    (port,) = service_ports(service("foo"))

    def slice_of(*found: dict[str, Any], name: str = "http") -> dict[str, Any]:
        metadata = {"namespace": "default", "labels": {"kubernetes.io/service-name": "foo"}}
        return {"metadata": metadata, "ports": [{"name": name, "port": 8080}], "endpoints": list(found)}

    ready = {"addresses": ["10.0.0.2"], "conditions": {"ready": True}}
    unknown = {"addresses": ["10.0.0.1"]}
    leaving = {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": True, "terminating": True}}

    def addresses(*slices: dict[str, Any]) -> list[str]:
        mine = slices_by_service(slices).get(("default", "foo"), [])
        found = endpoints(port, mine).endpoints
        return [e.endpoint.address.socket_address.address for locality in found for e in locality.lb_endpoints]

    assert addresses(slice_of(ready, leaving), slice_of(unknown)) == ["10.0.0.1", "10.0.0.2"]
    assert addresses(slice_of(leaving)) == ["10.0.0.3"]
    assert addresses(slice_of(ready, name="other")) == []
    assert addresses() == []
