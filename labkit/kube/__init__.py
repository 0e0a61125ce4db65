"""Kubernetes: the client that everything in the kit uses; `labkit.kube.apiserver` is the embedded API server.

>>> from labkit.kube import Client
>>> client = Client("~/.kube/config")
>>> client.apply("manifests/wasmplugin.yaml")
"""

from labkit.kube._client import FIELD_MANAGER, Applied, Client, Table, ready_condition
from labkit.kube._errors import (
    ApiServerAway,
    Conflict,
    FieldProblem,
    Invalid,
    KubeError,
    ManifestError,
    NotFound,
    NotReady,
    UnknownKind,
)
from labkit.kube._manifests import Document, Manifest, documents
from labkit.kube._watch import Changed, Listed, Watch

__all__ = [
    "FIELD_MANAGER",
    "ApiServerAway",
    "Applied",
    "Changed",
    "Client",
    "Conflict",
    "Document",
    "FieldProblem",
    "Invalid",
    "KubeError",
    "Listed",
    "Manifest",
    "ManifestError",
    "NotFound",
    "NotReady",
    "Table",
    "UnknownKind",
    "Watch",
    "documents",
    "ready_condition",
]
