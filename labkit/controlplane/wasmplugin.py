"""WasmPlugin resources: what a spec means, and the configuration the plugin finally sees.

The semantics are Higress' (`extensions.higress.io/v1alpha1`): either `pluginConfig` is handed on as it is, or
`defaultConfig` and `matchRules` are folded into one object whose `_rules_` the plugin's SDK matches per request.

Everything here is a pure function of the resource. A spec that cannot be meant raises `InvalidSpec`, which names
the path of the field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

from labkit.errors import LabkitError

KubeObject = Mapping[str, Any]
"""A Kubernetes object as its JSON says it."""

AGENT_ENV_PREFIX = "LABKIT_AGENT_"
"""Environment variables that only the agent reads; it strips them before Envoy sees the configuration."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9a-fA-F:]+\](?::[0-9]+)?)"
    r"(?P<path>(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@sha256:(?P<digest>[0-9a-f]{64}))?"
)


class InvalidSpec(LabkitError):
    """A field of a resource says something that cannot be meant.

    Args:
        path: The field, as `kubectl explain` would name it: `spec.matchRules[1].ingress`.
        problem: What is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}", hint="correct the field and apply the resource again")
        self.path = path
        self.problem = problem


class Phase(IntEnum):
    """Where in the filter chain a plugin runs; a smaller number runs earlier."""

    AUTHN = 0
    AUTHZ = 1
    STATS = 2
    UNSPECIFIED_PHASE = 3


@dataclass(frozen=True, slots=True)
class Plugin:
    """A WasmPlugin whose spec has been understood.

    Attributes:
        namespace: The resource's namespace.
        name: The resource's name.
        generation: `metadata.generation` that this was read from.
        revision: Its uid, a dot, and what changes when the resource is changed, but not when its status is.
        url: The module's address, always with a scheme.
        sha256: Hex digest the user pinned, or empty.
        phase: Where in the filter chain it runs.
        priority: Inside its phase, higher runs earlier.
        fail_open: Whether requests pass when the plugin cannot run.
        pull_policy: UNSPECIFIED_POLICY, IfNotPresent or Always.
        pull_secret: Name of a Secret in the same namespace, or empty.
        root_id: Which of the module's plugins to run (`pluginName`).
        config: What the plugin reads as its configuration; None when it is not to be installed at all.
        env: Variables of the plugin's environment.
        host_env: Names of variables copied from the gateway's environment.
        remarks: What the user ought to know although the spec is valid.
    """

    namespace: str
    name: str
    generation: int
    revision: str
    url: str
    sha256: str
    phase: Phase
    priority: int
    fail_open: bool
    pull_policy: str
    pull_secret: str
    root_id: str
    config: Mapping[str, Any] | None
    env: tuple[tuple[str, str], ...]
    host_env: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def resource_name(self) -> str:
        """The name of its xDS resource and of its filter: `namespace.name`."""
        return f"{self.namespace}.{self.name}"

    @property
    def rules(self) -> int:
        """How many rules its configuration has."""
        rules = (self.config or {}).get("_rules_", ())
        return len(rules) if isinstance(rules, Sequence) else 0


def read_plugin(resource: KubeObject) -> Plugin:
    """Understand a WasmPlugin, or raise `InvalidSpec`."""
    metadata = _field(resource, "metadata", "", dict, {})
    spec = _field(resource, "spec", "", dict, {})
    env, host_env = _environment(spec)
    name = str(metadata.get("name", ""))
    return Plugin(
        namespace=str(metadata.get("namespace", "")),
        name=name,
        generation=int(metadata.get("generation", 0)),
        revision=_revision(metadata),
        url=module_url(_field(spec, "url", "spec", str, "")),
        sha256=_checksum(spec),
        phase=Phase[_choice(spec, "phase", tuple(Phase.__members__), "UNSPECIFIED_PHASE")],
        priority=_field(spec, "priority", "spec", int, 0),
        fail_open=_choice(spec, "failStrategy", ("FAIL_CLOSE", "FAIL_OPEN"), "FAIL_CLOSE") == "FAIL_OPEN",
        pull_policy=_choice(
            spec, "imagePullPolicy", ("UNSPECIFIED_POLICY", "IfNotPresent", "Always"), "UNSPECIFIED_POLICY"
        ),
        pull_secret=_field(spec, "imagePullSecret", "spec", str, ""),
        root_id=_field(spec, "pluginName", "spec", str, ""),
        config=plugin_config(spec),
        env=env,
        host_env=host_env,
        remarks=_remarks(spec),
    )


def plugin_config(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the plugin reads as its configuration; None when it is not to be installed at all."""
    given = _field(spec, "pluginConfig", "spec", dict, None)
    if given is not None:
        return dict(given)
    disabled = _field(spec, "defaultConfigDisable", "spec", bool, False)
    default = _field(spec, "defaultConfig", "spec", dict, {})
    rules = [
        converted
        for index, rule in enumerate(_field(spec, "matchRules", "spec", list, []))
        if (converted := _rule(rule, f"spec.matchRules[{index}]")) is not None
    ]
    if disabled and not rules:
        return None
    config = {} if disabled else dict(default)
    return {**config, "_rules_": rules} if rules else config


def filter_order(plugin: Plugin) -> tuple[int, int, str, str]:
    """Sort key of the filter chain: phase, then higher priority, then name so that the order is total."""
    return (plugin.phase, -plugin.priority, plugin.namespace, plugin.name)


def module_url(url: str) -> str:
    """The address with its scheme; one without a scheme is an image's."""
    if not url.strip():
        raise InvalidSpec("spec.url", "missing; say where the module is, such as oci://registry.lab/plugins/mock:1.0.0")
    if any(character.isspace() or ord(character) < 32 for character in url):
        raise InvalidSpec("spec.url", f"{url!r} contains a blank")
    full = url if "://" in url else f"oci://{url}"
    try:
        parts = urlsplit(full)
        _ = parts.port
    except ValueError as error:
        raise InvalidSpec("spec.url", f"{url!r} is malformed: {error}") from None
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise InvalidSpec("spec.url", f"{url!r} names no host")
    elif parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise InvalidSpec("spec.url", f"{url!r} must be an absolute path: file:///path/to/plugin.wasm")
    elif parts.scheme == "oci":
        if not _IMAGE.fullmatch(full.removeprefix("oci://")):
            raise InvalidSpec("spec.url", f"{url!r} is not an image reference: oci://host/repository:tag")
    else:
        raise InvalidSpec("spec.url", f"scheme {parts.scheme!r} is not one of oci, file, http, https")
    return full


def _rule(rule: object, path: str) -> dict[str, Any] | None:
    if not isinstance(rule, Mapping):
        raise InvalidSpec(path, "must be an object")
    if _field(rule, "configDisable", path, bool, False):
        return None
    converted = dict(_field(rule, "config", path, dict, {}))
    matches = 0
    for source, target in (("ingress", "_match_route_"), ("service", "_match_service_"), ("domain", "_match_domain_")):
        wanted = _strings(rule, source, path)
        if wanted:
            converted[target] = wanted
            matches += 1
    if not matches:
        raise InvalidSpec(path, "matches nothing; give at least one of ingress, domain, service")
    _choice(rule, "routeType", ("HTTP", "GRPC"), "HTTP", path)
    return converted


def _environment(spec: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    inline: dict[str, str] = {}
    host: list[str] = []
    variables = _field(_field(spec, "vmConfig", "spec", dict, {}), "env", "spec.vmConfig", list, [])
    for index, variable in enumerate(variables):
        path = f"spec.vmConfig.env[{index}]"
        if not isinstance(variable, Mapping):
            raise InvalidSpec(path, "must be an object")
        name = _field(variable, "name", path, str, "")
        if not _ENV_NAME.fullmatch(name):
            raise InvalidSpec(f"{path}.name", f"{name!r} is no name of an environment variable")
        if name.startswith(AGENT_ENV_PREFIX):
            raise InvalidSpec(f"{path}.name", f"names that begin with {AGENT_ENV_PREFIX} are reserved")
        if name in inline or name in host:
            raise InvalidSpec(f"{path}.name", f"{name} is given twice")
        value = _field(variable, "value", path, str, "")
        if _choice(variable, "valueFrom", ("INLINE", "HOST"), "INLINE", path) == "INLINE":
            inline[name] = value
        elif value:
            raise InvalidSpec(f"{path}.value", "must be empty when valueFrom is HOST")
        else:
            host.append(name)
    return tuple(inline.items()), tuple(host)


def _checksum(spec: Mapping[str, Any]) -> str:
    text = _field(spec, "sha256", "spec", str, "")
    if not text:
        return ""
    match = _SHA256.fullmatch(text.lower())
    if match is None:
        raise InvalidSpec("spec.sha256", f"{text!r} is not 64 hexadecimal digits")
    pinned = re.search(r"@sha256:([0-9a-f]{64})$", _field(spec, "url", "spec", str, ""))
    if pinned and pinned[1] != match[1]:
        raise InvalidSpec("spec.sha256", "differs from the digest in spec.url")
    return match[1]


def _revision(metadata: Mapping[str, Any]) -> str:
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _LAST_APPLIED}
    text = json.dumps([metadata.get("generation"), annotations], sort_keys=True, default=str)
    return f"{metadata.get('uid', '')}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _remarks(spec: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"spec.matchRules[{index}].routeType: GRPC concerns GRPCRoute of the Gateway API, which this gateway does not"
        " serve; the rule is matched like any other"
        for index, rule in enumerate(spec.get("matchRules") or ())
        if isinstance(rule, Mapping) and rule.get("routeType") == "GRPC"
    )


def _strings(source: Mapping[str, Any], name: str, path: str) -> list[str]:
    values = _field(source, name, path, list, [])
    for index, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise InvalidSpec(f"{path}.{name}[{index}]", "must be a text that is not empty")
    return list(values)


def _choice(source: Mapping[str, Any], name: str, choices: Sequence[str], default: str, path: str = "spec") -> str:
    value = _field(source, name, path, str, "") or default
    if value not in choices:
        raise InvalidSpec(f"{path}.{name}", f"{value!r} is not one of {', '.join(choices)}")
    return value


def _field(source: Mapping[str, Any], name: str, path: str, kind: type, default: Any) -> Any:
    """The field's value when it is there and not null; a value of another type is an error."""
    value = source.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
        raise InvalidSpec(f"{path}.{name}" if path else name, f"must be {words[kind]}")
    return value
