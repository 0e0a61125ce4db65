"""What can go wrong between the kit and an API server, in words for people."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import LabkitError, UsageError


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that the API server refused.

    Attributes:
        field: Its path, such as `spec.matchRules[0].ingress`.
        message: What is wrong with it.
        line: Its line in the manifest, when it came from one.
    """

    field: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.field}: {self.message}"


class KubeError(LabkitError):
    """An API server refused, failed, or could not be asked."""


class ApiServerAway(KubeError):
    """Nothing answers at the address in the kubeconfig, or there is no kubeconfig."""


class NotFound(KubeError):
    """No such object, or no such namespace."""


class UnknownKind(KubeError):
    """The API server does not serve this kind."""


class Conflict(KubeError):
    """Somebody else changed the object at the same time."""


class Invalid(KubeError):
    """The API server refused an object.

    Attributes:
        problems: The fields it refused, as far as it named them.
    """

    def __init__(
        self,
        message: str,
        *,
        problems: Sequence[FieldProblem] = (),
        hint: str | None = None,
        details: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, details=details)
        self.problems = tuple(problems)


class ManifestError(UsageError, KubeError):
    """A manifest that is not YAML, or not Kubernetes objects."""


class NotReady(KubeError):
    """A WasmPlugin that the gateway refused, or that did not become ready in time.

    Attributes:
        reason: The condition's reason, such as `PullFailed`; empty when nothing was said in time.
    """

    def __init__(self, message: str, *, reason: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


_UNKNOWN_FIELD = re.compile(r'(unknown|duplicate) field "([^"]+)"')
_TYPED_FIELD = re.compile(r"(?:as a \w+: )([A-Za-z][\w.\[\]]*): (.+)")


def from_status(code: int, body: bytes | str | None, what: str) -> KubeError:
    """The exception for a failed answer.

    Args:
        code: The HTTP status.
        body: The answer's body, a `Status` object if it came from an API server.
        what: What was asked about, for the message: `WasmPlugin higress-system/mock`.
    """
    status = _status(body)
    message = str(status.get("message") or f"HTTP status {code}")
    if code == 404:
        kind = (status.get("details") or {}).get("kind")
        if kind == "namespaces" and not what.startswith("Namespace"):
            name = status["details"].get("name")
            return NotFound(f"{what}: there is no namespace {name!r}", hint=f"kubectl create namespace {name}")
        return NotFound(f"{what} not found")
    if code in (401, 403):
        return KubeError(f"{what}: not allowed: {message}", hint="check the user in the kubeconfig")
    if code == 409:
        return Conflict(f"{what}: {message}", hint="try again")
    if code in (400, 422):
        problems = _problems(status, message)
        if problems:
            first = f"{problems[0].field}: {problems[0].message}"
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return Invalid(f"{what} was refused: {first}{more}", problems=problems)
        return Invalid(f"{what} was refused: {message}")
    return KubeError(f"{what}: the API server answered {code}: {message}")


def _status(body: bytes | str | None) -> dict[str, Any]:
    try:
        found = json.loads(body or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _problems(status: dict[str, Any], message: str) -> list[FieldProblem]:
    causes = (status.get("details") or {}).get("causes") or []
    found = [
        FieldProblem(str(cause.get("field")), str(cause.get("message")))
        for cause in causes
        if isinstance(cause, dict) and cause.get("field")
    ]
    if not found:
        found = [FieldProblem(field, f"{what} field") for what, field in _UNKNOWN_FIELD.findall(message)]
    if not found and (match := _TYPED_FIELD.search(message)):
        found = [FieldProblem(match[1], match[2])]
    return found
