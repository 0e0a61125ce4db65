"""The article's plugin, compiled from Go with Higress' SDK."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit.proxywasm import Host, Plugin

SOURCE = Path(__file__).parents[2] / "plugins" / "mock"
RULES = {
    "content": "hello higress",
    "_rules_": [
        {"_match_route_": ["default/foo"], "content": "hello foo"},
        {"_match_route_": ["default/bar"], "content": "hello bar"},
        {"_match_domain_": ["*.example.com"], "content": "hello world"},
    ],
}


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("needs Go")
    target = tmp_path_factory.mktemp("mock") / "plugin.wasm"
    command = ["go", "build", "-buildmode=c-shared", "-o", str(target), "."]
    subprocess.run(command, cwd=SOURCE, check=True, env={**os.environ, "GOOS": "wasip1", "GOARCH": "wasm"})
    return target


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
def test_the_four_replies(module, host, route, expected, fast):
    plugin = Plugin.load(module, config=RULES, host=Host(fast=fast))
    result = plugin.request("GET", f"http://{host}/", route=route)
    assert (result.status, result.text, result.sent_by) == (200, expected, "plugin")
    assert result.problems == []


def test_a_thousand_requests_leave_nothing_behind(module):
    plugin = Plugin.load(module, config=RULES)
    for _ in range(1000):
        plugin.request()
    assert set(plugin.vm.contexts) == {0, plugin.context.id}
