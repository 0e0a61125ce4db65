from __future__ import annotations

import http.client
import json
import random
import threading

import pytest

from labkit.kube import Changed, Client, Listed

from .apiserver import ApiServer


def config_map(name: str, namespace: str, **data: str):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def replay(events, until):
    """The state a client has that follows list and watch, once `until` says that it is complete."""
    state = {}
    for event in events:
        if isinstance(event, Listed):
            state = {body["metadata"]["name"]: body for body in event.objects}
        elif event.type == "DELETED":
            del state[event.object["metadata"]["name"]]
        else:
            state[event.object["metadata"]["name"]] = event.object
        if until(state):
            return state
    raise AssertionError("the watch ended")


def write_randomly(kubeconfig, namespace: str, seed: int) -> None:
    client, chance = Client(kubeconfig), random.Random(seed)
    for number in range(40):
        body = config_map(f"m{chance.randrange(8)}", namespace, value=f"{seed}-{number}")
        if chance.random() < 0.3:
            client.delete(body)
        else:
            client.apply(body)


@pytest.mark.parametrize("selector", [None, "!hidden"])
def test_list_and_watch_end_with_the_same_state_as_a_list(server, client, namespace, selector):
    writers = [threading.Thread(target=write_randomly, args=(server.kubeconfig, namespace, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    done = threading.Event()

    def finish() -> None:
        for writer in writers:
            writer.join()
        client.apply(config_map("last", namespace))
        done.set()

    finisher = threading.Thread(target=finish)
    with client.watch("configmap", namespace=namespace, label_selector=selector) as watch:
        finisher.start()
        state = replay(watch, until=lambda state: "last" in state)
    finisher.join()
    listed = {body["metadata"]["name"]: body for body in client.list("configmap", namespace=namespace)}
    assert state == listed


def test_a_watch_goes_on_where_it_was_after_kill_9(restartable: ApiServer):
    client = Client(restartable.kubeconfig)
    client.apply(config_map("a", "default", value="1"))
    with client.watch("configmap", namespace="default") as watch:
        events = iter(watch)
        assert isinstance(next(events), Listed)
        restartable.kill()
        restartable.start()
        client.apply(config_map("b", "default"))
        event = next(events)
    assert isinstance(event, Changed)
    assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "b")


def test_a_watch_lists_again_when_the_server_lost_everything(restartable: ApiServer):
    client = Client(restartable.kubeconfig)
    for number in range(5):
        client.apply(config_map(f"n{number}", "default"))
    with client.watch("configmap", namespace="default") as watch:
        events = iter(watch)
        first = next(events)
        assert len(first.objects) == 5
        restartable.kill()
        for path in restartable.data.glob("objects.sqlite*"):
            path.unlink()
        restartable.start()
        assert next(events) == Listed(())


def test_objects_enter_and_leave_a_selector(client, namespace):
    with client.watch("configmap", namespace=namespace, label_selector="shown=yes") as watch:
        events = iter(watch)
        assert next(events) == Listed(())
        body = config_map("x", namespace)
        client.apply(body)
        for value in ("yes", "no"):
            client.apply({**body, "metadata": {**body["metadata"], "labels": {"shown": value}}})
        assert [next(events).type, next(events).type] == ["ADDED", "DELETED"]


def test_stop_ends_a_watch_that_waits(client):
    watch = client.watch("configmap", namespace="default")
    listed = threading.Event()

    def follow() -> None:
        for _ in watch:
            listed.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert listed.wait(20)
    watch.stop()
    thread.join(timeout=20)
    assert not thread.is_alive()


def watch_raw(server: ApiServer, query: str):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Authorization": f"Bearer {server.token}"}
    connection.request("GET", f"/api/v1/namespaces/default/configmaps?watch=1&{query}", headers=headers)
    return connection.getresponse()


def test_a_version_from_before_the_log_is_gone(server):
    code, status = server.ask("GET", "/api/v1/configmaps?watch=1&resourceVersion=99999999")
    assert (code, status["reason"]) == (410, "Expired")


def test_a_watch_list_marks_the_end_of_what_there_was(server):
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with watch_raw(server, query) as answer:
        for line in answer:
            event = json.loads(line)
            if event["type"] == "BOOKMARK":
                break
    assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_ends_after_its_timeout(server):
    with watch_raw(server, "timeoutSeconds=1") as answer:
        answer.read()


def test_sigterm_ends_the_server_though_watches_are_open(restartable: ApiServer):
    with watch_raw(restartable, "") as answer:
        assert answer.status == 200
        assert restartable.stop() == 0
        answer.read()
