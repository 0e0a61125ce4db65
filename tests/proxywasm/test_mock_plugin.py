"""The article's plugin, compiled from Go with Higress' SDK."""

from __future__ import annotations

import pytest

from labkit.proxywasm import Host, Plugin

RULES = {
    "content": "hello higress",
    "_rules_": [
        {"_match_route_": ["default/foo"], "content": "hello foo"},
        {"_match_route_": ["default/bar"], "content": "hello bar"},
        {"_match_domain_": ["*.example.com"], "content": "hello world"},
    ],
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("host", "route", "expected"),
    [
        ("any.test", "default/foo", "hello foo"),
        ("any.test", "default/bar", "hello bar"),
        ("www.example.com", "default/other", "hello world"),
        ("www.abc.com", "default/other", "hello higress"),
    ],
)
def test_the_four_replies(mock_module, host, route, expected, fast):
    plugin = Plugin.load(mock_module, config=RULES, host=Host(fast=fast))
    result = plugin.request("GET", f"http://{host}/", route=route)
    assert (result.status, result.text, result.sent_by) == (200, expected, "plugin")
    assert result.problems == []


def test_a_thousand_requests_leave_nothing_behind(mock_module):
    plugin = Plugin.load(mock_module, config=RULES)
    for _ in range(1000):
        plugin.request()
    assert set(plugin.vm.contexts) == {0, plugin.context.id}
