"""What the article takes for granted: Higress' CRD, its namespace, the quick-start services and their routes."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from labkit import kube, resources
from labkit.lab.settings import LOOPBACK, Ports

NAMESPACE = "higress-system"
"""WasmPlugins count in this namespace only, as in Higress."""


def install(client: kube.Client, ports: Ports, on_progress: Callable[[str], None]) -> None:
    """Apply the CRD, the namespaces, the quick start and the addresses of the demo upstreams."""
    on_progress("applying the CRD and the quick start")
    client.apply(resources.path("manifests/crd-wasmplugin.yaml"))
    client.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
    client.apply(resources.path("manifests/quickstart.yaml"))
    slices = [_endpoint_slice(name, getattr(ports, name)) for name in ("foo", "bar", "other")]
    client.apply(yaml.safe_dump_all(slices))


def _endpoint_slice(service: str, port: int) -> dict[str, object]:
    """The address of one demo upstream; on a cluster the endpoint slice controller writes these from Pods."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-lab",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [LOOPBACK], "conditions": {"ready": True}}],
    }
