"""The status of a WasmPlugin: conditions, and how the agent's answers become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a WasmPlugin is, or is not, Ready."""

    LOADED = "Loaded"
    PENDING = "Pending"
    INVALID_SPEC = "InvalidSpec"
    WRONG_NAMESPACE = "WrongNamespace"
    PULL_FAILED = "PullFailed"
    IMAGE_INVALID = "ImageInvalid"
    MODULE_INVALID = "ModuleInvalid"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `status.conditions`.

    Attributes:
        status: True, False or Unknown.
        reason: One word.
        message: One sentence for people.
        type: What the condition is about.
    """

    status: str
    reason: str
    message: str
    type: str = "Ready"


def condition_from_answer(error: str | None) -> Condition:
    """The Ready condition for what the gateway said about a plugin's newest version.

    The agent begins its refusals with the reason: `PullFailed: …`.
    """
    if error is None:
        return Condition("True", Reason.LOADED, "the gateway runs it")
    word, _, rest = error.partition(": ")
    if word in set(Reason):
        return Condition("False", word, rest)
    return Condition("False", Reason.REJECTED, error)


def status_of(
    current: Mapping[str, Any] | None, generation: int, conditions: Iterable[Condition], now: str
) -> dict[str, Any] | None:
    """The status to write, or None when the current one already says so.

    A condition's `lastTransitionTime` moves only when its `status` changes.
    """
    before = {
        str(condition.get("type")): condition
        for condition in (current or {}).get("conditions") or ()
        if isinstance(condition, Mapping)
    }
    written = []
    for condition in conditions:
        old = before.get(condition.type, {})
        moved = old.get("status") != condition.status or not old.get("lastTransitionTime")
        written.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": str(condition.reason),
                "message": condition.message,
                "lastTransitionTime": now if moved else old["lastTransitionTime"],
                "observedGeneration": generation,
            }
        )
    status = {"observedGeneration": generation, "conditions": written}
    return None if current is not None and dict(current) == status else status
