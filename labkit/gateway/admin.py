"""Envoy's admin interface, as far as the lab asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from labkit.errors import LabkitError


class AdminUnavailable(LabkitError):
    """The admin interface does not answer."""


@dataclass(frozen=True, slots=True)
class ExtensionConfig:
    """What Envoy says about one filter that came over ECDS.

    Attributes:
        name: The resource's name (`namespace.name` of the plugin).
        version: The version that Envoy applied.
        config: The filter's configuration.
        last_updated: When Envoy applied it, as RFC 3339.
    """

    name: str
    version: str
    config: Mapping[str, Any]
    last_updated: str

    @property
    def wasm_path(self) -> str | None:
        """The file Envoy loaded the module from; None when the filter is no Wasm file."""
        plugin = self.config.get("config", {})
        path = plugin.get("vm_config", {}).get("code", {}).get("local", {}).get("filename")
        return path if isinstance(path, str) else None


class Admin:
    """A client of one Envoy's admin interface.

    Args:
        address: `host:port` of it.
        timeout: Seconds to wait for an answer. Envoy answers on its main thread, which also compiles modules.
    """

    def __init__(self, address: str, *, timeout: float = 15.0) -> None:
        self._address = address
        self._client = httpx.Client(base_url=f"http://{address}", timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def is_ready(self) -> bool:
        """Whether Envoy has started; False too when it does not answer.

        It starts without its agent, too, after a while: `listeners_active` says whether it was told where to listen.
        """
        try:
            return self._client.get("/ready").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def config_dump(self, resource: str | None = None) -> list[dict[str, Any]]:
        """The entries of `/config_dump`, all or of one resource such as `ecds_filters`."""
        # Without include_eds Envoy leaves endpoints out.
        query = {"resource": resource} if resource else {"include_eds": ""}
        answer = self._get("/config_dump", query, missing_ok=True)
        if answer.status_code == httpx.codes.NOT_FOUND:  # how Envoy says that it has none of that resource
            return []
        configs: list[dict[str, Any]] = answer.json().get("configs", [])
        return configs

    def extensions(self) -> dict[str, ExtensionConfig]:
        """The filters that came over ECDS, by name."""
        found = {}
        for entry in self.config_dump("ecds_filters"):
            extension = entry["ecds_filter"]
            found[extension["name"]] = ExtensionConfig(
                name=extension["name"],
                version=entry.get("version_info", ""),
                config=extension.get("typed_config", {}),
                last_updated=entry.get("last_updated", ""),
            )
        return found

    def stats(self, filter_regex: str = "") -> dict[str, int]:
        """Counters and gauges whose name matches."""
        query = {"format": "json", "type": "Counters"}
        values: dict[str, int] = {}
        for kind in ("Counters", "Gauges"):
            answer = self._get("/stats", {**query, "type": kind, "filter": filter_regex}).json()
            values |= {stat["name"]: stat["value"] for stat in answer["stats"] if "value" in stat}
        return values

    def server_info(self) -> dict[str, Any]:
        """Envoy's version, state and command line."""
        info: dict[str, Any] = self._get("/server_info", {}).json()
        return info

    def listeners_active(self) -> bool:
        """Whether a listener has its configuration and accepts connections."""
        return bool(
            self.stats(r"^listener_manager\.total_listeners_active$").get("listener_manager.total_listeners_active")
        )

    def drain(self) -> None:
        """Tell every connection to close with its next response."""
        self._post("/drain_listeners?graceful&skip_exit")

    def set_log_level(self, **levels: str) -> None:
        """Change the level of loggers: `set_log_level(wasm="debug")`."""
        for logger, level in levels.items():
            self._post(f"/logging?{logger}={level}")

    def _get(self, path: str, query: Mapping[str, str], *, missing_ok: bool = False) -> httpx.Response:
        return self._answer(self._client.build_request("GET", path, params=query), missing_ok=missing_ok)

    def _post(self, path: str) -> httpx.Response:
        return self._answer(self._client.build_request("POST", path))

    def _answer(self, request: httpx.Request, *, missing_ok: bool = False) -> httpx.Response:
        try:
            answer = self._client.send(request)
            if missing_ok and answer.status_code == httpx.codes.NOT_FOUND:
                return answer
            return answer.raise_for_status()
        except httpx.HTTPError as error:
            raise AdminUnavailable(
                f"Envoy's admin interface at {self._address} does not answer {request.url.path}: {error}",
                hint="is the gateway running? see: labkit status",
            ) from error
