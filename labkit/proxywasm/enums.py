"""The ABI's numbers with names."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What a host function answers (`proxy_status_t`)."""

    OK = 0
    NOT_FOUND = 1
    BAD_ARGUMENT = 2
    SERIALIZATION_FAILURE = 3
    PARSE_FAILURE = 4
    BAD_EXPRESSION = 5
    INVALID_MEMORY_ACCESS = 6
    EMPTY = 7
    CAS_MISMATCH = 8
    RESULT_MISMATCH = 9
    INTERNAL_FAILURE = 10
    BROKEN_CONNECTION = 11
    UNIMPLEMENTED = 12


class LogLevel(IntEnum):
    """Severity of a log line."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CRITICAL = 5


class MapType(IntEnum):
    """The header maps a plugin can name."""

    REQUEST_HEADERS = 0
    REQUEST_TRAILERS = 1
    RESPONSE_HEADERS = 2
    RESPONSE_TRAILERS = 3
    GRPC_RECEIVE_INITIAL_METADATA = 4
    GRPC_RECEIVE_TRAILING_METADATA = 5
    HTTP_CALL_RESPONSE_HEADERS = 6
    HTTP_CALL_RESPONSE_TRAILERS = 7


class BufferType(IntEnum):
    """The byte buffers a plugin can name. The last one is Higress' own."""

    HTTP_REQUEST_BODY = 0
    HTTP_RESPONSE_BODY = 1
    NETWORK_DOWNSTREAM_DATA = 2
    NETWORK_UPSTREAM_DATA = 3
    HTTP_CALL_RESPONSE_BODY = 4
    GRPC_RECEIVE_BUFFER = 5
    VM_CONFIGURATION = 6
    PLUGIN_CONFIGURATION = 7
    CALL_DATA = 8
    REDIS_CALL_RESPONSE = 9


class StreamType(IntEnum):
    """Directions of a stream that can be continued or closed."""

    REQUEST = 0
    RESPONSE = 1
    DOWNSTREAM = 2
    UPSTREAM = 3


class MetricType(IntEnum):
    """Kinds of metrics."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class Action(IntEnum):
    """What a callback of a phase answers.

    The ABI knows the first two; Envoy takes its own filter statuses too, which differ between headers and bodies.
    """

    CONTINUE = 0
    PAUSE = 1


class PeerType(IntEnum):
    """Who closed a TCP connection."""

    UNKNOWN = 0
    LOCAL = 1
    REMOTE = 2
