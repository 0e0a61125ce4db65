"""The controller: watches Ingresses, Services, EndpointSlices and WasmPlugins, and serves what they mean over xDS.

It has the role of Higress' controller and istiod together. `wasmplugin`, `routes`, `services`, `listener` and
`extension` are pure conversions; `snapshot` and `session` the xDS protocol without I/O; `controller` joins them;
`ads`, `watch` and `__main__` talk to the world.
"""

from labkit.controlplane.ads import AdsServer
from labkit.controlplane.controller import Controller
from labkit.controlplane.session import Answer, Session
from labkit.controlplane.snapshot import Snapshot
from labkit.controlplane.status import Condition, Reason
from labkit.controlplane.wasmplugin import InvalidSpec, Phase, Plugin, filter_order, plugin_config, read_plugin

__all__ = [
    "AdsServer",
    "Answer",
    "Condition",
    "Controller",
    "InvalidSpec",
    "Phase",
    "Plugin",
    "Reason",
    "Session",
    "Snapshot",
    "filter_order",
    "plugin_config",
    "read_plugin",
]
