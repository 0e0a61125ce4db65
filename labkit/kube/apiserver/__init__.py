"""The embedded Kubernetes API server: the REST API for the kinds the lab needs, on loopback, kept in sqlite.

Started as a process of its own, `python -m labkit.kube.apiserver --port P --data DIR --kubeconfig FILE`, and reached
like any other cluster, through the kubeconfig it writes. One module a concept:

- `_http` and `_paths` read requests, `_codec` bodies, `_responses` writes objects, lists, tables and Status,
- `_catalog` knows the kinds that are served, built in or defined by a CustomResourceDefinition,
- `_objects` carries out the verbs, with `_metadata`, `_patch`, `_apply`, `_schema` and `_kinds` for their parts,
- `_store` keeps objects and the log of changes, `_watch` streams it.
"""

from labkit.kube.apiserver._server import ServerConfig, serve

__all__ = ["ServerConfig", "serve"]
