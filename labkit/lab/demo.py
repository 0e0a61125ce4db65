"""The article's demo, for real: ten steps, four requests that four rules answer, and one update under load."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from labkit import resources
from labkit.events import Event
from labkit.lab import chain, delivery
from labkit.lab.errors import DemoFailed
from labkit.lab.lab import Lab, Progress
from labkit.lab.load import Load

REQUESTS = (
    ("localhost", "/foo", "ingress default/foo", "hello foo"),
    ("localhost", "/bar", "ingress default/bar", "hello bar"),
    ("www.example.com", "/", "domain *.example.com", "hello world"),
    ("www.abc.com", "/", "default config", "hello higress"),
)
"""Host, path, the rule that applies, and the reply: the article's four requests."""

CHANGED = "hello foo, hot-loaded"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the gateway answered to one request, and the rule because of which."""

    host: str
    path: str
    status: int
    body: str
    rule: str


@dataclass(frozen=True, slots=True)
class Step:
    """One of the ten steps: `at` in Unix time; `seconds` as measured by its part, or since the step before."""

    n: int
    name: str
    part: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a rule while requests flow.

    Attributes:
        seconds: From applying the change to the first reply that shows it.
        requests: How many requests were answered from before the change until after its undoing.
        failed: How many of them were not answered with a success.
    """

    seconds: float
    requests: int
    failed: int


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the demo's whole time."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo showed; `seconds` include making the environment when `./scripts/lab` had to."""

    replies: tuple[Reply, ...]
    steps: tuple[Step, ...]
    chain: tuple[chain.Link, ...]
    update: Update
    shares: tuple[Share, ...]
    gateway: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The document that `labkit demo --json` prints."""
        return asdict(self)


class _Clock:
    """Adds up how long each share of the demo takes."""

    def __init__(self) -> None:
        # `./scripts/lab` says when it started and how long the environment took.
        started, _, environment = os.environ.get("LABKIT_SETUP", "").partition(":")
        self.started = float(started) if started else time.time()
        self.shares = [Share("environment", float(environment))] if started else []

    @contextmanager
    def share(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.shares.append(Share(name, round(time.monotonic() - started, 3)))


def run(lab: Lab, on_progress: Progress = lambda line: None, source: Path | None = None) -> Demo:
    """Run the demo on `lab`, which is started when it is not up and stays up. Two at once take turns.

    Args:
        lab: The lab.
        on_progress: Called with what is going on.
        source: The plugin's folder; the kit's `plugins/mock` when left out.

    Raises:
        ChainBroken: The gateway does not run the bytes that were compiled here.
        DemoFailed: A reply is not what the article says.
    """
    with lab.exclusively("demo"):
        return _run(lab, on_progress, source or resources.path("plugins/mock"))


def _run(lab: Lab, on_progress: Progress, source: Path) -> Demo:
    clock = _Clock()
    with clock.share("compile"):
        on_progress("1 compiling the plugin")
        build = delivery.compile_plugin(lab, source, lab.layout.cache / "plugin.wasm", on_progress)
    with clock.share("lab up"):
        status = lab.up(on_progress=on_progress)
    assert status.gateway
    url = status.gateway["url"]
    with clock.share("build and push image"):
        on_progress("2 building the image")
        image = delivery.build_image(lab, build.module)
        on_progress("3 pushing the image")
        delivery.push_image(lab, image, delivery.default_reference(resources.path("plugins/mock")))
    manifest = delivery.pinned(resources.path("manifests/wasmplugin.yaml"), image)
    with clock.share("deploy"):
        _remove_plugin(lab, manifest, url, on_progress)
        on_progress("4 creating the WasmPlugin; the gateway loads it")
        (applied,) = delivery.apply_manifest(lab, manifest)
        lab.kube().wait_for_ready(applied.object)
    with clock.share("requests"):
        replies = tuple(_ask(url, *request) for request in REQUESTS)
    steps = chain.steps_of(
        lab.journal.read(), f"{applied.namespace}/{applied.name}", applied.object["metadata"]["generation"]
    )
    links = chain.check(steps, build.module)
    with clock.share("update under load"):
        on_progress("changing a rule while requests flow")
        update = _update_under_load(lab, manifest, url)
    return Demo(
        replies=replies,
        steps=tuple(_timed(steps)),
        chain=tuple(links),
        update=update,
        shares=tuple(clock.shares),
        gateway=url,
        seconds=round(time.time() - clock.started, 3),
    )


def ask(url: str, host: str, path: str) -> httpx.Response:
    """Send one GET to the gateway at `url` with `host` as its Host header."""
    return httpx.get(f"{url}{path}", headers={"Host": host}, timeout=10.0, trust_env=False)


def _ask(url: str, host: str, path: str, rule: str, expected: str) -> Reply:
    response = ask(url, host, path)
    if (response.status_code, response.text) != (200, expected):
        raise DemoFailed(
            f"http://{host}{path} answered {response.status_code} {response.text[:200]!r}, not {expected!r}",
            hint="see: labkit trace, labkit logs agent",
        )
    return Reply(host, path, response.status_code, response.text, rule)


def _remove_plugin(lab: Lab, manifest: dict[str, Any], url: str, on_progress: Progress) -> None:
    """Undo an earlier demo, so that all ten steps happen again; returns when the gateway serves without the plugin."""
    if not lab.kube().delete(manifest):
        return
    on_progress("removing the plugin of an earlier demo")
    host, path, _, reply = REQUESTS[0]
    deadline = time.monotonic() + 20
    while ask(url, host, path).text in {reply, CHANGED}:
        if time.monotonic() > deadline:
            raise DemoFailed("the gateway still runs the plugin of an earlier demo", hint="see: labkit logs controller")
        time.sleep(0.02)


def _update_under_load(lab: Lab, manifest: dict[str, Any], url: str) -> Update:
    """Change the rule of /foo and change it back, both while requests flow."""
    host, path, _, reply = REQUESTS[0]
    changed = copy.deepcopy(manifest)
    changed["spec"]["matchRules"][0]["config"]["content"] = CHANGED
    with Load(f"{url}{path}", host) as load:
        _arrives(load, reply)
        started = time.time()
        delivery.apply_manifest(lab, changed)
        seconds = _arrives(load, CHANGED) - started
        (undone,) = delivery.apply_manifest(lab, manifest)
        _arrives(load, reply)
    # A reply may come before the agent has seen in Envoy's config dump what made it: the journal is complete now.
    lab.kube().wait_for_ready(undone.object)
    return Update(round(seconds, 4), len(load.answers), load.failed)


def _arrives(load: Load, body: str) -> float:
    answer = load.wait_for(lambda answer: answer.body == body.encode(), timeout=20)
    if not answer:
        raise DemoFailed(f"no reply {body!r} within 20 s under load", hint="see: labkit trace, labkit logs agent")
    return answer.at


def _timed(steps: list[Event]) -> Iterator[Step]:
    before = steps[0].at
    for event in steps:
        seconds = event.seconds if event.seconds is not None else max(0.0, event.at - before)
        yield Step(event.step, event.name, event.part, event.at, round(seconds, 4))
        before = event.at
