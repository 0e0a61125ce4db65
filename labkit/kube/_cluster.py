"""The connection to an API server: requests, errors, and which kinds it serves."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from labkit.kube._errors import ApiServerAway, KubeError, UnknownKind, from_status

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 30.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as an API server serves it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    names: frozenset[str]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of all objects (in one namespace or, without, in all) or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        middle = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        last = f"/{quote(name, safe='')}" if name else ""
        return f"{root}{middle}/{self.plural}{last}{f'/{subresource}' if subresource else ''}"


class Cluster:
    """An API server, reached through a kubeconfig.

    Args:
        kubeconfig: Its file; None takes $KUBECONFIG or ~/.kube/config, as kubectl does.
        context: One of its contexts; None takes the current one.
    """

    def __init__(self, kubeconfig: str | os.PathLike[str] | None, context: str | None) -> None:
        self.namespace = "default"
        self._api = self._connect(kubeconfig, context)
        self._kinds: dict[tuple[str, str], list[Kind]] = {}

    def _connect(self, kubeconfig: str | os.PathLike[str] | None, context: str | None) -> Any:
        import kubernetes
        import kubernetes.dynamic

        # Half of the package's functions are untyped.
        library: Any = kubernetes
        client, config = library.client, library.config
        if kubeconfig is not None and not Path(kubeconfig).exists():
            raise ApiServerAway(f"there is no kubeconfig {kubeconfig}", hint="start the lab: labkit up")
        file = None if kubeconfig is None else os.fspath(kubeconfig)
        settings = client.Configuration()
        try:
            config.load_kube_config(file, context=context, client_configuration=settings, persist_config=False)
            _, current = config.list_kube_config_contexts(file)
            if context:
                current = next(one for one in config.list_kube_config_contexts(file)[0] if one["name"] == context)
        except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            name = file or "~/.kube/config"
            raise ApiServerAway(
                f"the kubeconfig {name} cannot be used: {error}", hint="start the lab: labkit up"
            ) from error
        self.namespace = (current.get("context") or {}).get("namespace") or "default"
        self.server = _without_credentials(settings.host)
        # A connection that fails is reported at once; whoever wants to wait (a watch) tries again itself.
        settings.retries = False
        if _is_loopback(settings.host):
            settings.proxy = None
        # The discovery of the dynamic client keeps a file in the shared temporary folder; `kinds` does without.
        return library.dynamic.DynamicClient(client.ApiClient(settings), discoverer=lambda client, cache_file: None)

    def close(self) -> None:
        """Close the connections."""
        self._api.client.close() if hasattr(self._api.client, "close") else None

    def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: Any = None,
        query: Mapping[str, str | int | None] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """Ask, and give back the JSON object of the answer."""
        response = self.open(method, path, what=what, body=body, query=query, content_type=content_type, accept=accept)
        try:
            found = json.loads(response.data)
        except ValueError:
            raise KubeError(f"{what}: the answer of {self.server} is not JSON", hint="is it an API server?") from None
        if not isinstance(found, dict):
            raise KubeError(f"{what}: the answer of {self.server} is not an object")
        return found

    def open(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: Any = None,
        query: Mapping[str, str | int | None] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        read_seconds: float = _READ_SECONDS,
    ) -> Any:
        """Ask, and give back the response (urllib3's) with its body still to be read."""
        from kubernetes.client.exceptions import ApiException, OpenApiException
        from kubernetes.dynamic.exceptions import DynamicApiError
        from urllib3.exceptions import HTTPError

        try:
            return self._api.request(
                method,
                path,
                body=body,
                content_type=content_type,
                query_params=[(key, str(value)) for key, value in (query or {}).items() if value is not None],
                header_params={"Accept": accept},
                serialize=False,
                _request_timeout=(_CONNECT_SECONDS, read_seconds),
            )
        except (DynamicApiError, ApiException) as error:
            if error.status:
                raise from_status(int(error.status), error.body, what) from None
            raise self._away(error) from error
        except (HTTPError, OpenApiException, OSError) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> ApiServerAway:
        why = getattr(error, "reason", None) or error
        return ApiServerAway(
            f"the API server at {self.server} does not answer: {_short(why)}",
            hint="is it running? labkit up starts the lab",
        )

    def kind_of(self, api_version: str, kind: str) -> Kind:
        """The kind with this apiVersion and name, asked for again when it is not known yet."""
        group, _, version = api_version.rpartition("/")
        known = self._kinds.get((group, version), [])
        for fresh in (False, True):
            if fresh:
                known = self._kinds[group, version] = self._load(group, version)
            for one in known:
                if one.kind == kind:
                    return one
        raise UnknownKind(
            f"the API server does not know the kind {kind} of {api_version}",
            hint="apply its CustomResourceDefinition first (manifests/crd-wasmplugin.yaml for WasmPlugin)"
            if group
            else "kubectl api-resources lists the kinds it serves",
        )

    def kind_named(self, name: str) -> Kind:
        """The kind that people call so: WasmPlugin, wasmplugins, svc, ingresses.networking.k8s.io."""
        wanted = name.lower()
        for fresh in (False, True):
            if fresh:
                self._load_all()
            # The core group comes first, as kubectl prefers it.
            for key in sorted(self._kinds):
                for one in self._kinds[key]:
                    if wanted in one.names:
                        return one
        raise UnknownKind(
            f"the API server does not know the kind {name}", hint="kubectl api-resources lists the kinds it serves"
        )

    def _load(self, group: str, version: str) -> list[Kind]:
        path = f"/apis/{quote(group)}/{quote(version)}" if group else f"/api/{quote(version)}"
        try:
            found = self.request("GET", path, what=f"{group}/{version}" if group else version)
        except KubeError as error:
            if isinstance(error, ApiServerAway):
                raise
            return []
        return list(_kinds(group, version, found.get("resources") or ()))

    def _load_all(self) -> None:
        for path in ("/api", "/apis"):
            found = self.request("GET", path, what="the kinds served", accept=f"{_AGGREGATED},application/json")
            if found.get("kind") == "APIGroupDiscoveryList":
                for item in found.get("items") or ():
                    group = item["metadata"].get("name") or ""
                    # The first version is the preferred one; the others serve the same kinds.
                    for version in item["versions"][:1]:
                        entries = [_flat(entry) for entry in version.get("resources") or ()]
                        self._kinds[group, version["version"]] = list(_kinds(group, version["version"], entries))
            elif path == "/api":
                self._kinds["", "v1"] = self._load("", "v1")
            else:
                for entry in found.get("groups") or ():
                    group, version = entry["name"], entry["preferredVersion"]["version"]
                    self._kinds[group, version] = self._load(group, version)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the aggregated discovery in the form of the plain one."""
    return {
        "name": entry["resource"],
        "kind": (entry.get("responseKind") or {}).get("kind", ""),
        "singularName": entry.get("singularResource", ""),
        "shortNames": entry.get("shortNames") or [],
        "namespaced": entry.get("scope") == "Namespaced",
    }


def _kinds(group: str, version: str, resources: Iterable[Mapping[str, Any]]) -> Iterable[Kind]:
    for resource in resources:
        plural, kind = resource["name"], resource["kind"]
        if "/" in plural:
            continue
        names = {
            plural,
            kind.lower(),
            resource.get("singularName") or kind.lower(),
            *(resource.get("shortNames") or ()),
        }
        if group:
            names |= {f"{plural}.{group}", f"{kind.lower()}.{group}"}
        yield Kind(group, version, kind, plural, bool(resource.get("namespaced")), frozenset(names))


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _short(error: object) -> str:
    """The last, most telling part of an error's text: connection refused, timed out."""
    text = str(error)
    return text.rpartition(": ")[2] if "Errno" in text else text
