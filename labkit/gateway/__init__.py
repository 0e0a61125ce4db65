"""The gateway: Envoy from a wheel, its bootstrap, its admin interface, and the services behind it."""

from labkit.gateway.admin import Admin, AdminUnavailable, ExtensionConfig
from labkit.gateway.envoy import AGENT_CLUSTER, EnvoyMissing, bootstrap, command, envoy_path

__all__ = [
    "AGENT_CLUSTER",
    "Admin",
    "AdminUnavailable",
    "EnvoyMissing",
    "ExtensionConfig",
    "bootstrap",
    "command",
    "envoy_path",
]
