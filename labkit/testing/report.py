"""Show the results of suites: as text, as JUnit's XML, as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as ET

from labkit.testing.benchmark import Benchmark
from labkit.testing.results import SuiteResult, TestResult

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_text(results: Sequence[SuiteResult]) -> str:
    """One line a test, what is wrong with those that failed, and how many there were."""
    lines: list[str] = []
    for suite in results:
        lines.append(str(suite.path))
        for test in suite.tests:
            lines.append(f"  {'ok  ' if test.passed else 'FAIL'} {test.name}")
            if not test.passed:
                lines += [f"       {line}" for line in test.explain().split("\n")]
    tests = [test for suite in results for test in suite.tests]
    failed = sum(not test.passed for test in tests)
    lines.append(f"{len(tests) - failed} passed, {failed} failed")
    return "\n".join(lines)


def to_junit(results: Sequence[SuiteResult]) -> str:
    """The results as JUnit's XML, which continuous integration reads."""
    root = ET.Element("testsuites")
    for suite in results:
        failed = sum(not test.passed for test in suite.tests)
        seconds = f"{sum(test.seconds for test in suite.tests):.6f}"
        element = ET.SubElement(
            root,
            "testsuite",
            {"name": str(suite.path), "tests": str(len(suite.tests)), "failures": str(failed), "errors": "0"},
            time=seconds,
        )
        for test in suite.tests:
            _add_case(element, str(suite.path), test)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_case(parent: ET.Element, suite: str, test: TestResult) -> None:
    case = ET.SubElement(parent, "testcase", classname=suite, name=_xml(test.name), time=f"{test.seconds:.6f}")
    if not test.passed:
        first = test.failures[0]
        failure = ET.SubElement(case, "failure", message=_xml(f"[{first.phase}] {first.what}"), type="failure")
        failure.text = _xml("\n".join(map(str, test.failures)))
    if test.logs:
        ET.SubElement(case, "system-out").text = _xml("\n".join(f"{log.phase}: {log.line}" for log in test.logs))


def _xml(text: str) -> str:
    """Text without the characters that XML cannot have."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def to_json(results: Sequence[SuiteResult], benchmarks: Sequence[Benchmark] = ()) -> dict[str, Any]:
    """The results as a document."""
    suites = [
        {
            "path": str(suite.path),
            "passed": suite.passed,
            "tests": [
                {
                    "name": test.name,
                    "passed": test.passed,
                    "seconds": round(test.seconds, 6),
                    "failures": [asdict(failure) for failure in test.failures],
                    "logs": [asdict(log) for log in test.logs],
                }
                for test in suite.tests
            ],
        }
        for suite in results
    ]
    return {
        "passed": all(suite.passed for suite in results),
        "suites": suites,
        "benchmarks": [asdict(benchmark) for benchmark in benchmarks],
    }
