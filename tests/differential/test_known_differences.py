"""What is known to differ between the hosts, each pinned to what either of them does: see docs/differences.md."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .compare import NORMALISED, decode_pairs
from .conftest import Differ, Modules
from .embedded import Embedded
from .envoy import Envoy, Filter
from .model import Case, Message, Outcome, request, response
from .plugins import PLUGINS, build
from .programs import Call, encode

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"
BODY = (b"hello ", b"world")

KNOWN: dict[str, Callable[..., None]] = {}
"""The tests of this module, by the heading under which the document explains the difference."""


def known(heading: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def register(test: Callable[..., None]) -> Callable[..., None]:
        KNOWN[heading] = test
        return test

    return register


def scripted(*calls: Call) -> Case:
    asked = request("/path?query", ("x-script", encode(calls)), ("x-a", "A"), method="POST", chunks=(b"asked",))
    return Case("script", asked, response(200, ("x-a", "B"), chunks=BODY))


@known("A request without `:scheme` goes on without one")
def test_removed_scheme(differ: Differ) -> None:
    outcome, others = differ.outcomes(scripted(("q", "remove", "0", ":scheme")))
    assert outcome.forwarded is not None
    assert outcome.forwarded.get(b":scheme") == b"http"
    for other in others.values():
        assert other.forwarded is not None
        assert other.forwarded.get(b":scheme") is None


@known("A whole header map as a property keeps the order of the headers")
def test_order_of_a_header_map_property(differ: Differ) -> None:
    outcome, others = differ.outcomes(scripted(("q", "property", "request\0headers"), ("q", "pairs", "0")))
    theirs = _pairs(outcome, "q property 0 ")
    for other in others.values():
        ours = _pairs(other, "q property 0 ")
        assert ours == _pairs(other, "q pairs 0 ")
        assert sorted(ours) == sorted(theirs)


@known("Facts about connections and clocks are the caller's or made up")
@pytest.mark.parametrize(
    "path", ["source.address", "destination.address", "connection.id", "request.time", "upstream.address"]
)
def test_facts_that_only_a_network_has(path: str, differ: Differ) -> None:
    name = path.replace(".", "\0")
    outcome, others = differ.outcomes(scripted(("r", "property", name)))
    answers = {line for each in (outcome, *others.values()) for line in each.log if line.startswith("r property")}
    assert len(answers) > 1
    assert next(line for line in outcome.log if line.startswith("r property")).startswith("r property 0 ")


@known("Higress' ABI lets bodies come while the headers are held back")
def test_pause_in_a_module_of_higress(modules: Modules, differ: Differ, plugin_cache: Path) -> None:
    if "relay" in modules.missing:
        pytest.skip(modules.missing["relay"])
    unfitted = Embedded([(PLUGINS["relay"], build("go/relay", plugin_cache))], fast=True)
    case = Case("relay", asked_to_relay(), response(200, chunks=BODY), response(200, chunks=(b"called",)))
    outcome = differ.check(case)
    other = unfitted.run(case, "case-0")
    assert len(outcome.callouts) == len(other.callouts) == 1
    # Held back as a whole in upstream Envoy, the body comes in one piece; with Higress' ABI in those it was sent in.
    assert [line for line in outcome.log if line.startswith("request body")] == ["request body true"]
    assert [line for line in other.log if line.startswith("request body")] == [
        "request body false",
        "request body true",
    ]


def asked_to_relay() -> Message:
    return request("/", ("x-relay", "request"), method="POST", chunks=BODY)


CRASHES: dict[str, tuple[Call, ...]] = {
    "proxy_close_stream in proxy_on_log": (("l", "close_stream", "0"),),
    "proxy_continue_stream for the response while the request is under way": (("q", "continue_stream", "1"),),
}


@known("What ends Envoy does not end the embedded host")
@pytest.mark.parametrize("calls", CRASHES.values(), ids=CRASHES)
def test_what_ends_envoy(calls: tuple[Call, ...], modules: Modules, tmp_path: Path) -> None:
    if "script" in modules.missing:
        pytest.skip(modules.missing["script"])
    module = modules.paths["script"]
    ending, plain = scripted(*calls), scripted()
    with Envoy(Path(sys.executable).with_name("envoy"), [Filter("script", module)], tmp_path) as envoy:
        envoy.run(ending, "case-1")
        assert envoy.wait() != 0
    embedded = Embedded([(PLUGINS["script"], module)], fast=True)
    embedded.run(ending, "case-1")
    outcome = embedded.run(plain, "case-2")
    assert outcome.complete


def _pairs(outcome: Outcome, start: str) -> list[tuple[bytes, bytes]]:
    line = next(line for line in outcome.log if line.startswith(start))
    return decode_pairs(line.removeprefix(start))


def test_every_known_difference_and_every_normalisation_is_explained() -> None:
    text = DOCUMENT.read_text()
    for heading in KNOWN:
        assert f"### {heading}\n" in text, heading
    for rule in NORMALISED:
        assert f"| `{rule}` |" in text, rule


def test_every_explained_difference_is_known() -> None:
    section = DOCUMENT.read_text().partition("## Known differences")[2].partition("\n## ")[0]
    explained = {line.removeprefix("### ") for line in section.splitlines() if line.startswith("### ")}
    assert explained == set(KNOWN)
