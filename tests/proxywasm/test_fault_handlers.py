"""A trap never ends the Python process, whoever enables Python's fault handler and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import faulthandler
from labkit.proxywasm import Plugin

MODULE = '''
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable))
'''
{before}
plugin = Plugin.load(MODULE.encode())
{after}
print(plugin.request("GET", "http://example.com/").status)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", "faulthandler.enable()"),
        ("faulthandler.enable()", ""),
        ("faulthandler.enable()", "faulthandler.enable()"),
        ("faulthandler.disable()", "faulthandler.enable()"),
    ],
)
@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"], ["-X", "dev"]], ids=str)
def test_a_trap_is_survived(options, before, after):
    program = PROGRAM.format(before=before, after=after)
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "503\n"
