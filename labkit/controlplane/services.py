"""Service and EndpointSlice resources → Envoy clusters and their endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3 import address_pb2, config_source_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.any_pb2 import Any as AnyMessage

from labkit.controlplane.wasmplugin import KubeObject

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP2_PROTOCOLS = ("kubernetes.io/h2c", "grpc", "h2c", "http2")


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One TCP port of a Service.

    Attributes:
        namespace: The Service's namespace.
        service: The Service's name.
        number: The port clients use.
        name: The port's name, empty when it has none.
        http2: Whether the Service says that it speaks HTTP/2.
        external_name: The DNS name an ExternalName Service stands for, or empty.
    """

    namespace: str
    service: str
    number: int
    name: str = ""
    http2: bool = False
    external_name: str = ""

    @property
    def cluster(self) -> str:
        """The Envoy cluster's name, as Istio and Higress form it."""
        return f"outbound|{self.number}||{self.service}.{self.namespace}.svc.cluster.local"


class ServicePorts:
    """All ports of all Services, to be found by what an Ingress backend says."""

    def __init__(self, services: Iterable[KubeObject]) -> None:
        self.ports: dict[str, ServicePort] = {
            port.cluster: port for service in services for port in service_ports(service)
        }
        self._by_service: dict[tuple[str, str], list[ServicePort]] = {}
        for port in self.ports.values():
            self._by_service.setdefault((port.namespace, port.service), []).append(port)

    def cluster(self, namespace: str, service: str, wanted: Mapping[str, Any]) -> tuple[str | None, str]:
        """The cluster for a backend's `port` (`number` or `name`), or None and why there is none."""
        ports = self._by_service.get((namespace, service))
        if ports is None:
            return None, f"there is no Service {namespace}/{service}"
        for port in ports:
            if (port.number == wanted["number"]) if wanted.get("number") else (port.name == wanted.get("name")):
                return port.cluster, ""
        return None, f"Service {namespace}/{service} has no port {wanted.get('number') or wanted.get('name')}"


def service_ports(service: KubeObject) -> Iterator[ServicePort]:
    """The TCP ports of one Service."""
    metadata = service.get("metadata") or {}
    spec = service.get("spec") or {}
    for port in spec.get("ports") or ():
        if port.get("protocol", "TCP") == "TCP" and isinstance(port.get("port"), int):
            yield ServicePort(
                namespace=str(metadata.get("namespace", "default")),
                service=str(metadata.get("name", "")),
                number=port["port"],
                name=str(port.get("name") or ""),
                http2=str(port.get("appProtocol") or "").lower() in _HTTP2_PROTOCOLS,
                external_name=str(spec.get("externalName") or "") if spec.get("type") == "ExternalName" else "",
            )


def cluster(port: ServicePort) -> Cluster:
    """The cluster of one port; its endpoints come over EDS, but for an ExternalName."""
    result = Cluster(name=port.cluster)
    result.connect_timeout.FromSeconds(5)
    if port.external_name:
        result.type = Cluster.STRICT_DNS
        result.load_assignment.CopyFrom(_assignment(port.cluster, [(port.external_name, port.number)]))
    else:
        result.type = Cluster.EDS
        result.eds_cluster_config.eds_config.CopyFrom(ads_source())
    if port.http2:
        options = HttpProtocolOptions()
        options.explicit_http_config.http2_protocol_options.SetInParent()
        packed = AnyMessage()
        packed.Pack(options, deterministic=True)
        result.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed)
    return result


def endpoints(port: ServicePort, slices: Iterable[KubeObject]) -> endpoint_pb2.ClusterLoadAssignment:
    """Who answers for a port: the ready endpoints, else (as kube-proxy does) those that still serve."""
    ready: set[tuple[str, int]] = set()
    serving: set[tuple[str, int]] = set()
    for endpoint_slice in slices:
        numbers = [
            entry["port"]
            for entry in endpoint_slice.get("ports") or ()
            if str(entry.get("name") or "") == port.name and isinstance(entry.get("port"), int)
        ]
        for endpoint in endpoint_slice.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            found = {(str(a), number) for a in endpoint.get("addresses") or () for number in numbers}
            if conditions.get("ready") is not False:
                ready |= found
            elif conditions.get("serving"):
                serving |= found
    return _assignment(port.cluster, sorted(ready or serving))


def slices_by_service(slices: Iterable[KubeObject]) -> dict[tuple[str, str], list[KubeObject]]:
    """EndpointSlices by the namespace and name of the Service they belong to."""
    found: dict[tuple[str, str], list[KubeObject]] = {}
    for endpoint_slice in slices:
        metadata = endpoint_slice.get("metadata") or {}
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
        if service and endpoint_slice.get("addressType", "IPv4") in ("IPv4", "IPv6"):
            found.setdefault((str(metadata.get("namespace", "default")), str(service)), []).append(endpoint_slice)
    return found


def ads_source() -> config_source_pb2.ConfigSource:
    """The one place every resource comes from: the stream the gateway has with its agent."""
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
    source.ads.SetInParent()
    return source


def _assignment(name: str, addresses: Iterable[tuple[str, int]]) -> endpoint_pb2.ClusterLoadAssignment:
    locality = endpoint_components_pb2.LocalityLbEndpoints(
        lb_endpoints=[
            endpoint_components_pb2.LbEndpoint(
                endpoint=endpoint_components_pb2.Endpoint(
                    address=address_pb2.Address(
                        socket_address=address_pb2.SocketAddress(address=address, port_value=number)
                    )
                )
            )
            for address, number in addresses
        ]
    )
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=[locality] if locality.lb_endpoints else [])
