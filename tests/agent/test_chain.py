"""Plugins on their way through a real controller, agent and Envoy."""

from __future__ import annotations

import json
import re

import pytest

from .chain import Chain, until
from .modules import does_not_start, echo, tells_property, traps_on_request


def test_plugin_is_loaded_by_envoy_and_the_digests_form_a_chain(chain: Chain) -> None:
    module = echo(chain.folder, marker="proxy_abi_version_0_2_100")
    condition = chain.condition(chain.apply(url=f"file://{module}", defaultConfig={"a": 1}))

    assert (condition["status"], condition["reason"]) == ("True", "Loaded")
    assert chain.get("/foo") == (200, 'one{"a":1}')
    pulled, extracted, handed, loaded = (chain.steps(step)[-1] for step in (7, 8, 9, 10))
    assert extracted.digest == handed.data["module"] == pulled.digest
    assert handed.digest == loaded.digest != extracted.digest  # the marker was rewritten
    running = chain.admin.extensions()["higress-system.echo"]
    assert running.wasm_path == handed.data["path"] == loaded.data["path"]
    assert running.version == handed.data["version"] == loaded.data["version"]
    assert [chain.steps(step)[-1].generation for step in (5, 6, 7, 8, 9, 10)] == [1] * 6


def test_config_only_change_fails_no_request_and_keeps_the_vm(chain: Chain) -> None:
    url = f"file://{echo(chain.folder)}"
    chain.condition(chain.apply(url=url, defaultConfig={"n": 0}))
    vms = chain.admin.stats("wasm_vm_count")
    with chain.load() as load:
        for n in range(1, 11):
            chain.condition(chain.apply(url=url, defaultConfig={"n": n}))
    assert load.failures == []
    assert {f'one{{"n":{n}}}' for n in range(11)} >= set(load.bodies)
    assert chain.get("/foo")[1] == 'one{"n":10}'
    assert chain.admin.stats("wasm_vm_count") == vms


def test_adding_and_removing_plugins_fails_no_request(chain: Chain) -> None:
    url = f"file://{echo(chain.folder)}"
    with chain.load() as load:
        for n in range(3):
            chain.condition(chain.apply(url=url, defaultConfig={"n": n}))
            until("kept connections move to the plugin", lambda: "one" in load.bodies[-1])
            chain.delete("echo")
            until("kept connections leave the plugin", lambda: load.bodies[-1].startswith("foo"))
    assert load.failures == []


def test_new_module_takes_over_without_a_failed_request(chain: Chain) -> None:
    chain.condition(chain.apply(url=f"file://{echo(chain.folder, 'one')}"))
    with chain.load() as load:
        chain.condition(chain.apply(url=f"file://{echo(chain.folder, 'two')}"))
        until("the new module answers", lambda: load.bodies[-1] == "two{}")
    assert load.failures == []


@pytest.mark.parametrize("strategy", ["FAIL_CLOSE", "FAIL_OPEN"])
@pytest.mark.parametrize("fault", ["config", "start", "missing", "not wasm"])
def test_version_that_fails_leaves_the_one_before_serving(chain: Chain, strategy: str, fault: str) -> None:
    good = f"file://{echo(chain.folder)}"
    chain.condition(chain.apply(url=good, failStrategy=strategy, defaultConfig={"a": 1}))
    garbage = chain.folder / "garbage.wasm"
    garbage.write_bytes(b"not wasm")
    spec, reason = {
        "config": ({"url": good, "defaultConfig": {"x": 1}}, "Rejected"),
        "start": ({"url": f"file://{does_not_start(chain.folder)}"}, "Rejected"),
        "missing": ({"url": f"file://{chain.folder}/missing.wasm"}, "PullFailed"),
        "not wasm": ({"url": f"file://{garbage}"}, "ModuleInvalid"),
    }[fault]

    condition = chain.condition(chain.apply(**spec, failStrategy=strategy))

    assert (condition["status"], condition["reason"]) == ("False", reason), condition
    assert "the version before keeps serving" in condition["message"]
    assert chain.get("/foo") == (200, 'one{"a":1}')
    assert any(event.error for step in (7, 8, 10) for event in chain.steps(step))


@pytest.mark.parametrize(
    ("strategy", "status", "body"),
    [("FAIL_OPEN", 200, "foo: GET /foo"), ("FAIL_CLOSE", 503, "plugin higress-system/echo cannot run")],
)
@pytest.mark.parametrize("fault", ["start", "missing"])
def test_first_version_that_fails_leaves_it_to_the_strategy(
    chain: Chain, strategy: str, status: int, body: str, fault: str
) -> None:
    path = does_not_start(chain.folder) if fault == "start" else chain.folder / "missing.wasm"
    condition = chain.condition(chain.apply(url=f"file://{path}", failStrategy=strategy))
    assert condition["status"] == "False"
    assert strategy in condition["message"]

    def answered() -> bool:
        found = chain.get("/foo")
        return found[0] == status and found[1].startswith(body)

    until("the strategy applies", answered)
    good = chain.apply(url=f"file://{echo(chain.folder)}", failStrategy=strategy)
    assert chain.condition(good)["status"] == "True"
    assert chain.get("/foo") == (200, "one{}")


def test_stand_in_follows_a_change_of_the_strategy(chain: Chain) -> None:
    url = f"file://{chain.folder}/missing.wasm"
    for strategy, status in [("FAIL_OPEN", 200), ("FAIL_CLOSE", 503), ("FAIL_OPEN", 200)]:
        condition = chain.condition(chain.apply(url=url, failStrategy=strategy))
        assert strategy in condition["message"]
        until(f"{strategy} applies", lambda status=status: chain.get("/foo")[0] == status)


def test_plugin_made_anew_does_not_bring_back_its_deleted_namesake(chain: Chain) -> None:
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}"))
    chain.delete("echo")
    until("it has gone", lambda: chain.get("/foo")[1].startswith("foo"))
    chain.statuses.clear()
    condition = chain.condition(chain.apply(url=f"file://{chain.folder}/missing.wasm"))
    assert "requests get 503" in condition["message"]
    until("the strategy applies", lambda: chain.get("/foo")[0] == 503)


def test_trap_in_a_request_is_left_to_the_strategy(chain: Chain) -> None:
    url = f"file://{traps_on_request(chain.folder)}"
    chain.condition(chain.apply(url=url))
    assert chain.get("/foo")[0] == 503
    chain.condition(chain.apply(url=url, failStrategy="FAIL_OPEN"))
    # The request that meets the trap is lost with it; the ones after it pass.
    until("requests pass", lambda: chain.get("/foo")[1].startswith("foo"))


def test_module_that_comes_later_heals_the_plugin_by_itself(chain: Chain) -> None:
    generation = chain.apply(url=f"file://{chain.folder}/one.wasm")
    condition = chain.condition(generation)
    assert condition["reason"] == "PullFailed"
    assert "tried again" in condition["message"]
    echo(chain.folder)
    until("it heals", lambda: chain.condition(generation)["status"] == "True")
    assert chain.get("/foo") == (200, "one{}")


def test_one_plugin_that_fails_does_not_hold_up_another(chain: Chain) -> None:
    chain.apply("broken", url=f"file://{chain.folder}/missing.wasm", failStrategy="FAIL_OPEN", priority=10)
    other = chain.apply("echo", url=f"file://{echo(chain.folder)}")
    assert chain.condition(other)["status"] == "True"
    until("the other serves", lambda: chain.get("/foo") == (200, "one{}"))


def test_changing_one_plugin_gives_another_no_new_version(chain: Chain) -> None:
    url = f"file://{echo(chain.folder)}"
    chain.condition(chain.apply("echo", url=url))
    chain.condition(chain.apply("second", url=url), "second")
    before = chain.admin.extensions()["higress-system.second"]
    chain.condition(chain.apply("echo", url=url, defaultConfig={"a": 2}))
    assert chain.admin.extensions()["higress-system.second"] == before
    assert len(chain.steps(6, "higress-system/second")) == 1


def test_agent_killed_and_started_again_changes_nothing_for_requests(chain: Chain) -> None:
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", defaultConfig={"a": 1}))
    before = chain.admin.extensions()
    with chain.load() as load:
        chain.kill("agent")
        chain.start_agent()
        # The agent is back in the chain as soon as it has handed the plugin over and seen Envoy's answer.
        until("the agent confirms again", lambda: len(chain.steps(10)) == 2)
        generation = chain.apply(url=f"file://{echo(chain.folder)}", defaultConfig={"a": 2})
        assert chain.condition(generation)["status"] == "True"
    assert load.failures == []
    assert chain.get("/foo") == (200, 'one{"a":2}')
    assert before["higress-system.echo"].wasm_path == chain.admin.extensions()["higress-system.echo"].wasm_path


def test_agent_that_restarts_with_a_failing_version_keeps_what_serves(chain: Chain) -> None:
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", defaultConfig={"a": 1}))
    chain.condition(chain.apply(url=f"file://{chain.folder}/missing.wasm"))
    chain.kill("agent")
    chain.start_agent()
    until("the agent has looked again", lambda: len([e for e in chain.steps(7) if e.error]) >= 2)
    chain.apply("second", url="bad://url")
    assert chain.get("/foo") == (200, 'one{"a":1}')


def test_envoy_started_again_gets_everything_again(chain: Chain) -> None:
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", defaultConfig={"a": 1}))
    chain.kill("envoy")
    chain.start_envoy()
    until("it serves again", lambda: chain.get("/foo") == (200, 'one{"a":1}'))


def test_controller_that_comes_back_changes_nothing_for_envoy(chain: Chain) -> None:
    url = f"file://{echo(chain.folder)}"
    chain.condition(chain.apply(url=url, defaultConfig={"a": 1}))
    before = chain.admin.stats(r"^listener_manager\.lds\.update_success|^cluster_manager\.cds\.update_success")
    with chain.load() as load:
        chain.stop_controller()
        chain.start_controller()
        generation = chain.apply(url=url, defaultConfig={"a": 2})
        assert chain.condition(generation)["status"] == "True"
    assert load.failures == []
    after = chain.admin.stats(r"^listener_manager\.lds\.update_success|^cluster_manager\.cds\.update_success")
    assert after == before


def test_damaged_cache_is_noticed_and_fetched_again(chain: Chain) -> None:
    url = f"file://{echo(chain.folder)}"
    chain.condition(chain.apply(url=url, defaultConfig={"a": 1}))
    (stored,) = (chain.folder / "cache" / "modules").glob("*.wasm")
    stored.write_bytes(b"\0asm damaged")
    condition = chain.condition(chain.apply(url=url, defaultConfig={"a": 2}))
    assert condition["status"] == "True"
    assert chain.get("/foo") == (200, 'one{"a":2}')
    assert chain.steps(7)[-1].data["cached"] is False


def test_pinned_digest_that_does_not_match_is_refused(chain: Chain) -> None:
    condition = chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", sha256="0" * 64))
    assert condition["reason"] == "ImageInvalid"
    assert re.search("wants sha256:0000", condition["message"])


def test_invalid_spec_keeps_the_last_good_generation(chain: Chain) -> None:
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", defaultConfig={"a": 1}))
    condition = chain.condition(chain.apply(url="", matchRules=[{"config": {}}]))
    assert condition["reason"] == "InvalidSpec"
    assert "spec.url" in condition["message"]
    assert chain.get("/foo") == (200, 'one{"a":1}')


def test_environment_of_the_agent_never_reaches_envoy(chain: Chain) -> None:
    env = [{"name": "MINE", "value": "yes"}]
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", vmConfig={"env": env}))
    dump = json.dumps(chain.admin.config_dump())
    assert "LABKIT_AGENT" not in dump
    assert '"MINE": "yes"' in dump


def test_pull_in_progress_holds_up_nothing_else(chain: Chain) -> None:
    """Neither another plugin's configuration, nor routes, nor endpoints; and a newer version overtakes it."""
    url = f"file://{echo(chain.folder)}"
    chain.condition(chain.apply(url=url, defaultConfig={"a": 1}))
    chain.registry.put("slow:1", echo(chain.folder, "slow"))
    chain.registry.open.clear()
    chain.apply("slow", url="oci://registry.lab/slow:1", priority=10, failStrategy="FAIL_OPEN")
    until("the pull has begun", lambda: chain.registry.requests)

    assert chain.condition(chain.apply(url=url, defaultConfig={"a": 2}))["status"] == "True"
    assert chain.get("/foo") == (200, 'one{"a":2}')
    until("its stand-in lets the listener go on", lambda: "higress-system.slow" in chain.admin.extensions())
    other = chain.apply("slow", url=url, priority=10)
    assert chain.condition(other, "slow")["status"] == "True"
    chain.registry.open.set()


def test_image_is_pulled_from_the_mirror_of_its_registry(chain: Chain) -> None:
    image = chain.registry.put("plugins/mock:1.0.0", echo(chain.folder))
    assert chain.condition(chain.apply(url="registry.lab/plugins/mock:1.0.0"))["status"] == "True"
    assert chain.steps(7)[-1].digest == image.digest
    assert chain.steps(8)[-1].data["diff_id"] == image.layers[0].diff_id


def test_tag_that_is_pushed_later_heals_the_plugin_by_itself(chain: Chain) -> None:
    generation = chain.apply(url="registry.lab/plugins/mock:2")
    assert chain.condition(generation)["reason"] == "PullFailed"
    chain.registry.put("plugins/mock:2", echo(chain.folder))
    until("it heals", lambda: chain.condition(generation)["status"] == "True")


def test_variable_of_the_host_reaches_the_plugin_by_name_only(chain: Chain) -> None:
    env = [{"name": "HOME", "valueFrom": "HOST"}]
    chain.condition(chain.apply(url=f"file://{echo(chain.folder)}", vmConfig={"env": env}))
    config = chain.admin.extensions()["higress-system.echo"].config["config"]
    assert config["vm_config"]["environment_variables"] == {"host_env_keys": ["HOME"]}


def test_version_refused_before_is_refused_again_by_a_restarted_agent(chain: Chain) -> None:
    """Envoy acknowledges what it has seen last without looking, even when it refused it."""
    url = f"file://{echo(chain.folder)}"
    generation = chain.apply(url=url, defaultConfig={"x": 1})
    assert chain.condition(generation)["reason"] == "Rejected"
    for _ in range(2):
        chain.kill("agent")
        chain.start_agent()
        refusals = len([event for event in chain.steps(10) if event.error])
        until("it is tried again", lambda seen=refusals: len([e for e in chain.steps(10) if e.error]) > seen)
    assert chain.condition(generation)["reason"] == "Rejected"
    assert chain.get("/foo")[0] == 503


@pytest.mark.parametrize(
    ("name", "told"),
    [("route_name", "default/foo"), ("cluster_name", "outbound|80||foo.default.svc.cluster.local")],
)
def test_plugins_are_told_the_route_and_the_cluster_as_on_higress(chain: Chain, name: str, told: str) -> None:
    chain.condition(chain.apply(url=f"file://{tells_property(chain.folder, name)}"))
    assert chain.get("/foo/x") == (200, told)
    assert chain.get("/nowhere") == (200, "nothing")


def test_very_long_route_names_reach_plugins_whole(chain: Chain) -> None:
    name = "x" * 253
    backend = {"service": {"name": "foo", "port": {"number": 80}}}
    paths = [{"path": "/long", "pathType": "Exact", "backend": backend}]
    metadata = {"namespace": "default", "name": name}
    chain.change("Ingress", "ADDED", {"metadata": metadata, "spec": {"rules": [{"http": {"paths": paths}}]}})
    chain.condition(chain.apply(url=f"file://{tells_property(chain.folder, 'route_name')}"))
    assert chain.get("/long") == (200, f"default/{name}")


def test_change_that_envoy_need_not_see_is_loaded_all_the_same(chain: Chain) -> None:
    """A new generation, or a new plugin of the same name, with the configuration Envoy has already."""
    spec = {"url": f"file://{echo(chain.folder)}", "defaultConfig": {"a": 1}, "failStrategy": "FAIL_OPEN"}
    chain.condition(chain.apply(**spec))
    vms = chain.admin.stats("wasm_vm_count")
    assert chain.condition(chain.apply(**spec, priority=5))["status"] == "True"
    assert chain.admin.stats("wasm_vm_count") == vms
    chain.delete("echo")
    until("it has gone", lambda: chain.get("/foo")[1].startswith("foo"))
    chain.statuses.clear()
    assert chain.condition(chain.apply(**spec))["status"] == "True"
    assert chain.get("/foo") == (200, 'one{"a":1}')
