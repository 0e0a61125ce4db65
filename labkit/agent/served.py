"""What Envoy took last for each plugin, kept on disk.

An agent that was restarted must know it: when the newest version of a plugin does not work, the one before has to
keep serving, and Envoy cannot be asked. Its configuration dump names the version it was sent last, even when it
refused that one; and sent the same version again it answers ACK, without looking.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.message import DecodeError

from labkit.agent.resource import pack


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a plugin that Envoy took.

    Attributes:
        owner: Which WasmPlugin it belongs to: another of the same name is another plugin.
        version: Its version.
        body: What was handed over.
    """

    owner: str
    version: str
    body: TypedExtensionConfig


class ServedPlugins:
    """The last good version of every plugin.

    Args:
        directory: Where they are kept; made when it is not there.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def get(self, name: str, owner: str) -> Served | None:
        """The last good version of this plugin of this owner."""
        served = self._read(name)
        return served if served and served.owner == owner else None

    def is_of_another(self, name: str, owner: str) -> bool:
        """Whether the last good version under this name was another owner's."""
        served = self._read(name)
        return served is not None and served.owner != owner

    def _read(self, name: str) -> Served | None:
        response = DiscoveryResponse()
        body = TypedExtensionConfig()
        try:
            response.ParseFromString(self._file(name).read_bytes())
            body.ParseFromString(response.resources[0].value)
        except (OSError, DecodeError, IndexError):
            return None
        return Served(response.nonce, response.version_info, body)

    def put(self, name: str, served: Served) -> None:
        """Remember a version that Envoy took."""
        response = DiscoveryResponse(version_info=served.version, nonce=served.owner, resources=[pack(served.body)])
        descriptor, temporary = tempfile.mkstemp(dir=self._directory, prefix=".", suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(response.SerializeToString())
        os.replace(temporary, self._file(name))

    def drop(self, name: str) -> None:
        """Forget a plugin that Envoy no longer asks for."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.pb"
