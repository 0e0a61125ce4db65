"""Digests: the names of bytes."""

from __future__ import annotations

import hashlib
import re

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


def digest_of(content: bytes) -> str:
    """`sha256:…` of the bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_digest(text: object) -> bool:
    """Whether this is a sha256 digest, the only kind that registries use in practice."""
    return isinstance(text, str) and _DIGEST.match(text) is not None
