"""The kinds that are served: the built-in ones and those that CustomResourceDefinitions add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.kube.apiserver._models import Schema
from labkit.kube.apiserver._status import qualified
from labkit.kube.apiserver._store import Object

CRD_KEY = "customresourcedefinitions.apiextensions.k8s.io"
NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table kubectl prints."""

    name: str
    path: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """One version of one kind, as a path of the REST API addresses it.

    Attributes:
        model: The kubernetes package's model of a built-in kind; empty for custom ones.
        schema: The openAPIV3Schema of a custom kind.
        generation: Whether changes of the spec count up `metadata.generation`.
        stored_version: The version objects are kept in; others differ by `apiVersion` alone.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    model: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    has_status: bool = False
    generation: bool = False
    stored_version: str = ""
    list_kind: str = ""

    @property
    def key(self) -> str:
        """What the store keeps the objects under, for all versions the same."""
        return qualified(self.plural, self.group)

    @property
    def api_version(self) -> str:
        """`extensions.higress.io/v1alpha1`, or `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition defines the kind."""
        return not self.model

    def object_schema(self) -> Schema:
        """The schema of a whole object of this kind."""
        base: Schema = {"$ref": self.model} if self.model else dict(self.schema)
        if self.model:
            return base
        properties = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            **(base.get("properties") or {}),
            "metadata": {"$ref": "V1ObjectMeta"},
        }
        return {"type": "object", **base, "properties": properties}


def _built_in(group: str, kind: str, plural: str, **more: Any) -> Resource:
    singular = kind.lower()
    model = more.pop("model", f"V1{kind}")
    return Resource(group, "v1", kind, plural, singular, model=model, **more)


BUILT_IN: tuple[Resource, ...] = (
    _built_in("", "Namespace", NAMESPACES, namespaced=False, short_names=("ns",), has_status=True),
    _built_in("", "Service", "services", short_names=("svc",), categories=("all",), has_status=True),
    _built_in("", "Secret", "secrets"),
    _built_in("", "ConfigMap", "configmaps", short_names=("cm",)),
    _built_in("", "Event", "events", short_names=("ev",), model="CoreV1Event"),
    _built_in("networking.k8s.io", "Ingress", "ingresses", short_names=("ing",), has_status=True, generation=True),
    _built_in("networking.k8s.io", "IngressClass", "ingressclasses", namespaced=False, generation=True),
    _built_in("discovery.k8s.io", "EndpointSlice", "endpointslices", generation=True),
    _built_in(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        has_status=True,
        generation=True,
    ),
)


class Catalog:
    """Finds the resource that a path names; changes when a CustomResourceDefinition does."""

    def __init__(self, definitions: Iterable[Object] = ()) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._custom: dict[str, tuple[Resource, ...]] = {}
        self.revision = 0
        for resource in BUILT_IN:
            self._by_path[resource.group, resource.version, resource.plural] = resource
        for definition in definitions:
            self.define(definition)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource at `/apis/group/version/…/plural`, or None."""
        return self._by_path.get((group, version, plural))

    def all(self) -> list[Resource]:
        """Every resource in every served version."""
        return list(self._by_path.values())

    def groups(self) -> dict[str, list[str]]:
        """The served versions of each group but the core one, preferred version first."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._by_path:
            if group and version not in found.setdefault(group, []):
                found[group].append(version)
        return found

    def by_key(self, key: str) -> Resource | None:
        """Any version of the resource with a store key."""
        return next((resource for resource in self._by_path.values() if resource.key == key), None)

    def define(self, definition: Object) -> None:
        """Serve what a CustomResourceDefinition says, instead of what it said before."""
        self.forget(definition["metadata"]["name"])
        resources = tuple(custom_resources(definition))
        self._custom[definition["metadata"]["name"]] = resources
        for resource in resources:
            self._by_path[resource.group, resource.version, resource.plural] = resource

    def forget(self, name: str) -> None:
        """Stop serving the kind of a CustomResourceDefinition."""
        self.revision += 1
        for resource in self._custom.pop(name, ()):
            self._by_path.pop((resource.group, resource.version, resource.plural), None)


_AGE = Column("Age", ".metadata.creationTimestamp", "date")


def custom_resources(definition: Object) -> Iterable[Resource]:
    """The resources, one a served version, of a valid CustomResourceDefinition."""
    spec = definition["spec"]
    names = spec["names"]
    versions = spec["versions"]
    stored = next(version["name"] for version in versions if version.get("storage"))
    base = Resource(
        group=spec["group"],
        version="",
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        generation=True,
        stored_version=stored,
        list_kind=names.get("listKind") or names["kind"] + "List",
    )
    for version in versions:
        if version.get("served"):
            columns = tuple(
                Column(
                    column["name"],
                    column["jsonPath"],
                    column["type"],
                    column.get("format", ""),
                    column.get("description", ""),
                    column.get("priority", 0),
                )
                for column in version.get("additionalPrinterColumns") or ()
            )
            yield replace(
                base,
                version=version["name"],
                schema=(version.get("schema") or {}).get("openAPIV3Schema") or {},
                columns=columns or (_AGE,),
                has_status="status" in (version.get("subresources") or {}),
            )
