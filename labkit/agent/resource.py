"""Reading the controller's plugin resources, and writing the ones Envoy gets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm
from envoy.extensions.wasm.v3 import wasm_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

ENV_PREFIX = "LABKIT_AGENT_"


@dataclass(frozen=True, slots=True)
class PluginResource:
    """One version of a plugin, as the controller wants it.

    Attributes:
        name: The resource's name.
        version: Its xDS version.
        plugin: `namespace/name` of the WasmPlugin.
        generation: Its generation, None when the controller did not say.
        revision: The WasmPlugin's uid, a dot, and what changes whenever it is changed.
        url: Where the module is; empty when the resource names none to fetch.
        sha256: Hex digest the user pinned, or empty.
        pull_policy: UNSPECIFIED_POLICY, IfNotPresent or Always.
        pull_secret: Text of a `.dockerconfigjson`, or empty.
        fail_open: Whether requests pass when the plugin cannot run.
        config: The packed filter configuration, without what was for the agent alone.
    """

    name: str
    version: str
    plugin: str
    generation: int | None
    revision: str
    url: str
    sha256: str
    pull_policy: str
    pull_secret: str = field(repr=False)
    fail_open: bool
    config: AnyMessage

    @classmethod
    def read(cls, body: AnyMessage, version: str) -> PluginResource:
        """Take apart what the controller sent.

        Raises:
            google.protobuf.message.DecodeError: It is not what it says it is.
        """
        resource = TypedExtensionConfig()
        resource.ParseFromString(body.value)
        facts: dict[str, str] = {}
        url = sha256 = ""
        config = resource.typed_config
        if config.Is(Wasm.DESCRIPTOR):
            wasm = Wasm()
            config.Unpack(wasm)
            vm = wasm.config.vm_config
            url, sha256 = vm.code.remote.http_uri.uri, vm.code.remote.sha256
            variables = vm.environment_variables.key_values
            for key in [key for key in variables if key.startswith(ENV_PREFIX)]:
                facts[key.removeprefix(ENV_PREFIX)] = variables.pop(key)
            if not variables and not vm.environment_variables.host_env_keys:
                vm.ClearField("environment_variables")
            config = pack(wasm)
        return cls(
            name=resource.name,
            version=version,
            plugin=facts.get("PLUGIN", resource.name),
            generation=int(facts["GENERATION"]) if facts.get("GENERATION", "").isdigit() else None,
            revision=facts.get("RESOURCE_VERSION", ""),
            url=url,
            sha256=sha256,
            pull_policy=facts.get("PULL_POLICY", "UNSPECIFIED_POLICY"),
            pull_secret=facts.get("PULL_SECRET", ""),
            fail_open=facts.get("FAIL_STRATEGY") == "FAIL_OPEN",
            config=config,
        )

    @property
    def owner(self) -> str:
        """Which WasmPlugin this is: one that was deleted and made anew is another."""
        return self.revision.partition(".")[0]

    def with_module(self, path: Path, *, trial: bool = False) -> TypedExtensionConfig:
        """What Envoy gets: the module is a local file.

        Args:
            path: The file.
            trial: Say FAIL_CLOSED whatever the resource says, so that Envoy refuses a module that does not start.
                With FAIL_OPEN it would take it and quietly let requests pass.
        """
        wasm = Wasm()
        self.config.Unpack(wasm)
        wasm.config.vm_config.code.local.filename = str(path)
        if trial:
            wasm.config.failure_policy = wasm_pb2.FAIL_CLOSED
        return TypedExtensionConfig(name=self.name, typed_config=pack(wasm))

    def as_it_is(self) -> TypedExtensionConfig:
        """What Envoy gets when there is no module to fetch."""
        return TypedExtensionConfig(name=self.name, typed_config=self.config)

    def stand_in(self) -> TypedExtensionConfig:
        """What Envoy gets while the plugin cannot run and no older version serves."""
        if self.fail_open:
            # A role-based access filter without rules lets every request pass.
            return TypedExtensionConfig(name=self.name, typed_config=pack(RBAC()))
        text = f"plugin {self.plugin} cannot run and its failStrategy is FAIL_CLOSE; see: kubectl describe wasmplugin\n"
        reply = json.dumps(text)  # a JSON text of these characters is a Lua string literal, too
        lua = Lua()
        lua.default_source_code.inline_string = (
            "function envoy_on_request(request)\n"
            f'  request:respond({{[":status"] = "503", ["content-type"] = "text/plain"}}, {reply})\n'
            "end\n"
        )
        return TypedExtensionConfig(name=self.name, typed_config=pack(lua))


def pack(message: Message) -> AnyMessage:
    """The message as an Any whose bytes are the same every time."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed
