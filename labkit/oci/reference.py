"""Names of images: registry, repository, tag and digest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from labkit.oci._errors import InvalidReference
from labkit.oci.digest import is_digest

DOCKER_HUB = "docker.io"
"""The registry that is meant when a reference names none."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(?P<port>\d{1,5}))?$")
_COMPONENT = re.compile(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$")
_TAG = re.compile(r"^\w[\w.-]{0,127}$", re.ASCII)
_EXAMPLE = "an image is named like oci://registry.lab/plugins/mock:1.0.0"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, with everything filled in that may be left out.

    >>> str(Reference.parse("oci://registry.lab/plugins/mock:1.0.0"))
    'registry.lab/plugins/mock:1.0.0'
    >>> Reference.parse("nginx")
    Reference(registry='docker.io', repository='library/nginx', tag='latest', digest=None)

    Attributes:
        registry: Host, with a port when it has one.
        repository: The path inside the registry.
        tag: The tag; `latest` when neither tag nor digest was given.
        digest: `sha256:…`; when set, it decides, and the tag is only for people.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference, with or without `oci://`.

        Raises:
            InvalidReference: Names the part that is wrong.
        """
        scheme = _SCHEME.match(text)
        if scheme and scheme[1] != "oci":
            raise _invalid(text, f"{scheme[1]}:// is no scheme of an image")
        rest = text[scheme.end() :] if scheme else text
        rest, _, digest = rest.partition("@")
        if "@" in text and not is_digest(digest):
            raise _invalid(text, f"{digest!r} is no digest (sha256: and 64 hexadecimal digits)")
        path, tag = _split_tag(rest)
        if tag is not None and not _TAG.match(tag):
            raise _invalid(text, f"{tag!r} is no tag (letters, digits, _ . -, at most 128)")
        registry, repository = _split_registry(path)
        host = _HOST.match(registry)
        if not host or int(host["port"] or 1) not in range(1, 65536):
            raise _invalid(text, f"{registry!r} is no registry host")
        _check_repository(text, repository)
        if tag is None and not digest:
            tag = "latest"
        return cls(registry, repository, tag, digest or None)

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest when there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def with_digest(self, digest: str) -> Reference:
        """The same image, nailed down to one manifest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def url(self) -> str:
        """As a WasmPlugin's spec wants it."""
        return f"oci://{self}"


def _split_tag(text: str) -> tuple[str, str | None]:
    """The tag begins at the last colon, unless that belongs to a port."""
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "/" not in tail and "]" not in tail else (text, None)


def _split_registry(path: str) -> tuple[str, str]:
    first, slash, rest = path.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, rest
    else:
        registry, repository = DOCKER_HUB, path
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _check_repository(text: str, repository: str) -> None:
    if len(repository) > 255:
        raise _invalid(text, "the repository is longer than 255 characters")
    for component in repository.removeprefix("library/").split("/"):
        if not component:
            raise _invalid(text, "a part of the repository is empty")
        if component != component.lower():
            raise _invalid(text, f"{component!r} has capital letters; repositories are written small")
        if not _COMPONENT.match(component):
            raise _invalid(text, f"{component!r} is no part of a repository (a-z, 0-9, and . _ - between them)")


def _invalid(text: str, problem: str) -> InvalidReference:
    shown = text if len(text) <= 200 else text[:200] + "…"
    return InvalidReference(f"{shown!r} is no image reference: {problem}", hint=_EXAMPLE)
