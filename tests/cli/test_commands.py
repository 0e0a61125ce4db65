"""The command line as people and programs use it: exit codes, one JSON document, errors that say what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit import resources
from labkit.lab import Lab, demo

LABKIT = (sys.executable, "-c", "from labkit.cli import main; main()")


@pytest.fixture
def labkit(tmp_path):
    """Run one command in an empty folder."""

    def run(*arguments: str, home: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LABKIT, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "LABKIT_HOME": str(home or tmp_path / "home"), **environment},
            timeout=180,
        )

    return run


COMMANDS = (
    *("doctor", "up", "down", "status", "logs", "demo"),
    *("build", "push", "apply", "get", "delete", "request", "trace", "test"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(labkit, command):
    shown = labkit(command, "--help")
    assert shown.returncode == 0
    assert "Example" in shown.stdout
    assert f"labkit {command}" in shown.stdout


def test_status_of_a_lab_that_is_down_is_a_document_too(labkit):
    shown = labkit("status", "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["state"] == "down"


def test_doctor_says_what_there_is(labkit):
    document = json.loads(labkit("doctor", "--json").stdout)
    checks = {check["name"]: check for check in document["checks"]}
    assert document["ok"]
    assert "Go 1." in checks["Go"]["found"]
    assert "1.40" in checks["Envoy"]["found"]


@pytest.mark.parametrize(
    "command", [["request", "/foo"], ["push"], ["get", "pods"], ["apply", "-f", "x.yaml"], ["logs"]]
)
def test_a_command_that_needs_the_lab_says_how_to_start_it(labkit, command):
    shown = labkit(*command)
    assert shown.returncode == 1
    assert "the lab is not running" in shown.stderr
    assert "labkit up" in shown.stderr


def test_an_error_is_a_document_when_one_was_asked_for(labkit):
    shown = labkit("request", "/foo", "--json")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["error"] == {
        "message": "the lab is not running",
        "hint": "start it with: labkit up",
        "details": None,
    }


def test_an_unknown_option_is_a_usage_error(labkit):
    shown = labkit("status", "--jason")
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


def test_a_home_that_cannot_be_used_is_one_message(labkit, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for command in ("up", "down", "trace"):
        shown = labkit(command, home=file)
        assert shown.returncode == 1
        assert f"error: {file}" in shown.stderr
        assert "Traceback" not in shown.stderr


def test_go_code_that_does_not_compile_shows_the_compilers_lines(labkit, tmp_path):
    source = shutil.copytree(resources.path("plugins/mock"), tmp_path / "broken")
    code = source / "main.go"
    code.write_text(code.read_text().replace("config.content =", "config.contnt ="))
    shown = labkit("build", "broken")
    assert shown.returncode == 1
    assert "main.go:28:9: config.contnt undefined" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (source / "plugin.wasm").exists()


@pytest.fixture
def served(lab: Lab) -> Lab:
    """A lab whose gateway runs the mock plugin as in manifests/."""
    url = lab.status().gateway["url"]
    if [demo.ask(url, host, path).text for host, path, _, _ in demo.REQUESTS] != [r for *_, r in demo.REQUESTS]:
        demo.run(lab)
    return lab


PLUGIN = """\
apiVersion: extensions.higress.io/v1alpha1
kind: WasmPlugin
metadata:
  name: {name}
  namespace: {namespace}
spec:
  url: {url}
  defaultConfig: {{content: hello}}
  {more}
"""
MOCK = "oci://registry.lab/plugins/mock:1.0.0"
BAD = {
    "unknown tag": (
        {"url": "oci://registry.lab/plugins/mock:9.9.9"},
        1,
        ["registry.lab/plugins/mock has no tag 9.9.9", "1.0.0", "labkit push"],
    ),
    "unknown image": ({"url": "oci://registry.lab/plugins/nobody:1.0.0"}, 1, ["plugins/nobody", "labkit push"]),
    "registry gone": ({"url": "oci://127.0.0.1:1/plugins/mock:1.0.0"}, 1, ["127.0.0.1:1 does not answer"]),
    "image without plugin.wasm": (
        {"url": "oci://registry.lab/plugins/empty:1.0.0"},
        1,
        ["plugin.wasm", "labkit build"],
    ),
    "unknown field": ({"more": "priorty: 3"}, 1, ["spec.priorty", "unknown field"]),
    "wrong type": ({"more": "priority: high"}, 1, ["spec.priority", "must be of type integer"]),
    "rule without a match": ({"more": "matchRules: [{config: {content: x}}]"}, 1, ["spec.matchRules[0]", "ingress"]),
    "not YAML": ({"more": "matchRules: [1,"}, 2, ["line 10", "column 1"]),
    "wrong digest": ({"more": f"sha256: {'0' * 64}"}, 1, ["sha256"]),
    "wrong namespace": ({"namespace": "default"}, 1, ["higress-system"]),
}


@pytest.mark.e2e
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", ["mock", "newcomer"])
def test_bad_input_is_one_clear_message_and_the_lab_goes_on(labkit, served, tmp_path, case, name):
    if "empty" in str(BAD[case][0]):
        push_image_without_module(served)
    values, code, said = BAD[case]
    (tmp_path / "plugin.yaml").write_text(
        PLUGIN.format(**{"name": name, "namespace": "higress-system", "url": MOCK, "more": "", **values})
    )
    try:
        shown = labkit("apply", "-f", "plugin.yaml", home=served.layout.home)
        assert shown.returncode == code, shown.stderr
        for words in said:
            assert words in shown.stderr
        assert "Traceback" not in shown.stderr
        assert served.status().state == "up"
        url = served.status().gateway["url"]
        if name == "mock":
            assert demo.ask(url, "localhost", "/foo").text == "hello foo"
    finally:
        kube = served.kube()
        if name == "mock" and "namespace" not in values:
            (applied,) = kube.apply(resources.path("manifests/wasmplugin.yaml"))
            kube.wait_for_ready(applied)
        elif case != "not YAML":
            kube.delete(tmp_path / "plugin.yaml")


def push_image_without_module(lab: Lab) -> None:
    from labkit import oci
    from labkit.lab.delivery import mirrors
    from labkit.oci.image import assemble, layer_of, tar_of

    image = assemble((layer_of(tar_of("readme.txt", b"nothing here")),), builder="test")
    with oci.RegistryClient(mirrors=mirrors(lab)) as registry:
        registry.push(image, oci.Reference.parse("registry.lab/plugins/empty:1.0.0"))


@pytest.mark.e2e
def test_a_plugin_that_refuses_its_configuration_says_why(labkit, served, tmp_path):
    manifest = PLUGIN.format(name="refused", namespace="higress-system", url=MOCK, more="pluginConfig: {_rules_: [{}]}")
    try:
        (tmp_path / "plugin.yaml").write_text(manifest)
        shown = labkit("apply", "-f", "plugin.yaml", home=served.layout.home)
        assert shown.returncode == 1
        assert "the plugin said: parse rule config failed" in shown.stderr
    finally:
        served.kube().delete(manifest)


@pytest.mark.e2e
def test_a_request_is_one_document(labkit, served):
    shown = labkit("request", "http://www.example.com/", "--json", home=served.layout.home)
    document = json.loads(shown.stdout)
    assert (document["host"], document["status"], document["body"]) == ("www.example.com", 200, "hello world")
    assert ["server", "envoy"] in document["headers"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "arguments",
    [("/foo", "-X", "BAD METHOD"), ("/foo", "-H", "x: ü"), ("/foo", "-H", "x: a\nb"), ("http://[bad",)],
)
def test_a_request_that_cannot_be_sent_is_a_usage_error(labkit, served, arguments):
    shown = labkit("request", *arguments, home=served.layout.home)
    assert shown.returncode == 2
    assert "error: " in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.e2e
def test_trace_shows_ten_steps(labkit, served):
    document = json.loads(labkit("trace", "higress-system/mock", "--json", home=served.layout.home).stdout)
    assert document["plugin"] == "higress-system/mock"
    assert [step["n"] for step in document["steps"]] == list(range(1, 11))
    assert all(step["event"] for step in document["steps"])


@pytest.mark.e2e
def test_get_shows_what_kubectl_shows(labkit, served):
    shown = labkit("get", "wasmplugins", home=served.layout.home)
    assert "mock" in shown.stdout
    assert "Loaded" in shown.stdout
    one = json.loads(labkit("get", "wasmplugin", "mock", "-o", "json", home=served.layout.home).stdout)
    assert one["spec"]["defaultConfig"] == {"content": "hello higress"}


@pytest.mark.e2e
def test_followed_logs_end_with_ctrl_c(served):
    following = subprocess.Popen(
        [*LABKIT, "logs", "gateway", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LABKIT_HOME": str(served.layout.home)},
    )
    assert following.stdout
    assert following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, printed = following.communicate(timeout=20)
    assert following.returncode == 130
    assert "Traceback" not in printed


@pytest.mark.e2e
def test_demo_prints_one_document_and_nothing_else_on_stdout(labkit, served):
    started = time.time()
    shown = labkit("demo", "--json", home=served.layout.home)
    document = json.loads(shown.stdout)
    assert [reply["body"] for reply in document["replies"]] == [reply for *_, reply in demo.REQUESTS]
    assert document["update"]["failed"] == 0
    assert document["seconds"] <= time.time() - started
