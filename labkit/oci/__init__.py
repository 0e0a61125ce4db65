"""Images of plugins: building them with or without Docker, pushing, pulling, taking the module out."""

from labkit.oci._errors import (
    AuthenticationFailed,
    DigestMismatch,
    DockerBuildFailed,
    DockerUnavailable,
    ImageNotFound,
    ImageTooLarge,
    InvalidImage,
    InvalidReference,
    ModuleNotInImage,
    OciError,
    PushRefused,
    RegistryUnavailable,
)
from labkit.oci.credentials import Credential, read_dockerconfigjson
from labkit.oci.digest import digest_of, is_digest
from labkit.oci.docker import build_with_docker, docker_engine
from labkit.oci.extract import MAX_UNPACKED, Extracted, extract_module
from labkit.oci.image import MODULE_NAME, Descriptor, Image, Layer, build_image
from labkit.oci.manifest import Manifest
from labkit.oci.reference import Reference
from labkit.oci.registry import MAX_IMAGE, Pushed, RegistryClient, pull_module

__all__ = [
    "MAX_IMAGE",
    "MAX_UNPACKED",
    "MODULE_NAME",
    "AuthenticationFailed",
    "Credential",
    "Descriptor",
    "DigestMismatch",
    "DockerBuildFailed",
    "DockerUnavailable",
    "Extracted",
    "Image",
    "ImageNotFound",
    "ImageTooLarge",
    "InvalidImage",
    "InvalidReference",
    "Layer",
    "Manifest",
    "ModuleNotInImage",
    "OciError",
    "PushRefused",
    "Pushed",
    "Reference",
    "RegistryClient",
    "RegistryUnavailable",
    "build_image",
    "build_with_docker",
    "digest_of",
    "docker_engine",
    "extract_module",
    "is_digest",
    "pull_module",
    "read_dockerconfigjson",
]
