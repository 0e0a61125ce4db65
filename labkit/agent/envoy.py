"""What the agent asks Envoy's admin interface: which version of a plugin it really runs, from which file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from google.protobuf import json_format

_STATS = r"^wasm\.(envoy\.|wasm_vm_count)"


@dataclass(frozen=True, slots=True)
class Running:
    """What Envoy's configuration dump says about one plugin.

    Attributes:
        version: The version it applied.
        path: The module's file; None when what runs there is no module.
        body: The configuration itself; None when it cannot be read.
    """

    version: str
    path: Path | None
    body: TypedExtensionConfig | None

    def file_digest(self) -> str | None:
        """`sha256:…` of the file as it is now."""
        try:
            return "sha256:" + hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path else None
        except OSError:
            return None


class EnvoyAdmin:
    """A client of Envoy's admin interface that does not block.

    Args:
        address: `host:port`.
    """

    def __init__(self, address: str) -> None:
        # Envoy answers on its main thread, which may be compiling a module.
        self._client = httpx.AsyncClient(base_url=f"http://{address}", timeout=120, trust_env=False)

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()

    async def running(self) -> Mapping[str, Running]:
        """The plugins Envoy has, by name; empty when it does not answer."""
        try:
            answer = await self._client.get("/config_dump", params={"resource": "ecds_filters"})
            answer.raise_for_status()
            entries = answer.json().get("configs", [])
        except (httpx.HTTPError, ValueError):
            return {}
        return dict(_running(entry) for entry in entries if "ecds_filter" in entry)

    async def wasm_stats(self) -> Mapping[str, int]:
        """Envoy's counters of virtual machines."""
        try:
            answer = await self._client.get("/stats", params={"format": "json", "filter": _STATS})
            answer.raise_for_status()
            stats = answer.json()["stats"]
        except (httpx.HTTPError, ValueError, KeyError):
            return {}
        return {stat["name"]: stat["value"] for stat in stats if "value" in stat}


def _running(entry: Mapping[str, Any]) -> tuple[str, Running]:
    extension = entry["ecds_filter"]
    plugin = extension.get("typed_config", {}).get("config", {})
    path = plugin.get("vm_config", {}).get("code", {}).get("local", {}).get("filename")
    fields = {key: value for key, value in extension.items() if key != "@type"}
    try:
        body = json_format.ParseDict(fields, TypedExtensionConfig())
    except json_format.ParseError:
        body = None
    return extension["name"], Running(entry.get("version_info", ""), Path(path) if path else None, body)
