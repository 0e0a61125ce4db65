"""The agent: Envoy's xDS proxy, which turns a plugin's address into a file that Envoy can load.

It has the role of Istio's pilot-agent. `relay` is the proxy, `delivery` brings plugins to Envoy and asks Envoy
whether they run, `store` and `fetch` get modules and keep them, `resource` reads and writes the resources.
"""

from labkit.agent.delivery import Delivery
from labkit.agent.envoy import EnvoyAdmin
from labkit.agent.errors import EnvoyRefused, ImageInvalid, ModuleInvalid, PluginRefused, PullFailed
from labkit.agent.fetch import Sources
from labkit.agent.relay import Agent
from labkit.agent.resource import PluginResource
from labkit.agent.store import Fetched, Fetcher, ModuleStore, StoredModule

__all__ = [
    "Agent",
    "Delivery",
    "EnvoyAdmin",
    "EnvoyRefused",
    "Fetched",
    "Fetcher",
    "ImageInvalid",
    "ModuleInvalid",
    "ModuleStore",
    "PluginRefused",
    "PluginResource",
    "PullFailed",
    "Sources",
    "StoredModule",
]
