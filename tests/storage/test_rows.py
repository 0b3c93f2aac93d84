"""Rows: every state comes back as it was, also through formats that know no tuples, and only from this version."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.state import (
    NO_EXPIRY,
    Expiry,
    ForkPoint,
    ForkReference,
    ProducerState,
    StreamConfig,
    StreamState,
    evolve,
)
from durable_streams.storage.rows import ROW_VERSION, from_row, to_row
from tests.every_field import full_state, plain

NUMBERS = st.integers(0, 2**53 - 1)
INSTANTS = st.floats(0, 1e11)
LIVES = st.integers(1, 10**16 - 1)
TEXTS = st.text(max_size=20)
EXPIRIES = st.one_of(
    st.just(NO_EXPIRY),
    st.builds(Expiry, ttl_s=NUMBERS),
    st.builds(Expiry, expires_at=INSTANTS, expires_at_text=TEXTS),
)
FORKS = st.none() | st.builds(ForkPoint, TEXTS, TEXTS, NUMBERS, NUMBERS, NUMBERS, st.booleans(), LIVES)
PRODUCERS = st.dictionaries(TEXTS, st.builds(ProducerState, NUMBERS, NUMBERS, NUMBERS), max_size=3)
STATES = st.builds(
    StreamState,
    st.builds(StreamConfig, TEXTS, TEXTS, TEXTS, EXPIRIES, FORKS, LIVES, st.booleans(), st.booleans()),
    NUMBERS,
    INSTANTS,
    st.booleans(),
    st.none() | st.tuples(TEXTS, NUMBERS, NUMBERS),
    st.none() | TEXTS,
    PRODUCERS,
    st.dictionaries(TEXTS, st.builds(ForkReference, TEXTS, INSTANTS), max_size=3),
    st.booleans(),
    st.integers(1, 2**53 - 1),
)


@given(STATES)
def test_every_state_comes_back(state: StreamState) -> None:
    row = to_row(state)
    through_json = json.loads(json.dumps(row))
    through_pickle = pickle.loads(pickle.dumps(row))
    for received in (row, through_json, through_pickle):
        assert plain(from_row(received)) == plain(state)


@given(STATES)
def test_a_row_is_made_of_plain_values(state: StreamState) -> None:
    def check(value: object) -> None:
        assert type(value) in (tuple, dict, str, int, float, bool, type(None))
        if isinstance(value, tuple):
            for part in value:
                check(part)
        if isinstance(value, dict):
            for part in [*value, *value.values()]:
                check(part)

    check(to_row(state))


VERSION_1 = (
    1,
    "fork",
    "uid",
    "text/plain",
    (60, None, None),
    ("source", "its uid", 10, 8, 2, True),
    1764289999.123457,
    20,
    1764290000.5,
    True,
    ("p", 3, 0),
    "0007",
    {"p": (3, 0)},
    {"uid of a fork": ForkReference("its name", 0.0)},
    False,
)


def test_a_row_of_version_1_is_read_as_the_first_revision_and_with_the_life_of_its_creation() -> None:
    life = 1764289999123457
    config = StreamConfig(
        "fork",
        "uid",
        "text/plain",
        Expiry(ttl_s=60),
        ForkPoint("source", "its uid", 10, 8, 2, True, life),
        life,
        old_messages=True,
    )
    expected = StreamState(
        config,
        20,
        1764290000.5,
        True,
        ("p", 3, 0),
        "0007",
        {"p": ProducerState(3, 0, 1764290000)},
        {"uid of a fork": ForkReference("its name", 0.0)},
        False,
        revision=1,
    )
    for row in (VERSION_1, json.loads(json.dumps(VERSION_1))):
        assert plain(from_row(row)) == plain(expected)


@pytest.mark.parametrize("version", [0, ROW_VERSION + 1, None, "1"])
def test_a_row_of_another_version_is_refused_by_name(version: object) -> None:
    state = StreamState(StreamConfig("s", "i", "text/plain", NO_EXPIRY, None, 1), 0, 0.0)
    with pytest.raises(ValueError, match=f"version {version!r}"):
        from_row((version, *to_row(state)[1:]))


VERSION_2 = (
    2,
    "s",
    "uid",
    "application/json",
    None,
    None,
    1764289999123457,
    20,
    1764290000.5,
    False,
    None,
    None,
    {},
    {},
    False,
    False,
    7,
)


def test_a_row_of_version_2_has_no_offsets_in_its_messages() -> None:
    config = StreamConfig("s", "uid", "application/json", NO_EXPIRY, None, 1764289999123457)
    assert plain(from_row(VERSION_2)) == plain(StreamState(config, 20, 1764290000.5, revision=7))


def test_no_field_is_lost_between_a_state_its_successors_and_its_row() -> None:
    state = full_state(b"own")
    for successor in (evolve(state), from_row(to_row(evolve(state)))):
        assert (successor.revision, successor.mark) == (state.revision + 1, None)
        assert plain(successor) == {**plain(state), "revision": state.revision + 1}
