"""The listener: one HTTP connection manager whose filter chain is the plugins in their order."""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3 import address_pb2, config_source_pb2, protocol_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from labkit.controlplane import route_bridge
from labkit.controlplane.routes import ROUTE_CONFIG
from labkit.controlplane.services import ads_source

LISTENER = "http"
"""Name of the one listener."""

PLUGIN_TYPES = (
    "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
    # What the agent hands over while a plugin cannot run: answer 503, or let requests pass.
    "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
    "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
)
"""The filter types a plugin's resource may have."""

_WARMING_SECONDS = 60


def listener(port: int, plugins: Iterable[str]) -> Listener:
    """The gateway's listener on the loopback interface.

    Args:
        port: Where it listens.
        plugins: Names of the plugins' ECDS resources, in the order they run.
    """
    # The connection manager needs only the names, so a plugin's new configuration never touches the listener.
    filters = [
        hcm.HttpFilter(name=route_bridge.NAME, typed_config=pack(route_bridge.route_bridge())),
        *(_plugin_filter(name) for name in plugins),
        hcm.HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router())),
    ]
    manager = hcm.HttpConnectionManager(
        stat_prefix=LISTENER,
        rds=hcm.Rds(route_config_name=ROUTE_CONFIG, config_source=ads_source()),
        http_filters=filters,
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(accept_http_10=True),
    )
    manager.normalize_path.value = True
    manager.use_remote_address.value = True
    manager.common_http_protocol_options.idle_timeout.FromSeconds(300)
    manager.request_headers_timeout.FromSeconds(10)
    manager.stream_idle_timeout.FromSeconds(300)
    return Listener(
        name=LISTENER,
        address=address_pb2.Address(socket_address=address_pb2.SocketAddress(address="127.0.0.1", port_value=port)),
        filter_chains=[
            listener_components_pb2.FilterChain(
                filters=[
                    listener_components_pb2.Filter(
                        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
                    )
                ]
            )
        ],
    )


def pack(message: Message) -> AnyMessage:
    """The message as an Any whose bytes are the same every time, so that hashes of it can be compared."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def _plugin_filter(name: str) -> hcm.HttpFilter:
    source = ads_source()
    # The agent always answers in time; this only keeps a listener from warming for ever without an agent.
    source.initial_fetch_timeout.FromSeconds(_WARMING_SECONDS)
    return hcm.HttpFilter(
        name=name,
        config_discovery=config_source_pb2.ExtensionConfigSource(config_source=source, type_urls=PLUGIN_TYPES),
    )
