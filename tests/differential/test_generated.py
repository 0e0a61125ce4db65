"""The same generated requests through the embedded host and through the real Envoy give the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from . import programs, strategies
from .conftest import Differ
from .model import Case

SMALL = 3000
"""Bodies that arrive at Envoy in one read, so that what happens meanwhile happens in the same order every time."""

CASES: dict[str, tuple[int, st.SearchStrategy[Case]]] = {
    "script": (
        200,
        strategies.cases("script", extra=programs.programs().map(lambda p: (("x-script", p),)), largest=20_000),
    ),
    "stamp": (40, strategies.cases("stamp", extra=strategies.header("x-stamp", "1", ""))),
    "as-headers": (40, strategies.cases("as-headers", extra=strategies.header("x-as-remove", "1", ""))),
    "auth": (
        40,
        strategies.cases(
            "auth", extra=strategies.header("x-auth", "callout", "refused", "unknown"), silent=True, largest=SMALL
        ),
    ),
    "body": (60, strategies.cases("body", extra=strategies.header("x-body", "upper", "reverse", "drop", "frame"))),
    "relay": (
        40,
        strategies.cases(
            "relay",
            extra=strategies.header(
                "x-relay", "request", "request-body", "response", "response-body", "tick", "metrics"
            ),
            largest=SMALL,
        ),
    ),
    "relay-refused": (
        10,
        strategies.cases(
            "relay-refused",
            extra=strategies.header("x-relay", "request", "request-body", "response", "response-body"),
            largest=SMALL,
        ),
    ),
    "wrapped": (40, strategies.cases("wrapped")),
    "wrapped, with a call-out": (
        20,
        strategies.cases("wrapped", extra=strategies.header("x-call", "/call"), largest=SMALL),
    ),
    "deferred": (
        20,
        strategies.cases(
            "deferred",
            extra=strategies.header("x-hold", "1"),
            reply_extra=strategies.header("x-hold", "1"),
            largest=SMALL,
        ),
    ),
    "legacy": (20, strategies.cases("legacy", extra=strategies.header("x-hold", "1"), largest=SMALL)),
    "queue": (20, strategies.cases("queue", largest=SMALL)),
}


@pytest.mark.parametrize("plugin", CASES)
def test_generated_requests_get_the_same_from_both_hosts(plugin: str, differ: Differ) -> None:
    count, cases = CASES[plugin]

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    )
    @given(cases)
    def check(case: Case) -> None:
        differ.check(case)

    check()
