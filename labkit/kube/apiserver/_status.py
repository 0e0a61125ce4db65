"""Errors as the Kubernetes API words them: an exception that becomes a `Status` object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why an object was refused: the field, what kind of problem, and the words."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A request that is answered with a failure `Status`."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        name: str = "",
        group: str = "",
        kind: str = "",
        causes: Sequence[Cause] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.name = name
        self.group = group
        self.kind = kind
        self.causes = tuple(causes)

    def status(self) -> dict[str, Any]:
        """The `Status` object to answer with."""
        details: dict[str, Any] = {
            key: value for key, value in (("name", self.name), ("group", self.group), ("kind", self.kind)) if value
        }
        if self.causes:
            details["causes"] = [
                {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in self.causes
            ]
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            status["details"] = details
        return status


def qualified(plural_or_kind: str, group: str) -> str:
    """`wasmplugins.extensions.higress.io`; the core group has no suffix."""
    return f"{plural_or_kind}.{group}" if group else plural_or_kind


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    """403: understood, and not allowed."""
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, name=name, group=group, kind=plural)


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404: no such object."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, name=name, group=group, kind=plural)


def no_such_resource() -> ApiError:
    """404: the path names nothing that is served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    """405: the resource exists, the verb does not."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409: create of what is there."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, name=name, group=group, kind=plural)


def conflict(plural: str, group: str, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """409: the object has changed since it was read, or a precondition does not hold."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, name=name, group=group, kind=plural, causes=causes)


def expired(message: str) -> ApiError:
    """410: the asked-for resourceVersion is older than the log of changes."""
    return ApiError(410, "Expired", message)


def unsupported_media_type(content_type: str, supported: str) -> ApiError:
    """415: a body in a format that is not read here."""
    message = f"the body of the request was in an unknown format {content_type!r} - accepted media types: {supported}"
    return ApiError(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: well-formed, but not a valid object of its kind."""
    words = [str(cause) for cause in causes]
    listed = words[0] if len(words) == 1 else "[" + ", ".join(words) + "]"
    message = f'{qualified(kind, group)} "{name}" is invalid: {listed}'
    return ApiError(422, "Invalid", message, name=name, group=group, kind=kind, causes=causes)
