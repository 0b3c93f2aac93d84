"""Every way a subscription request can be refused; `code` is the text that clients look for in the error envelope.

The control plane answers `{"error": {"code", "message", ...}}` (section 7.1); the extra members stand in ``extras``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from durable_streams.protocol.errors import ProtocolError

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class SubscriptionError(ProtocolError):
    """A refusal on the control plane."""

    extras: Mapping[str, Any] = _NOTHING


class InvalidRequest(SubscriptionError):
    """The body, the id or a path cannot be understood, or the request does not fit the type of the subscription."""

    status, type, title, code = 400, "/errors/invalid-request", "Invalid Request", "INVALID_REQUEST"


class WebhookUrlRejected(SubscriptionError):
    """Sections 6.2 and 12.8: the server does not send webhooks to this URL."""

    status, type, title, code = (
        400,
        "/errors/webhook-url-rejected",
        "Webhook URL Rejected",
        "WEBHOOK_URL_REJECTED",
    )

    def __init__(self, reason: str) -> None:
        super().__init__(f"The webhook URL is rejected: {reason}")


class _Unauthorized(SubscriptionError):
    status = 401

    def __init__(self, detail: str) -> None:
        super().__init__(detail, [("WWW-Authenticate", "Bearer")])


class TokenInvalid(_Unauthorized):
    """No token, a forged one, or one of another subscription."""

    type, title, code = "/errors/token-invalid", "Token Invalid", "TOKEN_INVALID"


class TokenExpired(_Unauthorized):
    type, title, code = "/errors/token-expired", "Token Expired", "TOKEN_EXPIRED"


class SubscriptionNotFound(SubscriptionError):
    status, type, title, code = (
        404,
        "/errors/subscription-not-found",
        "Subscription Not Found",
        "SUBSCRIPTION_NOT_FOUND",
    )

    def __init__(self, subscription_id: str) -> None:
        super().__init__(f"There is no subscription {subscription_id!r}")


class _Conflict(SubscriptionError):
    status = 409


class SubscriptionExists(_Conflict):
    type, title, code = (
        "/errors/subscription-already-exists",
        "Subscription Already Exists",
        "SUBSCRIPTION_ALREADY_EXISTS",
    )

    def __init__(self, subscription_id: str) -> None:
        super().__init__(f"Subscription {subscription_id!r} exists with a different configuration")


class Fenced(_Conflict):
    """Section 7.3: the wake that the request speaks of is not the current one."""

    type, title, code = "/errors/fenced", "Fenced", "FENCED"


class AckRefused(_Conflict):
    """An offset that is no position of a linked stream between its cursor and its tail."""

    type, title, code = "/errors/invalid-ack-offset", "Invalid Offset", "INVALID_OFFSET"


class AlreadyClaimed(_Conflict):
    type, title, code = "/errors/already-claimed", "Already Claimed", "ALREADY_CLAIMED"

    def __init__(self, holder: str, generation: int) -> None:
        super().__init__(f"The subscription is claimed by {holder!r}")
        self.extras = {"current_holder": holder, "generation": generation}


class NoPendingWork(_Conflict):
    type, title, code = "/errors/no-pending-work", "No Pending Work", "NO_PENDING_WORK"


class UnsupportedMediaType(SubscriptionError):
    status, type, title, code = (
        415,
        "/errors/unsupported-media-type",
        "Unsupported Media Type",
        "UNSUPPORTED_MEDIA_TYPE",
    )

    def __init__(self, received: str) -> None:
        super().__init__(f"The body must be application/json, not {received}")


class WebhooksMissing(SubscriptionError):
    """The packages that webhooks need are not installed; the message says what to install."""

    status, type, title, code = 501, "/errors/webhooks-missing", "Webhooks Missing", "WEBHOOKS_MISSING"


class ClaimsClosed(SubscriptionError):
    """Section 7.2 has claims carry a service's token, and nothing here could check it."""

    status, type, title, code = 503, "/errors/claims-closed", "Claims Closed", "CLAIMS_CLOSED"

    def __init__(self) -> None:
        super().__init__(
            "Claims need access control, or the setting subscriptions.allow_open_claims for development"
        )


class SubscriptionLimit(SubscriptionError):
    """One subscription, or one link, more than the settings allow."""

    status, type, title, code = (
        429,
        "/errors/subscription-limit",
        "Subscription Limit Exceeded",
        "SUBSCRIPTION_LIMIT_EXCEEDED",
    )
