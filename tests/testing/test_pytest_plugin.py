"""The pytest plugin, in pytest runs of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from labkit.proxywasm import Plugin, Response
from labkit.testing import assert_clean, assert_forwarded, assert_logged, assert_replied

pytest_plugins = ["pytester"]

SUITE = """env {{ wasm_path: "{plugin}" }}
test {{
  name: "sets"
  request_headers {{
    input {{ header {{ key: ":path" value: "/" }} }}
    result {{ has_header {{ key: "x-set" value: "{value}" }} }}
  }}
}}
test {{ name: "nothing" }}
"""


@pytest.fixture(autouse=True)
def _strict(pytester):
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config\n")


def run(pytester, *arguments):
    # The inner run's fault handler would, at its end, put the signal handlers back that were there before those of the
    # Wasm engine, and the next trap would kill the process.
    return pytester.runpytest("-p", "no:faulthandler", *arguments)


def test_fixture_loads_plugins(pytester, sample_path):
    pytester.makepyfile(
        f"""
        import pytest
        from labkit.testing import assert_logged, assert_replied

        def test_reply(wasm_plugin):
            plugin = wasm_plugin({str(sample_path)!r}, config="hello")
            assert_logged(plugin, "hello")
            assert_replied(plugin.request(headers={{"x-reply": "1"}}), 403, "denied+", headers={{"x-reply": "one"}})

        def test_of_its_own(wasm_plugin):
            one, two = (wasm_plugin({str(sample_path)!r}, config=text) for text in ("one", "two"))
            assert one.vm is not two.vm
            assert one.module is two.module

        @pytest.mark.wasm_plugin({str(sample_path)!r}, config="marked")
        def test_marker(wasm_plugin, wasm_host):
            plugin = wasm_plugin()
            assert plugin.host is wasm_host
            assert_logged(plugin, "marked")
            assert_logged(wasm_plugin(config="other"), "other")
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_default_plugin_of_the_ini_file(pytester, sample_path):
    (pytester.path / "plugin.wasm").write_bytes(sample_path.read_bytes())
    (pytester.path / "config.json").write_text("from the ini file")
    pytester.makeini("[pytest]\nlabkit_plugin = plugin.wasm\nlabkit_config = config.json\n")
    pytester.mkdir("sub")
    (pytester.path / "sub/test_a.py").write_text(
        "from labkit.testing import assert_logged\n"
        "def test_a(wasm_plugin):\n    assert_logged(wasm_plugin(), 'from the ini file')\n"
    )
    run(pytester).assert_outcomes(passed=1)


def test_no_plugin_at_all(pytester):
    pytester.makepyfile("def test_a(wasm_plugin):\n    wasm_plugin()\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no plugin: pass one to wasm_plugin*"])


def test_missing_plugin_is_named(pytester):
    pytester.makepyfile("def test_a(wasm_plugin):\n    wasm_plugin('none.wasm')\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*none.wasm*"])


def test_suites_named_like_one_that_name_their_plugin(pytester, sample_path):
    (pytester.path / "good_test.textpb").write_text(SUITE.format(plugin=sample_path, value="by plugin"))
    (pytester.path / "bad_test.textpb").write_text(SUITE.format(plugin=sample_path, value="wrong"))
    (pytester.path / "my_test.yaml").write_text(f"env:\n  wasm_path: {sample_path}\ntest: [{{name: of yaml}}]\n")
    (pytester.path / "foreign_test.yaml").write_text("test: [[[ not even yaml")
    (pytester.path / "other.yaml").write_text("env:\n  wasm_path: x\n")
    result = run(pytester, "-v")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            "bad_test.textpb::sets FAILED*",
            "*header 'x-set' has another value",
            "*- x-set: wrong",
            "*+ x-set: by plugin",
            "*request_headers: [[]info[]] request headers",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "foreign" not in result.stdout.str()


def test_suites_of_the_ini_file(pytester, sample_path):
    (pytester.path / "plugin.wasm").write_bytes(sample_path.read_bytes())
    pytester.makeini("[pytest]\nlabkit_suites = suites/*.yaml\nlabkit_plugin = plugin.wasm\n")
    pytester.mkdir("suites")
    (pytester.path / "suites/a.yaml").write_text("test: [{name: one}, {}]")
    (pytester.path / "suites/broken.yaml").write_text("tests: []")
    (pytester.path / "b_test.yaml").write_text("env:\n  wasm_path: x\ntest: [{name: not listed}]")
    result = run(pytester, "--continue-on-collection-errors", "-v")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["suites/a.yaml::one PASSED*", "suites/a.yaml::test?1? PASSED*"])
    result.stdout.fnmatch_lines(["*broken.yaml:1:1: tests is no field of TestSuite*"])


def test_suite_without_plugin(pytester):
    pytester.makeini("[pytest]\nlabkit_suites = *.yaml\n")
    (pytester.path / "a.yaml").write_text("test: [{name: one}]")
    (pytester.path / "b.yaml").write_text("env: {wasm_path: none.wasm}\ntest: [{name: one}]")
    result = run(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*no plugin*", "*none.wasm*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("flags", [[], ["-X", "faulthandler"]])
def test_trap_in_a_plugin_that_the_conftest_loaded(pytester, sample_path, flags):
    pytester.makeconftest(f"from labkit.proxywasm import Plugin\nPLUGIN = Plugin.load({str(sample_path)!r})\n")
    pytester.makepyfile(
        "from conftest import PLUGIN\n"
        "def test_trap():\n    assert PLUGIN.request(headers={'x-trap': '1'}).trap is not None\n"
    )
    result = pytester.run(sys.executable, *flags, "-m", "pytest")
    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_runs_that_do_not_use_it_import_nothing():
    code = (
        "import sys, labkit.testing.pytest_plugin as p\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('wasmtime', 'google', 'yaml', 'httpx')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FAILURES = {
    "upstream": (lambda p: assert_replied(p.request()), "the answer came from the upstream"),
    "status": (lambda p: assert_replied(p.request(headers={"x-reply": "1"}), 200), "status is 403, not 200"),
    "body": (lambda p: assert_replied(p.request(headers={"x-reply": "1"}), body="x"), "body is 'denied+', not 'x'"),
    "header": (
        lambda p: assert_replied(p.request(headers={"x-reply": "1"}), headers={"a": "b"}),
        "header 'a' is missing",
    ),
    "forwarded": (
        lambda p: assert_forwarded(p.request(), headers={"x-set": "other"}),
        "header 'x-set' is 'by plugin', not 'other'",
    ),
    "absent": (lambda p: assert_forwarded(p.request(), absent=["x-set"]), "header 'x-set' is there: 'by plugin'"),
    "forwarded body": (lambda p: assert_forwarded(p.request(body="a"), body="a"), "body is 'a+', not 'a'"),
    "not forwarded": (
        lambda p: assert_forwarded(p.request(headers={"x-reply": "1"})),
        "the request did not reach the upstream",
    ),
    "log": (lambda p: assert_logged(p.request(), "nothing like it"), "the plugin logged: [info] request headers"),
    "plugin's log": (lambda p: assert_logged(p, "nothing like it"), "the plugin logged: "),
    "trap": (lambda p: assert_clean(p.request(headers={"x-trap": "1"})), "trapped: unreachable"),
}


@pytest.mark.parametrize(("check", "why"), FAILURES.values(), ids=FAILURES.keys())
def test_assertions_fail_with_a_reason(sample, check, why):
    with pytest.raises(AssertionError) as caught:
        check(Plugin.load(sample))
    assert why in str(caught.value)


def test_assertions_hold(sample):
    plugin = Plugin.load(sample)
    result = plugin.request(headers={"x-gone": "1"}, body="a", upstream=lambda request: Response(204))
    assert_forwarded(result, {"x-set": "by plugin"}, ["x-gone"], "a+")
    assert_logged(result, "^last chunk$")
    assert_clean(result)
