"""The verbs: create, update, patch, apply and delete, with all that a write brings along."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.kube.apiserver import _kinds, _metadata
from labkit.kube.apiserver._apply import apply as merge_applied
from labkit.kube.apiserver._apply import track_update
from labkit.kube.apiserver._catalog import CRD_KEY, NAMESPACES, Catalog, Resource
from labkit.kube.apiserver._patch import PatchError, json_patch, merge, strategic_merge
from labkit.kube.apiserver._schema import apply_defaults, drop_nulls, prune, validate
from labkit.kube.apiserver._selectors import Predicate
from labkit.kube.apiserver._status import (
    ApiError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    unsupported_media_type,
)
from labkit.kube.apiserver._store import Object, Store

PROTECTED_NAMESPACES = ("default", "higress-system", "kube-system")
"""The namespaces that are there from the start and cannot be deleted."""

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(slots=True)
class Write:
    """How a write is meant: the options of the request, and the warnings it gathers for the answer."""

    field_validation: str = "Warn"
    dry_run: bool = False
    manager: str = "unknown"
    force: bool = False
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must still hold for a delete."""

    uid: str = ""
    version: str = ""


class Objects:
    """Carries out the verbs on a store; keeps the catalog in step with the CustomResourceDefinitions."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object, or 404."""
        found = self._store.get(resource.key, namespace, name)
        if found is None:
            raise not_found(resource.plural, resource.group, name)
        return found

    def create(self, resource: Resource, namespace: str, body: Any, write: Write) -> Object:
        """Create an object; 409 when its name is taken."""
        body = self._checked_envelope(resource, namespace, "", body)
        metadata = body["metadata"]
        if not metadata.get("name") and isinstance(metadata.get("generateName"), str):
            metadata["name"] = _metadata.generate_name(metadata["generateName"])
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if resource.has_status:
            body.pop("status", None)
        self._clean(resource, body, write)
        self._check_namespace(resource, namespace, metadata.get("name", ""))
        metadata.pop("managedFields", None)
        return self._create(resource, body, write)

    def _create(self, resource: Resource, body: Object, write: Write, *, track: bool = True) -> Object:
        metadata = body["metadata"]
        if self._store.get(resource.key, metadata.get("namespace", ""), metadata.get("name", "")):
            raise already_exists(resource.plural, resource.group, metadata["name"])
        self._validate(resource, body)
        _metadata.stamp_new(metadata, resource)
        self._finish(resource, body, None)
        if track:
            track_update(None, body, resource.object_schema(), write.manager, write.subresource)
        return self._store_object(resource, body, write)

    def update(self, resource: Resource, namespace: str, name: str, body: Any, write: Write) -> Object:
        """Replace an object, or its status."""
        old = self.get(resource, namespace, name)
        body = self._checked_envelope(resource, namespace, name, body)
        if resource.custom and not body["metadata"].get("resourceVersion"):
            message = "Invalid value: 0: must be specified for an update"
            raise self._invalid(resource, name, "metadata.resourceVersion", message)
        return self._replace(resource, old, body, write)

    def patch(
        self, resource: Resource, namespace: str, name: str, media_type: str, patch: Any, write: Write
    ) -> tuple[Object, bool]:
        """Patch an object, or its status; apply creates what is not there.

        Returns:
            The object, and whether it was created.
        """
        if media_type == APPLY_PATCH or media_type == "application/apply-patch+json":
            return self._apply(resource, namespace, name, patch, write)
        if media_type == STRATEGIC_PATCH and resource.custom:
            supported = ", ".join((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
            raise unsupported_media_type(media_type, supported)
        patchers: dict[str, Callable[[Any, Any], Any]] = {
            JSON_PATCH: json_patch,
            MERGE_PATCH: merge,
            STRATEGIC_PATCH: strategic_merge,
        }
        if media_type not in patchers:
            raise unsupported_media_type(media_type, ", ".join([*patchers, APPLY_PATCH]))
        if media_type != JSON_PATCH and not isinstance(patch, dict):
            raise bad_request("a merge patch must be an object")
        old = self.get(resource, namespace, name)
        try:
            body = patchers[media_type](self.shown(resource, old), patch)
        except PatchError as error:
            raise ApiError(
                422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
            ) from None
        body = self._checked_envelope(resource, namespace, name, body)
        return self._replace(resource, old, body, write), False

    def _apply(self, resource: Resource, namespace: str, name: str, patch: Any, write: Write) -> tuple[Object, bool]:
        applied = self._checked_envelope(resource, namespace, name, patch)
        if applied["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        self._clean(resource, applied, write)
        schema = resource.object_schema()
        old = self._store.get(resource.key, namespace, name)
        if old is None:
            if write.subresource:
                raise not_found(resource.plural, resource.group, name)
            if resource.has_status:
                applied.pop("status", None)
            self._check_namespace(resource, namespace, name)
            blank = {**applied, "metadata": dict(applied["metadata"])}
            body, _ = merge_applied(blank, applied, schema, write.manager, "", force=True)
            return self._create(resource, body, write, track=False), True
        if resource.has_status and not write.subresource:
            applied.pop("status", None)
        if write.subresource:
            applied = {
                key: value for key, value in applied.items() if key in ("apiVersion", "kind", "metadata", "status")
            }
        self._check_version(resource, old, applied)
        body, conflicts = merge_applied(
            self.shown(resource, old), applied, schema, write.manager, write.subresource, force=write.force
        )
        if conflicts:
            raise _apply_conflict(conflicts)
        return self._replace(resource, old, body, write, track=False), False

    def _replace(self, resource: Resource, old: Object, body: Object, write: Write, *, track: bool = True) -> Object:
        self._check_version(resource, old, body)
        body = copy.deepcopy(body)
        if write.subresource == "status":
            fresh = copy.deepcopy(self.shown(resource, old))
            fresh["metadata"]["managedFields"] = body["metadata"].get("managedFields", [])
            fresh.pop("status", None)
            if "status" in body:
                fresh["status"] = body["status"]
            body = fresh
        elif resource.has_status:
            body.pop("status", None)
            if "status" in old:
                body["status"] = copy.deepcopy(old["status"])
        self._clean(resource, body, write)
        _metadata.keep_from(old, body, resource)
        self._validate(resource, body)
        if not write.subresource:
            self._finish(resource, body, old)
        if track:
            body["metadata"]["managedFields"] = old["metadata"].get("managedFields", [])
            track_update(old, body, resource.object_schema(), write.manager, write.subresource)
        return self._store_object(resource, body, write, old)

    def _store_object(self, resource: Resource, body: Object, write: Write, old: Object | None = None) -> Object:
        if resource.custom:
            body["apiVersion"] = f"{resource.group}/{resource.stored_version}"
        if old is not None:
            body["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            if body == old:
                return old
        if write.dry_run:
            body["metadata"].setdefault("resourceVersion", "")
            return body
        if old is not None and body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
            self._store.put(resource.key, body)
            return self._remove(resource, body)
        stored = self._store.put(resource.key, body)
        if resource.key == CRD_KEY:
            self._catalog.define(stored)
        return stored

    def shown(self, resource: Resource, body: Object) -> Object:
        """A stored object as this version of its kind shows it."""
        if body["apiVersion"] == resource.api_version:
            return body
        return {**body, "apiVersion": resource.api_version}

    def delete(
        self, resource: Resource, namespace: str, name: str, expected: Preconditions, *, dry_run: bool = False
    ) -> Object:
        """Delete an object; one with finalizers is only marked, and goes when they are gone."""
        old = self.get(resource, namespace, name)
        metadata = old["metadata"]
        if expected.uid and expected.uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {expected.uid}, UID in object meta: {metadata['uid']}"
            raise conflict(resource.plural, resource.group, name, why)
        if expected.version and expected.version != metadata["resourceVersion"]:
            why = (
                f"Precondition failed: ResourceVersion in precondition: {expected.version}, ResourceVersion in object "
                f"meta: {metadata['resourceVersion']}"
            )
            raise conflict(resource.plural, resource.group, name, why)
        if resource.key == NAMESPACES and name in PROTECTED_NAMESPACES:
            raise forbidden(resource.plural, resource.group, name, "this namespace may not be deleted")
        if dry_run:
            return old
        with self._store.batch():
            if metadata.get("finalizers"):
                return self._mark_deleted(resource, old)
            if resource.key == NAMESPACES:
                return self._delete_namespace(resource, old)
            return self._remove(resource, old)

    def delete_all(
        self, resource: Resource, namespace: str | None, wanted: Predicate | None, *, dry_run: bool
    ) -> list[Object]:
        """Delete every object that fits; returns them as they were."""
        doomed = [body for body in self._store.objects(resource.key, namespace) if wanted is None or wanted(body)]
        for body in doomed:
            metadata = body["metadata"]
            self.delete(resource, metadata.get("namespace", ""), metadata["name"], Preconditions(), dry_run=dry_run)
        return doomed

    def _mark_deleted(self, resource: Resource, body: Object) -> Object:
        if body["metadata"].get("deletionTimestamp"):
            return body
        metadata = {**body["metadata"], "deletionTimestamp": _metadata.now(), "deletionGracePeriodSeconds": 0}
        if resource.generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
        return self._store.put(resource.key, {**body, "metadata": metadata})

    def _remove(self, resource: Resource, body: Object) -> Object:
        metadata = body["metadata"]
        namespace = metadata.get("namespace", "")
        removed = self._store.delete(resource.key, namespace, metadata["name"])
        if resource.key == CRD_KEY:
            self._remove_custom_objects(removed)
        holder = self._store.get(NAMESPACES, "", namespace) if namespace else None
        if holder and holder["metadata"].get("deletionTimestamp") and not self._store.in_namespace(namespace):
            self._store.delete(NAMESPACES, "", namespace)
        return removed

    def _remove_custom_objects(self, definition: Object) -> None:
        key = definition["metadata"]["name"]
        for body in self._store.objects(key):
            self._store.delete(key, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        self._catalog.forget(key)

    def _delete_namespace(self, resource: Resource, namespace: Object) -> Object:
        """Empty a namespace, then remove it; objects with finalizers keep it terminating."""
        name = namespace["metadata"]["name"]
        marked = self._mark_deleted(resource, {**namespace, "status": {"phase": "Terminating"}})
        for key, body in self._store.in_namespace(name):
            held = self._catalog.by_key(key)
            if held and body["metadata"].get("finalizers"):
                self._mark_deleted(held, body)
            else:
                self._store.delete(key, name, body["metadata"]["name"])
        if not self._store.in_namespace(name):
            return self._store.delete(NAMESPACES, "", name)
        return marked

    def _checked_envelope(self, resource: Resource, namespace: str, name: str, given: Any) -> Object:
        """A copy of the body whose apiVersion, kind, namespace and name fit the path."""
        if not isinstance(given, dict):
            raise bad_request(f"the body must be one {resource.kind} object")
        body: Object = copy.deepcopy(given)
        for key, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
            actual = body.setdefault(key, expected)
            if actual != expected:
                what = "API version" if key == "apiVersion" else "kind"
                raise bad_request(f"the {what} in the data ({actual}) does not match the expected {what} ({expected})")
        metadata = body.get("metadata")
        if metadata is None:
            metadata = body["metadata"] = {}
        if not isinstance(metadata, dict):
            raise bad_request(f"{resource.kind}: metadata must be an object")
        if resource.namespaced:
            stated = metadata.get("namespace") or namespace
            if stated != namespace:
                raise bad_request(
                    f"the namespace of the provided object does not match the namespace sent on the request"
                    f" ({stated} is not {namespace})"
                )
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        if name and metadata.setdefault("name", name) != name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        return body

    def _clean(self, resource: Resource, body: Object, write: Write) -> None:
        """Drop unknown fields (or refuse them), then nulls; fill in defaults."""
        schema = resource.object_schema()
        managed = body["metadata"].pop("managedFields", None)
        drop_nulls(body, schema)
        if unknown := prune(body, schema):
            words = [f'unknown field "{path}"' for path in sorted(unknown)]
            if write.field_validation == "Strict":
                raise self._undecodable(resource, "strict decoding error: " + ", ".join(words))
            if write.field_validation == "Warn":
                write.warnings += [word for word in words if word not in write.warnings]
        apply_defaults(body, schema)
        if managed is not None:
            body["metadata"]["managedFields"] = managed

    def _undecodable(self, resource: Resource, why: str) -> ApiError:
        return bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'
        )

    def _validate(self, resource: Resource, body: Object) -> None:
        """Check the body against its schema; until then its parts may be of any type."""
        managed = body["metadata"].pop("managedFields", None)
        causes = validate(body, resource.object_schema())
        if managed is not None:
            body["metadata"]["managedFields"] = managed
        typed = [cause for cause in causes if cause.reason == "FieldValueTypeInvalid"]
        if typed and (not resource.custom or typed[0].field.startswith("metadata")):
            # Built-in kinds are refused while they are decoded, before validation.
            raise self._undecodable(resource, "; ".join(str(cause) for cause in typed))
        if not any(cause.field.startswith("metadata") for cause in causes):
            causes = _metadata.problems(body["metadata"], resource) + causes
        if causes:
            raise invalid(resource.kind, resource.group, body["metadata"].get("name", ""), causes)

    def _finish(self, resource: Resource, body: Object, old: Object | None) -> None:
        """Fill in and check what one built-in kind needs beyond its schema."""
        _kinds.finish(resource.key, body, old)
        if causes := _kinds.problems(resource.key, body, old):
            raise invalid(resource.kind, resource.group, body["metadata"]["name"], causes)

    def _invalid(self, resource: Resource, name: str, path: str, message: str) -> ApiError:
        from labkit.kube.apiserver._status import Cause

        return invalid(resource.kind, resource.group, name, [Cause(path, message)])

    def _check_version(self, resource: Resource, old: Object, body: Object) -> None:
        metadata = body["metadata"]
        name = old["metadata"]["name"]
        if metadata.get("uid") and metadata["uid"] != old["metadata"]["uid"]:
            uid = old["metadata"]["uid"]
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {uid}"
            raise conflict(resource.plural, resource.group, name, why)
        given = metadata.get("resourceVersion")
        if given and given != old["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(resource.plural, resource.group, name, why)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        holder = self._store.get(NAMESPACES, "", namespace)
        if holder is None:
            raise not_found(NAMESPACES, "", namespace)
        if holder["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource.plural, resource.group, name, why)


def _apply_conflict(conflicts: list[Any]) -> ApiError:
    words = "\n".join(f"- {cause.field}" for cause in conflicts)
    managers = sorted({cause.message.removeprefix("conflict with ") for cause in conflicts})
    count = f"{len(conflicts)} conflict{'s' if len(conflicts) > 1 else ''}"
    message = f"Apply failed with {count}: conflicts with {', '.join(managers)}:\n{words}"
    return ApiError(409, "Conflict", message, causes=conflicts)
