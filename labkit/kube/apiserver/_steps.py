"""Step 4 of the article: a WasmPlugin is created, or changed.

The API server notes it itself, because it alone knows when an object is in force, whoever sent it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from labkit.events import Journal
from labkit.kube.apiserver._store import Change

_log = logging.getLogger(__name__)


def recorder(journal: Journal) -> Callable[[Change], None]:
    """What notes each new generation of a WasmPlugin in `journal`."""

    def record(change: Change) -> None:
        metadata = change.body["metadata"]
        before = (change.previous or {}).get("metadata", {}).get("generation")
        if change.body.get("kind") != "WasmPlugin" or change.type == "DELETED" or metadata.get("generation") == before:
            return
        try:
            journal.record(
                4,
                part="kube",
                plugin=f"{metadata['namespace']}/{metadata['name']}",
                generation=metadata["generation"],
                url=(change.body.get("spec") or {}).get("url"),
                resource_version=metadata["resourceVersion"],
            )
        except OSError as error:
            # The object is committed; a full disk under the journal must not undo that.
            _log.warning("cannot write the journal: %s", error)

    return record
