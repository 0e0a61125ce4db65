"""How much of the machine a plugin may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plugin may use; what goes beyond traps, or is cut off, and the Python process lives on.

    Attributes:
        memory: Bytes of linear memory (Envoy allows 1 GiB). `memory.grow` beyond it fails.
        table: Elements of its tables together.
        stack: Bytes of Wasm stack.
        depth: Nested calls from host into plugin into host …, such as an allocator that calls the host.
        deadline: Seconds of wall-clock time for one callback; None for none.
        fuel: Engine instructions (roughly) for one callback; None for no counting, which is faster.
        log_lines: Log lines kept of one stream, and of the plugin's life outside streams.
        log_line_bytes: Bytes kept of one log line.
        body: Bytes a stream may buffer in each direction before it is answered 413 or 500, as Envoy's
            per_connection_buffer_limit_bytes.
    """

    memory: int = 1 << 30
    table: int = 1_000_000
    stack: int = 512 << 10
    depth: int = 16
    deadline: float | None = 10.0
    fuel: int | None = None
    log_lines: int = 10_000
    log_line_bytes: int = 64 << 10
    body: int = 1 << 20
