"""`metadata`: what the server fills in, what it keeps, and what it refuses."""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from labkit.kube.apiserver._catalog import Resource
from labkit.kube.apiserver._status import Cause
from labkit.kube.apiserver._store import Object

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")

# No vowels, and no digits that look like letters: generated names never spell words.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name', or '123-abc')"
)
_SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')"
)


def now() -> str:
    """The time as the API writes it, in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generate_name(prefix: str) -> str:
    """A name for `generateName`: the prefix and five characters."""
    return prefix[:58] + "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))


def stamp_new(metadata: dict[str, Any], resource: Resource) -> None:
    """Fill in what only the server decides about a new object."""
    for key in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        metadata.pop(key, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now()
    if resource.generation:
        metadata["generation"] = 1
    else:
        metadata.pop("generation", None)


def keep_from(old: Object, new: Object, resource: Resource) -> None:
    """Carry over what an update must not change, and count the generation when the spec changed."""
    before, metadata = old["metadata"], new["metadata"]
    for key in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        if key in before:
            metadata[key] = before[key]
        else:
            metadata.pop(key, None)
    metadata.pop("selfLink", None)
    if resource.generation and _content(old, resource) != _content(new, resource):
        metadata["generation"] = before.get("generation", 0) + 1


def _content(body: Object, resource: Resource) -> dict[str, Any]:
    skipped = {"metadata", "apiVersion", "kind"} | ({"status"} if resource.has_status else set())
    return {key: value for key, value in body.items() if key not in skipped}


def name_problem(name: str, resource: Resource) -> str | None:
    """Why a name cannot be used for this kind, or None."""
    if resource.key == "services":
        pattern, rule, limit = _SERVICE, _SERVICE_RULE, 63
    elif resource.key == "namespaces":
        pattern, rule, limit = _LABEL, _LABEL_RULE, 63
    else:
        pattern, rule, limit = _SUBDOMAIN, _SUBDOMAIN_RULE, 253
    if len(name) > limit:
        return f"must be no more than {limit} characters"
    return None if pattern.match(name) else rule


def problems(metadata: dict[str, Any], resource: Resource) -> list[Cause]:
    """What is wrong with the metadata a user wrote; types are already checked."""
    found = []
    name = metadata.get("name", "")
    if not name:
        found.append(Cause("metadata.name", "Required value: name or generateName is required", "FieldValueRequired"))
    elif why := name_problem(name, resource):
        found.append(Cause("metadata.name", f'Invalid value: "{name}": {why}'))
    for key, value in (metadata.get("labels") or {}).items():
        if why := _key_problem(key):
            found.append(Cause("metadata.labels", f'Invalid value: "{key}": {why}'))
        if value and (len(value) > 63 or not _QUALIFIED.match(value)):
            why = (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345')"
            )
            found.append(Cause("metadata.labels", f'Invalid value: "{value}": {why}'))
    annotations = metadata.get("annotations") or {}
    found += [
        Cause("metadata.annotations", f'Invalid value: "{key}": {why}')
        for key in annotations
        if (why := _key_problem(key.lower()))
    ]
    if sum(len(key) + len(value) for key, value in annotations.items()) > 256 * 1024:
        message = "Too long: may not be more than 262144 bytes"
        found.append(Cause("metadata.annotations", message, "FieldValueTooLong"))
    return found


def _key_problem(key: str) -> str | None:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.match(prefix)):
        return f"prefix part {_SUBDOMAIN_RULE}"
    if not name:
        return "name part must be non-empty"
    if len(name) > 63 or not _QUALIFIED.match(name):
        return (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc')"
        )
    return None
