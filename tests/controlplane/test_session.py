"""The xDS protocol of one stream: what is sent, when, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from labkit.controlplane import Answer, Session, Snapshot
from labkit.controlplane.snapshot import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES


def snapshot(
    *clusters: str, route: str = "r1", plugins: dict[str, str] | None = None, weight: int = 0, of: str = ""
) -> Snapshot:
    """One listener, one route configuration whose content is `route`, clusters with endpoints, plugins.

    `weight` changes the endpoints of all clusters, or of the one that `of` names once more.
    """
    resources: list[Any] = [Listener(name="http"), RouteConfiguration(name="http")]
    resources[1].response_headers_to_remove.append(route)
    for name in clusters:
        resources.append(Cluster(name=name))
        assignment = ClusterLoadAssignment(cluster_name=name)
        assignment.policy.overprovisioning_factor.value = 100 + weight + (name == of)
        resources.append(assignment)
    for name, config in (plugins or {}).items():
        body = TypedExtensionConfig(name=name)
        body.typed_config.type_url = config
        resources.append(body)
    return Snapshot(resources)


class Client:
    """An Envoy that acknowledges everything unless told otherwise."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.names: dict[str, list[str]] = {}
        self.version: dict[str, str] = {}

    def ask(self, type_url: str, *names: str, version: str = "") -> list[DiscoveryResponse]:
        self.names[type_url] = list(names)
        request = DiscoveryRequest(type_url=type_url, resource_names=names, version_info=version)
        assert self.session.receive(request) is None
        return self.session.pending()

    def answer(self, response: DiscoveryResponse, error: str = "") -> Answer | None:
        request = DiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        request.resource_names.extend(self.names[response.type_url])
        if error:
            request.error_detail.message = error
        else:
            self.version[response.type_url] = response.version_info
        request.version_info = self.version.get(response.type_url, "")
        return self.session.receive(request)

    def boot(self, *clusters: str, plugins: tuple[str, ...] = ()) -> None:
        """Ask for everything in Envoy's order and take it."""
        asked = [(CLUSTER, ()), (ENDPOINTS, clusters), (LISTENER, ()), (ROUTES, ("http",)), (EXTENSION, plugins)]
        for type_url, names in asked:
            for response in self.ask(type_url, *names):
                self.answer(response)
        assert self.session.pending() == []


def types(responses: list[DiscoveryResponse]) -> list[str]:
    return [response.type_url for response in responses]


def names_in(response: DiscoveryResponse) -> list[str]:
    return [TypedExtensionConfig.FromString(body.value).name for body in response.resources]


@pytest.fixture
def client() -> Client:
    return Client(Session(snapshot("a", "b", plugins={"p": "1", "q": "1"})))


def test_nothing_is_sent_before_there_is_a_snapshot() -> None:
    client = Client(Session())
    assert client.ask(CLUSTER) == []
    client.session.snapshot = snapshot("a")
    assert types(client.session.pending()) == [CLUSTER]


def test_empty_sets_are_sent_too_since_the_gateway_waits_for_them() -> None:
    client = Client(Session(Snapshot()))
    (response,) = client.ask(CLUSTER)
    assert list(response.resources) == []
    assert client.session.pending() == []


def test_same_content_has_the_same_version_and_is_not_sent_again(client: Client) -> None:
    client.boot("a", "b", plugins=("p", "q"))
    client.session.snapshot = snapshot("a", "b", plugins={"q": "1", "p": "1"})
    assert client.session.pending() == []


def test_only_the_changed_plugin_is_sent(client: Client) -> None:
    client.boot("a", "b", plugins=("p", "q"))
    client.session.snapshot = snapshot("a", "b", plugins={"p": "1", "q": "2"})
    (response,) = client.session.pending()
    assert (response.type_url, names_in(response)) == (EXTENSION, ["q"])


def test_one_answer_to_the_last_of_several_responses_answers_all_of_them(client: Client) -> None:
    client.boot("a", "b", plugins=("p", "q"))
    client.session.snapshot = snapshot("a", "b", weight=1)
    (first,) = client.session.pending()
    client.session.snapshot = snapshot("a", "b", weight=1, of="b", route="r2")
    (second,) = client.session.pending()
    assert (types([first, second]), len(first.resources), len(second.resources)) == ([ENDPOINTS] * 2, 2, 1)
    client.answer(second)
    assert types(client.session.pending()) == [ROUTES]


def test_an_answer_to_an_earlier_response_leaves_the_later_one_open(client: Client) -> None:
    client.boot("a", "b", plugins=("p", "q"))
    client.session.snapshot = snapshot("a", "b", weight=1)
    (first,) = client.session.pending()
    client.session.snapshot = snapshot("a", "b", weight=1, of="b", route="r2")
    (second,) = client.session.pending()
    client.answer(first)
    assert client.session.pending() == []
    client.answer(second)
    assert types(client.session.pending()) == [ROUTES]


def test_each_plugin_has_a_response_of_its_own_and_answers_name_it(client: Client) -> None:
    first, second = client.ask(EXTENSION, "p", "q")
    refused, taken = client.answer(first, "no"), client.answer(second)
    assert refused == Answer(EXTENSION, {"p": first.version_info}, "no")
    assert taken == Answer(EXTENSION, {"q": second.version_info}, None)
    assert client.session.pending() == []  # a refused version is not sent again


def test_answer_may_be_changed_later_but_not_after_a_newer_version(client: Client) -> None:
    (response,) = client.ask(EXTENSION, "p")
    assert client.answer(response, "cannot pull")
    assert client.answer(response) == Answer(EXTENSION, {"p": response.version_info}, None)
    client.session.snapshot = snapshot("a", "b", plugins={"p": "2"})
    client.session.pending()
    assert client.answer(response) is None


def test_only_changed_endpoints_are_sent(client: Client) -> None:
    client.boot("a", "b")
    client.session.snapshot = snapshot("a", "b", weight=1)
    assert [len(response.resources) for response in client.session.pending()] == [2]
    client.session.snapshot = snapshot("a", "b", weight=1)
    assert client.session.pending() == []


def test_routes_wait_until_new_clusters_and_their_endpoints_are_taken(client: Client) -> None:
    client.boot("a", "b")
    client.session.snapshot = snapshot("a", "b", "c", route="r2")
    (clusters,) = client.session.pending()
    assert clusters.type_url == CLUSTER
    client.answer(clusters)
    assert client.session.pending() == []  # the gateway has not asked for c's endpoints yet
    (assignments,) = client.ask(ENDPOINTS, "a", "b", "c")
    assert assignments.type_url == ENDPOINTS
    assert len(assignments.resources) == 1
    client.answer(assignments)
    assert types(client.session.pending()) == [ROUTES]


def test_refused_clusters_do_not_hold_up_routes_for_ever(client: Client) -> None:
    client.boot("a", "b")
    client.session.snapshot = snapshot("a", "b", "c", route="r2")
    (clusters,) = client.session.pending()
    client.answer(clusters, "bad cluster")
    assert types(client.session.pending()) == [ROUTES]


def test_cluster_leaves_only_after_the_routes_have(client: Client) -> None:
    client.boot("a", "b")
    client.session.snapshot = snapshot("a", route="r2")
    (routes,) = client.session.pending()
    assert routes.type_url == ROUTES
    client.answer(routes)
    (clusters,) = client.session.pending()
    assert (clusters.type_url, len(clusters.resources)) == (CLUSTER, 1)


def test_client_that_comes_back_with_the_same_versions_is_sent_nothing(client: Client) -> None:
    client.boot("a", "b")
    again = Client(Session(client.session.snapshot))
    for type_url, names in ((CLUSTER, ()), (ENDPOINTS, ("a", "b")), (LISTENER, ()), (ROUTES, ("http",))):
        assert again.ask(type_url, *names, version=client.version[type_url]) == []
    again.session.snapshot = snapshot("a", "b", route="r2")
    assert types(again.session.pending()) == [ROUTES]


def test_client_that_comes_back_before_the_first_snapshot_is_sent_nothing_either(client: Client) -> None:
    client.boot("a", "b")
    again = Client(Session())
    assert again.ask(LISTENER, version=client.version[LISTENER]) == []
    again.session.snapshot = client.session.snapshot
    assert again.session.pending() == []


def test_endpoints_of_a_removed_cluster_are_sent_again_when_it_returns(client: Client) -> None:
    client.boot("a", "b")
    client.session.snapshot = snapshot("a", route="r2")
    for _ in range(2):
        for response in client.session.pending():
            client.answer(response)
    client.ask(ENDPOINTS, "a")
    client.session.snapshot = snapshot("a", "b", route="r2")
    for response in client.session.pending():
        client.answer(response)
    (assignments,) = client.ask(ENDPOINTS, "a", "b")
    assert len(assignments.resources) == 1


def test_unknown_types_are_ignored(client: Client) -> None:
    assert client.ask("type.googleapis.com/nobody.knows.This") == []
