"""What the floors beside the web see of a request and of the error that it ends with.

Gates and observers of access, rates, log, metrics and traces are handed a `web.exchange.Exchange`; they stand on floors
that know no web, so they name what they are given here.
"""

from __future__ import annotations

from typing import Any, Protocol


class Exchange(Protocol):
    """A request; `web.exchange.Exchange` says what each field means. A gate may set ``principal``."""

    @property
    def environ(self) -> dict[str, Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def live(self) -> str | None: ...
    @property
    def source(self) -> str | None: ...
    @property
    def exempt(self) -> bool: ...
    @property
    def started_ns(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def end(self) -> str | None: ...

    principal: object


class Problem(Protocol):
    """An error: its problem type, its code, which is one of a fixed set, and its detail for people.

    It may also have a ``cause``, which is recorded instead of the detail.
    """

    @property
    def type(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def detail(self) -> str | None: ...
