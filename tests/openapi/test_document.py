"""The OpenAPI document has every route of the server, and only those that this one serves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import OpenServer, open_server
from tests.web.driving import Server

__all__ = ["open_server"]

ON = {"enabled": True}
METHODS = {"get", "put", "post", "delete", "head", "patch"}
UNDESCRIBED = {"/"}
"""For people."""


def document(server: Server) -> Any:
    response = server.get("/openapi.json")
    assert (response.status_int, response.content_type) == (200, "application/json")
    return response.json


def operations(found: Any) -> dict[str, Any]:
    return {
        f"{method} {path}": operation
        for path, item in found["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_every_route_of_flask_is_described(open_server: OpenServer) -> None:
    server = open_server(admin=ON, metrics=ON)
    described = operations(document(server))
    for rule in server.flask.url_map.iter_rules():
        path = rule.rule.replace("<stream_path:raw_name>", "{name}")
        if path in UNDESCRIBED or path.startswith("/v1/stream"):
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert described[f"{method.lower()} {path}"]["operationId"] == rule.endpoint.rpartition(".")[2]


def test_every_operation_on_streams_and_subscriptions_is_described(open_server: OpenServer) -> None:
    described = operations(document(open_server()))
    base = "/v1/stream"
    for method in ("put", "post", "get", "head", "delete"):
        assert f"{method} {base}/{{name}}" in described
    below = f"{base}/__ds/subscriptions"
    for known in (
        f"get {below}",
        f"get {below}/{{id}}",
        f"put {below}/{{id}}",
        f"delete {below}/{{id}}",
        f"post {below}/{{id}}/streams",
        f"delete {below}/{{id}}/streams/{{path}}",
        f"post {below}/{{id}}/claim",
        f"post {below}/{{id}}/ack",
        f"post {below}/{{id}}/callback",
        f"post {below}/{{id}}/release",
        f"get {base}/__ds/jwks.json",
        f"post {base}/__ds/keys",
    ):
        assert known in described


def test_an_operation_has_a_name_of_its_own(open_server: OpenServer) -> None:
    described = operations(document(open_server(admin=ON, metrics=ON)))
    ids = [operation["operationId"] for operation in described.values()]
    assert len(set(ids)) == len(ids)


def test_every_reference_has_a_target(open_server: OpenServer) -> None:
    found = document(open_server(admin=ON, metrics=ON))

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [name for value in node.values() for name in references(value)]
        return [name for value in node for name in references(value)] if isinstance(node, list) else []

    for reference in references(found):
        assert reference.rpartition("/")[2] in found["components"]["schemas"]


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"admin": ON}, "/admin/streams"),
        ({"metrics": ON}, "/metrics"),
        ({"subscriptions": ON}, "/v1/stream/__ds/subscriptions"),
    ],
)
def test_what_is_switched_off_is_not_described(
    open_server: OpenServer, sections: dict[str, Any], path: str
) -> None:
    off = {section: {"enabled": False} for section in sections}
    assert path in document(open_server(**sections))["paths"]
    assert path not in document(open_server(**off))["paths"]


def test_the_base_path_and_access_control_are_those_of_the_server(
    open_server: OpenServer, tmp_path: Any
) -> None:
    path = tmp_path / "tokens.json"
    server = open_server(
        http={"stream_base_path": "/streams"}, auth={"mode": "tokens", "tokens_path": str(path)}
    )
    found = document(server)
    assert "/streams/{name}" in found["paths"]
    assert found["security"] == [{"token": []}]
    assert found["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in document(open_server())
