"""HTTP to registries: where a registry really is, who we are, and what is worth trying again.

Plain http is spoken to loopback addresses only. A redirect or a token service may not lead from the outside world
to this machine, or from https to http.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urljoin

import httpx

from labkit.oci._errors import AuthenticationFailed, OciError, RegistryUnavailable
from labkit.oci.credentials import Credential
from labkit.oci.reference import DOCKER_HUB

_BUSY = frozenset((429, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 5
_MAX_WAIT = 5.0
_MAX_ANSWER = 1 << 20
_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^",\s]+))')

_T = TypeVar("_T")


class Transient(Exception):
    """An attempt failed in a way that may pass; `after` is how long the registry asked us to wait."""

    def __init__(self, problem: str, after: float | None = None) -> None:
        super().__init__(problem)
        self.after = after


class Transport:
    """Requests to registries, by the host names that references have."""

    def __init__(
        self,
        *,
        mirrors: Mapping[str, str],
        credentials: Mapping[str, Credential],
        timeout: float,
        attempts: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._mirrors = dict(mirrors)
        self._credentials = dict(credentials)
        self._attempts = attempts
        self._sleep = sleep
        self._authorizations: dict[tuple[str, str], str] = {}
        limits = httpx.Timeout(timeout, connect=min(timeout, 5.0))
        # Proxies from the environment are for the outside world.
        self._outside = httpx.Client(timeout=limits)
        self._loopback = httpx.Client(timeout=limits, trust_env=False)

    def close(self) -> None:
        """Close all connections."""
        self._outside.close()
        self._loopback.close()

    def base(self, registry: str) -> str:
        """The URL under which a registry is reached."""
        address = self._mirrors.get(registry, registry)
        if address == DOCKER_HUB:
            address = "registry-1.docker.io"
        return f"{'http' if _is_loopback(_parse(f'//{address}').host) else 'https'}://{address}"

    def persist(self, registry: str, attempt: Callable[[], _T]) -> _T:
        """Call `attempt` until it no longer fails with `Transient`, waiting longer each time.

        Only for what may be done twice without harm.
        """
        problem = ""
        for number in range(self._attempts):
            try:
                return attempt()
            except Transient as error:
                problem = str(error)
                if number + 1 < self._attempts:
                    self._sleep(min(_MAX_WAIT, error.after if error.after is not None else 0.1 * 3**number))
        address = self.base(registry).partition("//")[2]
        where = registry if address == registry else f"{registry} (at {address})"
        raise RegistryUnavailable(
            f"registry {where} does not answer: {problem}",
            hint="is it running? `labkit status` tells for the lab's own; otherwise check the name and the network",
        )

    @contextmanager
    def open(
        self,
        registry: str,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Iterator[httpx.Response]:
        """Send one request and give the answer, its body still unread.

        Args:
            registry: The logical host.
            method: The HTTP method.
            url: A path, or a URL that the registry itself gave.
            scope: What to ask a token service for, such as `repository:plugins/mock:pull`.
            headers: More headers.
            content: The body.

        Raises:
            Transient: Worth another attempt.
            AuthenticationFailed: The registry turned us away.
        """
        target = self._safe(registry, _join(self.base(registry) + "/", url))
        response = self._send(registry, method, target, scope, headers, content)
        if response.status_code == 401:
            challenge = response.headers.get("www-authenticate", "")
            response.close()
            self._authorizations[registry, scope] = self._authorize(registry, scope, challenge)
            response = self._send(registry, method, target, scope, headers, content)
        try:
            if response.status_code in (401, 403):
                raise self._turned_away(registry, scope)
            if response.status_code in _BUSY:
                raise Transient(f"status {response.status_code}", _retry_after(response))
            yield response
        except httpx.TransportError as error:
            raise Transient(str(error) or type(error).__name__) from None
        finally:
            response.close()

    def _send(
        self,
        registry: str,
        method: str,
        url: httpx.URL,
        scope: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> httpx.Response:
        """One request, following redirects of reads."""
        home = _parse(self.base(registry))
        for _ in range(_MAX_REDIRECTS + 1):
            all_headers = {"Accept-Encoding": "identity", **(headers or {})}
            authorization = self._authorizations.get((registry, scope))
            if authorization is not None and _origin(url) == _origin(home):
                all_headers["Authorization"] = authorization
            response = self._raw(method, url, all_headers, content)
            location = response.headers.get("location")
            if method not in ("GET", "HEAD") or response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            url = self._safe(registry, _join(str(url), location))
        raise RegistryUnavailable(
            f"registry {registry} sends us in circles", hint="check the registry's name and its configuration"
        )

    def _raw(self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None) -> httpx.Response:
        client = self._loopback if _is_loopback(url.host) else self._outside
        try:
            return client.send(client.build_request(method, url, headers=headers, content=content), stream=True)
        except httpx.TransportError as error:
            raise Transient(str(error) or type(error).__name__) from None

    def _safe(self, registry: str, text: str) -> httpx.URL:
        """The URL, if a registry of this kind may send us there."""
        url = _parse(text)
        if _is_loopback(url.host):
            allowed = url.scheme in ("http", "https") and _is_loopback(_parse(self.base(registry)).host)
        else:
            allowed = url.scheme == "https"
        if not allowed:
            raise OciError(
                f"registry {registry} points to {url.scheme}://{url.host}, which is not safe",
                hint="registries must use https, unless they run on this machine",
            )
        return url

    def _authorize(self, registry: str, scope: str, challenge: str) -> str:
        """Answer a challenge; the value of the Authorization header to send from now on."""
        kind, _, rest = challenge.partition(" ")
        credential = self._credentials.get(registry)
        if kind.lower() == "basic" and credential is not None:
            return credential.basic
        parameters = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
        if kind.lower() != "bearer" or "realm" not in parameters:
            raise self._turned_away(registry, scope)
        query = {"scope": parameters.get("scope") or scope}
        if "service" in parameters:
            query["service"] = parameters["service"]
        realm = self._safe(registry, parameters["realm"]).copy_merge_params(query)
        response = self._raw("GET", realm, {"Authorization": credential.basic} if credential else {}, None)
        try:
            if response.status_code in _BUSY:
                raise Transient(f"its token service answers {response.status_code}", _retry_after(response))
            if response.status_code != 200:
                raise self._turned_away(registry, scope)
            answer = json.loads(read_limited(response, _MAX_ANSWER))
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (ValueError, KeyError, AttributeError, RecursionError):
            raise self._turned_away(registry, scope) from None
        finally:
            response.close()

    def _turned_away(self, registry: str, scope: str) -> AuthenticationFailed:
        what = scope.removeprefix("repository:")
        if registry in self._credentials:
            return AuthenticationFailed(
                f"registry {registry} does not accept the credentials for {what}",
                hint="check user, password and rights in the pull secret",
            )
        return AuthenticationFailed(
            f"registry {registry} wants credentials for {what}",
            hint="name a secret of type kubernetes.io/dockerconfigjson as imagePullSecret; "
            "some registries also answer so when the image does not exist",
        )


def read_limited(response: httpx.Response, limit: int) -> bytes:
    """The body as it was sent, of `limit` bytes at most.

    Raises:
        ValueError: It is longer.
        Transient: The connection broke.
    """
    content = bytearray()
    try:
        for part in response.iter_raw():
            content += part
            if len(content) > limit:
                raise ValueError(f"more than {limit} bytes")
    except httpx.TransportError as error:
        raise Transient(str(error) or type(error).__name__) from None
    return bytes(content)


def _join(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        raise _no_url(location) from None


def _parse(text: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, ValueError, UnicodeError):
        raise _no_url(text) from None


def _no_url(text: str) -> OciError:
    return OciError(f"{text[:200]!r} is no URL", hint="check the registry's name and its configuration")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
