"""A plugin → its ECDS resource, as the agent expects it.

The module's address goes as a remote data source. What only the agent needs to know travels as environment
variables of the VM, as in Istio; the agent strips them before Envoy sees the configuration.
"""

from __future__ import annotations

import json

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm
from envoy.extensions.wasm.v3 import wasm_pb2
from google.protobuf.wrappers_pb2 import StringValue

from labkit.controlplane.listener import pack
from labkit.controlplane.wasmplugin import AGENT_ENV_PREFIX, Plugin


def extension(plugin: Plugin, pull_secret: str = "") -> TypedExtensionConfig:
    """The resource of an installed plugin.

    Args:
        plugin: The plugin; its `config` must not be None.
        pull_secret: The text of the Secret's `.dockerconfigjson`, when it names one.
    """
    config = wasm_pb2.PluginConfig(name=plugin.resource_name, root_id=plugin.root_id)
    config.failure_policy = wasm_pb2.FAIL_OPEN if plugin.fail_open else wasm_pb2.FAIL_CLOSED
    text = json.dumps(plugin.config, ensure_ascii=False, separators=(",", ":"))
    config.configuration.CopyFrom(pack(StringValue(value=text)))
    vm = config.vm_config
    vm.runtime = "envoy.wasm.runtime.v8"
    vm.code.remote.http_uri.uri = plugin.url
    vm.code.remote.sha256 = plugin.sha256
    # Both are required by the message's own rules, though nobody fetches by them.
    vm.code.remote.http_uri.cluster = "labkit-agent"
    vm.code.remote.http_uri.timeout.FromSeconds(30)
    variables = vm.environment_variables
    variables.host_env_keys.extend(plugin.host_env)
    for name, value in (*plugin.env, *_for_agent(plugin, pull_secret)):
        variables.key_values[name] = value
    return TypedExtensionConfig(name=plugin.resource_name, typed_config=pack(Wasm(config=config)))


def _for_agent(plugin: Plugin, pull_secret: str) -> list[tuple[str, str]]:
    facts = {
        "PLUGIN": plugin.key,
        "GENERATION": str(plugin.generation),
        "RESOURCE_VERSION": plugin.revision,
        "PULL_POLICY": plugin.pull_policy,
        "PULL_SECRET": pull_secret,
        "FAIL_STRATEGY": "FAIL_OPEN" if plugin.fail_open else "FAIL_CLOSE",
    }
    return [(AGENT_ENV_PREFIX + name, value) for name, value in facts.items() if value]
