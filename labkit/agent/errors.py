"""Why the agent refuses a plugin's version. The reasons are words that the controller writes into the status."""

from __future__ import annotations

from labkit.errors import LabkitError


class PluginRefused(LabkitError):
    """A version of a plugin that cannot be handed to Envoy, or that Envoy did not take.

    Args:
        message: Why.
        step: Which of the ten steps it was that failed; by default the one this kind of refusal belongs to.
    """

    reason = "Rejected"
    usual_step = 10

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step or self.usual_step


class PullFailed(PluginRefused):
    """The module cannot be had at present."""

    reason = "PullFailed"
    usual_step = 7


class ImageInvalid(PluginRefused):
    """The bytes came, but they are no image with a module, or not the ones asked for."""

    reason = "ImageInvalid"
    usual_step = 8


class ModuleInvalid(PluginRefused):
    """The module is none that Envoy can run."""

    reason = "ModuleInvalid"
    usual_step = 8


class EnvoyRefused(PluginRefused):
    """Envoy answered with a NACK.

    Args:
        message: Envoy's own text.
        words: What the plugin said about it in Envoy's log, if anything.
    """

    def __init__(self, message: str, words: str = "") -> None:
        super().__init__(message)
        self.words = words
