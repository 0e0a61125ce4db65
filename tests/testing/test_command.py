"""labkit test: exit codes, reports, options."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from labkit.cli.app import run

SUITE = """
test:
- name: passes
  request_headers:
    input: {header: [{key: ":path", value: /}]}
    result: {log: [{exact: request headers}]}
- name: fails <&>
  request_headers:
    input: {header: [{key: ":path", value: /}]}
    result: {has_header: [{key: x-set, value: "\\u0007"}]}
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests.yaml").write_text(SUITE)
    return tmp_path / "tests.yaml"


def test_failing_test(suite, sample_path, capsys):
    assert run(["test", str(sample_path), "tests.yaml"]) == 1
    said = capsys.readouterr().out
    assert "ok   passes" in said
    assert "FAIL fails <&>" in said
    assert "[request_headers] header 'x-set' has another value" in said
    assert "+ x-set: by plugin" in said
    assert "request_headers: [info] request headers" in said
    assert "1 passed, 1 failed" in said


def test_selection(suite, sample_path, capsys):
    assert run(["test", str(sample_path), "tests.yaml", "-k", "PASS"]) == 0
    assert "1 passed, 0 failed" in capsys.readouterr().out
    assert run(["test", str(sample_path), "tests.yaml", "-k", "none"]) == 2


def test_junit(suite, sample_path, tmp_path):
    assert run(["test", str(sample_path), "tests.yaml", "--junit", "report.xml"]) == 1
    root = ET.parse(tmp_path / "report.xml").getroot()
    element = root.find("testsuite")
    assert (element.get("tests"), element.get("failures"), element.get("errors")) == ("2", "1", "0")
    cases = element.findall("testcase")
    assert [case.get("name") for case in cases] == ["passes", "fails <&>"]
    assert cases[0].find("failure") is None
    assert "x-set" in cases[1].find("failure").text
    assert "created" in cases[1].find("system-out").text


def test_json(suite, sample_path, capsys):
    arguments = ["test", str(sample_path), "tests.yaml", "--json", "--benchmark", "--benchmark-min-time", "0.01"]
    assert run([*arguments, "--logfile", "/dev/stdout"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    passing, failing = document["suites"][0]["tests"]
    assert passing["passed"]
    assert failing["failures"][0]["phase"] == "request_headers"
    assert {"phase": "stream_init", "line": "[info] created"} in failing["logs"]
    names = [item["name"] for item in document["benchmarks"]]
    assert names == ["PluginLifecycle", "StreamLifecycle", "passes", "fails <&>"]
    assert all(item["rounds"] > 0 and item["median"] > 0 and not item["error"] for item in document["benchmarks"])


def test_only_benchmarks_that_are_asked_for(suite, sample_path, capsys):
    suite.write_text(
        SUITE.replace("- name: passes", "- name: passes\n  benchmark: true").replace(
            "test:", "env: {num_additional_streams: 3, additional_stream_advance_rate: 2}\ntest:", 1
        )
    )
    arguments = ["test", str(sample_path), "tests.yaml", "--no-test", "--bench", "--benchmark-min-time", "0.01"]
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "passes" in said
    assert "fails" not in said


@pytest.mark.parametrize("phase", ["request_headers", "response_headers"])
def test_benchmark_that_cannot_run(tmp_path, sample_path, capsys, phase):
    path = tmp_path / "a.yaml"
    path.write_text(f"test:\n- name: trap\n  {phase}: {{input: {{header: [{{key: x-trap, value: 1}}]}}}}\n")
    arguments = ["test", str(sample_path), str(path), "--no-test", "--benchmark", "--benchmark-min-time", "0.01"]
    assert run(arguments) == 1
    assert f"proxy_on_{phase} trapped" in capsys.readouterr().err


def test_plugin_and_config_of_the_suite_can_be_replaced(tmp_path, sample_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").write_text("from the suite")
    (tmp_path / "other").write_text("from the option")
    for wanted, options in (("suite", []), ("option", ["--config", "other"])):
        (tmp_path / "a.yaml").write_text(
            f"env: {{wasm_path: {sample_path}, config_path: config}}\n"
            f"test: [{{name: a, plugin_init: {{log: [{{exact: from the {wanted}}}]}}}}]"
        )
        assert run(["test", "a.yaml", *options]) == 0
    (tmp_path / "a.yaml").write_text("env: {wasm_path: none.wasm}\ntest: [{name: a}]")
    assert run(["test", "a.yaml"]) == 2
    assert run(["test", "a.yaml", "--plugin", str(sample_path)]) == 0


def test_log_file_is_appended_to(suite, sample_path, tmp_path):
    (tmp_path / "log").write_text("before\n")
    run(["test", str(sample_path), "tests.yaml", "--logfile", "log", "--loglevel", "debug", "-k", "passes"])
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[:2] == ["before", "--- Starting test: passes ---"]
    assert lines[-1] == "--- Finished test: passes ---"
    assert "only seen at DEBUG" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml: cannot be read"),
        (["tests.yaml"], "names no plugin"),
        (["none.wasm", "tests.yaml"], "none.wasm"),
        (["sample"], "no test suite"),
        (["sample", "tests.json"], "tests.json"),
        (["sample", "bad.yaml"], "bad.yaml:1:1: tests is no field"),
        (["sample", "tests.yaml", "--loglevel", "loud"], "no log level"),
        (["sample", "tests.yaml", "--config", "none"], "none: cannot be read"),
        (["sample", "tests.yaml", "--logfile", "none/log"], "none/log: cannot be written"),
        (["sample", "tests.yaml", "--junit", "none/report.xml"], "none/report.xml: cannot be written"),
        (["text.wasm", "tests.yaml"], "text.wasm"),
        (["missing_config.yaml"], "none: cannot be read"),
    ],
)
def test_unusable_input(suite, sample_path, tmp_path, capsys, arguments, message):
    (tmp_path / "bad.yaml").write_text("tests: []")
    (tmp_path / "text.wasm").write_text("hello")
    (tmp_path / "missing_config.yaml").write_text(f"env: {{wasm_path: {sample_path}, config_path: none}}")
    assert run(["test", *(str(sample_path) if part == "sample" else part for part in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
