"""The checksums of stored payload: those that directories of earlier versions hold."""

from __future__ import annotations

import zlib

from hypothesis import example, given
from hypothesis import strategies as st
from zlib_ng.zlib_ng import crc32


@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1), st.integers(0, 20))
@example(b"x" * 100_003, 0, 1)
def test_they_are_the_crc_32_of_zlib_from_any_start_and_any_place(data: bytes, start: int, skip: int) -> None:
    part = memoryview(data)[skip:]
    assert crc32(part, start) == zlib.crc32(part, start)
    assert crc32(part) == zlib.crc32(part)
