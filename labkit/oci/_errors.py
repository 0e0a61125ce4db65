"""What can go wrong between an image's name and the module in it."""

from __future__ import annotations

from labkit.errors import LabkitError, UsageError


class InvalidReference(UsageError):
    """The text is no image reference."""


class OciError(LabkitError):
    """An image could not be built, pushed, pulled or read."""


class RegistryUnavailable(OciError):
    """Nothing that speaks the registry protocol answers, or it keeps failing."""


class AuthenticationFailed(OciError):
    """The registry wants to know who is asking, and did not accept the answer."""


class ImageNotFound(OciError):
    """The registry has no such repository, tag or digest."""


class PushRefused(OciError):
    """The registry did not take the image."""


class InvalidImage(OciError):
    """What was found under the reference is not an image that a gateway can use."""


class ImageTooLarge(InvalidImage):
    """The image, or what its layers unpack to, is larger than allowed."""


class DigestMismatch(InvalidImage):
    """The bytes that arrived are not those that were announced."""


class ModuleNotInImage(InvalidImage):
    """The image is fine, but has no plugin.wasm where a gateway looks for it."""


class DockerUnavailable(OciError):
    """No Docker engine answers."""


class DockerBuildFailed(OciError):
    """The Docker engine could not build the image."""
