"""The examples of docs/testing.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit.cli.app import run
from labkit.testing import schema

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs/testing.md").read_text()
EXAMPLES = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def examples(language: str) -> list[str]:
    return [text for name, text in EXAMPLES if name == language]


@pytest.fixture
def folder(pytester, mock_module):
    (pytester.path / "plugin.wasm").write_bytes(mock_module.read_bytes())
    (pytester.path / "config.json").write_text('{"content": "hello"}')
    for text in examples("yaml") + examples("textproto"):
        name = text.partition("\n")[0].removeprefix("# ")
        (pytester.path / name).write_text(text)
    return pytester.path


def test_python_examples(pytester, folder):
    tests = [text for text in examples("python") if "def test_" in text]
    pytester.makepyfile("\n".join(tests))
    pytester.runpytest("-p", "no:faulthandler").assert_outcomes(passed=len(tests))
    (script,) = (text for text in examples("python") if "def test_" not in text)
    exec(compile(script, "docs/testing.md", "exec"), {})


def test_command(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (command,) = examples("sh")
    assert run(command.split()[1:]) == 0
    assert "2 passed, 0 failed" in capsys.readouterr().out


def test_ini_options_exist(pytester, folder):
    for text in examples("ini"):
        (pytester.path / "pytest.ini").write_text(text)
        result = pytester.runpytest("-p", "no:faulthandler", "--strict-config")
        assert "Unknown config option" not in result.stdout.str() + result.stderr.str()


def test_every_field_is_in_the_page():
    def fields(descriptor):
        for field in descriptor.fields:
            yield field.name
            if field.message_type is not None:
                yield from fields(field.message_type)

    missing = [name for name in fields(schema.TestSuite.DESCRIPTOR) if f"`{name}`" not in PAGE and name != "test_path"]
    assert not missing
