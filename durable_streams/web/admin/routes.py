"""The routes below ``/admin``: parse, ask the inventory, render as JSON. docs/admin.md describes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from flask import Blueprint, request
from flask import Response as FlaskResponse

from durable_streams.admin.activity import Activity
from durable_streams.admin.inventory import Inventory
from durable_streams.admin.removing import Remover
from durable_streams.config import SETTINGS, Config
from durable_streams.config.errors import MASK
from durable_streams.protocol.errors import BadRequest, Unavailable
from durable_streams.service import StreamService
from durable_streams.web.admin.guard import guard
from durable_streams.web.admin.parsing import parse_name, parse_number, parse_page, parse_query
from durable_streams.web.bodies import BodyReader
from durable_streams.web.subscriptions.parsing import read_object

PREFIX: Final = "/admin"
BODY_BYTES_MAX: Final = 64 * 1024
_PAGE: Final = frozenset({"after", "limit"})


class AdminRoutes:
    """What the routes do; each method answers one."""

    def __init__(self, service: StreamService, config: Config, activity: Activity) -> None:
        self._inventory = Inventory(service)
        self._remover = Remover(service, self._inventory)
        self._activity = activity
        self._config = config
        self._bodies = BodyReader(BODY_BYTES_MAX, config.server.body_timeout_secs)

    def server(self) -> FlaskResponse:
        parse_query(request.environ, ())
        return _json({**self._activity.document(), "settings": settings_of(self._config)})

    def list_streams(self) -> FlaskResponse:
        query = parse_query(request.environ, {"prefix", *_PAGE})
        return _json(self._inventory.page(query.get("prefix", ""), *parse_page(query)))

    def delete_streams(self) -> FlaskResponse:
        query = parse_query(request.environ, {"prefix", "confirm"})
        return _json(self._remover.remove_all(query.get("prefix", ""), parse_number(query, "confirm")))

    def stream(self, raw_name: str) -> FlaskResponse:
        query = parse_query(request.environ, {"messages"})
        if query.get("messages", "all") != "all":
            raise BadRequest("messages must be 'all', or absent")
        return _json(self._inventory.details(self._name("/streams/"), count_all="messages" in query))

    def close_stream(self, raw_name: str) -> FlaskResponse:
        parse_query(request.environ, ())
        name = self._name("/streams/")
        if dict(read_object(request.environ, self._bodies)) != {"closed": True}:
            raise BadRequest('the body must be {"closed": true}: that is all that can be changed')
        self._remover.close(name)
        return _json(self._inventory.details(name, count_all=False))

    def delete_stream(self, raw_name: str) -> FlaskResponse:
        parse_query(request.environ, ())
        self._remover.remove(self._name("/streams/"))
        response = FlaskResponse(status=204)
        del response.headers["Content-Type"]
        return response

    def producers(self, raw_name: str) -> FlaskResponse:
        page = parse_page(parse_query(request.environ, _PAGE))
        return _json(self._inventory.producers(self._name("/producers/"), *page))

    def forks(self, raw_name: str) -> FlaskResponse:
        page = parse_page(parse_query(request.environ, _PAGE))
        return _json(self._inventory.forks(self._name("/forks/"), *page))

    def offset(self, raw_name: str) -> FlaskResponse:
        position = parse_number(parse_query(request.environ, {"position"}), "position")
        if position is None:
            raise BadRequest("position is missing: the byte whose offset is asked for")
        return _json(self._inventory.boundary(self._name("/offsets/"), position))

    def _name(self, folder: str) -> str:
        limits = self._config.limits
        bytes_max, segments_max = limits.max_stream_name_bytes, limits.max_stream_name_segments
        return parse_name(request.environ, PREFIX + folder, bytes_max, segments_max)


def build_admin_blueprint(
    service: StreamService, config: Config, activity: Activity, *, gated: bool
) -> Blueprint:
    """Everything below ``/admin``. ``gated``: something controls access; otherwise only localhost is answered."""
    routes = AdminRoutes(service, config, activity)
    blueprint = Blueprint("durable_streams_admin", __name__, url_prefix=PREFIX)
    guard(blueprint, gated=gated)
    blueprint.before_request(lambda: _open(service))
    rules: list[tuple[str, str, str, Callable[..., FlaskResponse]]] = [
        ("GET", "/server", "admin_server", routes.server),
        ("GET", "/streams", "admin_list", routes.list_streams),
        ("DELETE", "/streams", "admin_delete_all", routes.delete_streams),
        ("GET", "/streams/<stream_path:raw_name>", "admin_stream", routes.stream),
        ("PATCH", "/streams/<stream_path:raw_name>", "admin_close", routes.close_stream),
        ("DELETE", "/streams/<stream_path:raw_name>", "admin_delete", routes.delete_stream),
        ("GET", "/producers/<stream_path:raw_name>", "admin_producers", routes.producers),
        ("GET", "/forks/<stream_path:raw_name>", "admin_forks", routes.forks),
        ("GET", "/offsets/<stream_path:raw_name>", "admin_offset", routes.offset),
    ]
    for method, rule, operation, view in rules:
        blueprint.add_url_rule(rule, operation, view, methods=[method])
    return blueprint


def settings_of(config: Config) -> dict[str, Any]:
    """The effective settings by their dotted keys; secrets are masked."""
    return {
        key: MASK if declared.secret and config.value_of(key) else config.value_of(key)
        for key, declared in SETTINGS.items()
    }


def _open(service: StreamService) -> None:
    if not service.store.is_open:
        service.open()
        if not service.store.is_open:
            raise Unavailable("the storage is closed")


def _json(document: dict[str, Any]) -> FlaskResponse:
    return FlaskResponse(msgspec.json.encode(document, enc_hook=str), mimetype="application/json")
