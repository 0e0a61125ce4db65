"""Where this host differs from Envoy, and why; printed in the docs and in the coverage table.

Everything that is not listed here is meant to be the same, and compared with a real Envoy in `tests/differential`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "proxy_call_foreign_function": (
            "knows compress, uncompress, clear_route_cache, declare_property and set_envoy_filter_state, and what the "
            "host is given; CEL (expr_*) and signatures (sign, verify_signature) answer NotFound"
        ),
        "proxy_get_log_level": "the level of the `Host`, not of Envoy's logger `wasm`",
        "proxy_http_call": (
            "answered by the handlers of the `Host`; the answer has no headers of Envoy's own, such as "
            "x-envoy-upstream-service-time"
        ),
        "proxy_grpc_call": "answered by the handlers of the `Host`; a GrpcService proto counts by its cluster alone",
        "proxy_grpc_stream": "answered by the handlers of the `Host`",
        "proxy_get_property": (
            "node, listener_metadata, upstream TLS and other facts that no listener is there for answer NotFound, "
            "unless the caller sets them"
        ),
        "proxy_redis_init": "handlers need no login; Higress only",
        "proxy_redis_call": "answered by the handlers of the `Host`; Higress only",
        "proxy_get_upstream_hosts": "answers what `StreamInfo.upstream_hosts` says; Higress only",
        "proxy_set_upstream_override_host": "kept in `StreamInfo.override_host`; Higress only",
        "proxy_inject_encoded_data_to_filter_chain": "Higress only; not compared, since upstream Envoy lacks it",
        "path_link": "has the type of WASI; Envoy's lacks the length of the new path, so that no module links with it",
        "path_symlink": "has the type of WASI; Envoy's lacks the length of the new path",
        "random_get": "repeatable when the `Host` was given a seed",
        "clock_time_get": "the clock of the `Host`, which tests may hold still",
        "proxy_get_current_time_nanoseconds": "the clock of the `Host`, which tests may hold still",
    }
)
"""By host function."""

GENERAL: tuple[tuple[str, str], ...] = (
    (
        "Watermarks don't stop anybody",
        "A body that a plugin holds back with a watermark status is kept without limit; in Envoy the sender waits.",
    ),
    (
        "A reload comes exactly after its back-off",
        "Envoy adds up to half of it at random.",
    ),
    (
        "A stream that nothing can continue ends at once",
        "Envoy waits for the stream's idle time-out, five minutes by default, and answers the same.",
    ),
    (
        "`plugin.request` adds no x-request-id",
        "Envoy makes one up, unless it is told not to; tests want the same request twice.",
    ),
    (
        "Response code details of a local reply are the plugin's own",
        "Envoy's access log shows them in the same form; flags (`response.flags`) are always 0 here.",
    ),
)
"""What concerns no single function: what differs, and why."""
