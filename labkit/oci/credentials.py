"""Pull secrets: who to say we are, by registry, from a dockerconfigjson."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from labkit.errors import UsageError
from labkit.oci.reference import DOCKER_HUB

_DOCKER_HUB_NAMES = frozenset((DOCKER_HUB, "index.docker.io", "registry-1.docker.io"))


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a password; never shown."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def read_dockerconfigjson(text: str | bytes) -> Mapping[str, Credential]:
    """The credentials in a pull secret, by registry host.

    Raises:
        UsageError: It is no dockerconfigjson. What it says is not repeated, since it is secret.
    """
    try:
        entries = json.loads(text)["auths"]
        return {_host(name): _credential(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise UsageError(
            "the pull secret is no dockerconfigjson",
            hint="`kubectl create secret docker-registry` makes a proper one: "
            '{"auths": {"HOST": {"username": …, "password": …}}}',
        ) from None


def _host(name: str) -> str:
    """Old configs have whole URLs as names."""
    host = urlsplit(name if "//" in name else f"//{name}").netloc
    return DOCKER_HUB if host in _DOCKER_HUB_NAMES else host


def _credential(entry: Mapping[str, str]) -> Credential:
    if entry.get("auth"):
        username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not colon:
            raise ValueError("no colon")
        return Credential(username, password)
    return Credential(str(entry["username"]), str(entry["password"]))
