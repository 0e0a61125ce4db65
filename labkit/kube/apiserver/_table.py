"""Tables: what `kubectl get` prints, computed by the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from labkit.kube.apiserver._catalog import Column, Resource
from labkit.kube.apiserver._store import Object

_NAME = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Name must be unique within a namespace.",
    "priority": 0,
}

_STEP = re.compile(
    r"\.?([A-Za-z0-9_$-]+)|\[\?\(@\.([A-Za-z0-9_.-]+)\s*==\s*[\"']([^\"']*)[\"']\)\]|\[(\d+|\*)\]|\['([^']+)'\]"
)


def table(resource: Resource, bodies: Iterable[Object], metadata: dict[str, Any], include: str) -> dict[str, Any]:
    """A `Table` of objects.

    Args:
        resource: Their kind.
        bodies: The objects, one row each.
        metadata: The list's metadata.
        include: What to put into each row beside its cells: Metadata, Object or None.
    """
    columns = resource.columns if resource.custom else _COLUMNS.get(resource.key, (_AGE,))
    definitions = [_NAME] + [
        {
            "name": column.name,
            "type": column.type if column.type != "date" else "string",
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in columns
    ]
    rows = []
    for body in bodies:
        row: dict[str, Any] = {"cells": [body["metadata"]["name"], *(_cell(column, body) for column in columns)]}
        if include == "Object":
            row["object"] = body
        elif include != "None":
            row["object"] = partial(body)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def partial(body: Object) -> Object:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}


def _cell(column: Column, body: Object) -> Any:
    if column.path.startswith("."):
        found = list(select(body, column.path))
        value = found[0] if found else None
    else:
        value = _COMPUTED[column.path](body)
    if value is None:
        return "<none>" if column.type == "string" and not column.path.startswith(".") else None
    if column.type == "date":
        return age(str(value))
    if column.type == "string" and not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def select(value: Any, path: str) -> list[Any]:
    """The values at a JSON path of the simple kind that printer columns use.

    >>> select({"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
    ...        '.status.conditions[?(@.type=="Ready")].status')
    ['True']
    """
    found = [value]
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if not match:
            return []
        position = match.end()
        name, key, wanted, index, quoted = match.groups()
        below: list[Any] = []
        for node in found:
            if name or quoted:
                if isinstance(node, dict) and (name or quoted) in node:
                    below.append(node[name or quoted])
            elif isinstance(node, list) and key:
                below += [item for item in node if select(item, "." + key) == [wanted]]
            elif isinstance(node, list) and index == "*":
                below += node
            elif isinstance(node, list) and int(index) < len(node):
                below.append(node[int(index)])
        found = below
    return found


def age(timestamp: str) -> str:
    """How long ago a timestamp is, as kubectl shows it: 12s, 3m5s, 4h, 2d."""
    try:
        then = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return "<invalid>"
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y{days % 365}d"


def _ports(body: Object) -> str | None:
    ports = (body.get("spec") or {}).get("ports") or []
    return ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in ports) or None


def _selector(body: Object) -> str | None:
    selector = (body.get("spec") or {}).get("selector") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or None


def _hosts(body: Object) -> str:
    rules = (body.get("spec") or {}).get("rules") or []
    return ",".join(rule.get("host") or "*" for rule in rules) or "*"


def _ingress_address(body: Object) -> str:
    listed = ((body.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return ",".join(item.get("ip") or item.get("hostname") or "" for item in listed)


def _endpoint_ports(body: Object) -> str:
    return ",".join(str(port.get("port", "*")) for port in body.get("ports") or []) or "<unset>"


def _endpoints(body: Object) -> str:
    addresses = [address for item in body.get("endpoints") or [] for address in item.get("addresses") or []]
    shown = ",".join(addresses[:3]) or "<unset>"
    return shown + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "")


def _event_object(body: Object) -> str:
    involved = body.get("involvedObject") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


_COMPUTED: dict[str, Callable[[Object], Any]] = {
    "ports": _ports,
    "selector": _selector,
    "hosts": _hosts,
    "ingress-address": _ingress_address,
    "ingress-ports": lambda body: "80, 443" if (body.get("spec") or {}).get("tls") else "80",
    "external-ip": lambda body: ",".join((body.get("spec") or {}).get("externalIPs") or []) or None,
    "data": lambda body: len(body.get("data") or {}) + len(body.get("binaryData") or {}),
    "ingress-class": lambda body: (body.get("spec") or {}).get("ingressClassName"),
    "parameters": lambda body: ((body.get("spec") or {}).get("parameters") or {}).get("name"),
    "endpoint-ports": _endpoint_ports,
    "endpoints": _endpoints,
    "event-object": _event_object,
}

_AGE = Column("Age", ".metadata.creationTimestamp", "date")

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "namespaces": (Column("Status", ".status.phase"), _AGE),
    "services": (
        Column("Type", ".spec.type"),
        Column("Cluster-IP", ".spec.clusterIP"),
        Column("External-IP", "external-ip"),
        Column("Port(s)", "ports"),
        _AGE,
        Column("Selector", "selector", priority=1),
    ),
    "secrets": (Column("Type", ".type"), Column("Data", "data", "integer"), _AGE),
    "configmaps": (Column("Data", "data", "integer"), _AGE),
    "events": (
        Column("Last Seen", ".lastTimestamp", "date"),
        Column("Type", ".type"),
        Column("Reason", ".reason"),
        Column("Object", "event-object"),
        Column("Message", ".message"),
    ),
    "ingresses.networking.k8s.io": (
        Column("Class", "ingress-class"),
        Column("Hosts", "hosts"),
        Column("Address", "ingress-address"),
        Column("Ports", "ingress-ports"),
        _AGE,
    ),
    "ingressclasses.networking.k8s.io": (
        Column("Controller", ".spec.controller"),
        Column("Parameters", "parameters"),
        _AGE,
    ),
    "endpointslices.discovery.k8s.io": (
        Column("AddressType", ".addressType"),
        Column("Ports", "endpoint-ports"),
        Column("Endpoints", "endpoints"),
        _AGE,
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (Column("Created At", ".metadata.creationTimestamp"),),
}
