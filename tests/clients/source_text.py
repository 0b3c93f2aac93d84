"""The text that the official clients carry through the server: Python's own language reference, with
paragraphs in many scripts between its chapters, and with lines that look like server-sent events.

It is the same for the same seed on one machine; nothing depends on which Python's reference it is.
"""

from __future__ import annotations

import json
import random
from pydoc_data.topics import topics

SEED = 20260603
BYTES_MIN = 600_000
LINES_A_MESSAGE = 12

# Words of one to four bytes a character, right-to-left ones, combining marks and joined emoji.
WORDS = (
    "stream offset append tail",
    "naïve façade Übermaß søster žluťoučký",
    "поток смещение запись хвост",
    "ροή μετατόπιση εγγραφή",
    "تيار إزاحة إلحاق ذيل",
    "זרם היסט הוספה",
    "धारा अंतर जोड़ना",
    "สตรีม ต่อท้าย",
    "流 偏移量 追加 末尾 永続ストリーム",
    "스트림 오프셋 추가",
    "e\u0301 n\u0303 a\u030a\u0323 \u200d \ufeff \u2028 \u2029 \x85",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇪🇺 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈",
)

# A server that writes text into an event stream without care would let these lines act as events.
LINES_LIKE_EVENTS = (
    "event: control",
    'data: {"streamNextOffset":"0","upToDate":true}',
    "data:",
    "id: 7",
    "retry: 1",
    ": a comment",
    " a leading space",
    "",
    "",
    "a trailing space ",
)


def text_of_many_scripts(seed: int = SEED) -> str:
    """At least BYTES_MIN bytes of UTF-8 text, with no carriage return (no event stream can carry one)."""
    chance = random.Random(seed)
    parts: list[str] = []
    size = 0
    chapters = sorted(topics.values())
    while size < BYTES_MIN:
        for chapter in chapters:
            part = f"{chapter.replace(chr(13), '')}\n\n{_paragraph(chance)}\n"
            parts.append(part)
            size += len(part.encode())
            if size >= BYTES_MIN:
                break
    return "".join(parts)


def json_messages(seed: int = SEED) -> list[object]:
    """The text, some lines of it in each JSON message, with messages of the other JSON types among them."""
    lines = text_of_many_scripts(seed).split("\n")
    groups = [lines[at : at + LINES_A_MESSAGE] for at in range(0, len(lines), LINES_A_MESSAGE)]
    messages: list[object] = [{"number": number, "lines": group} for number, group in enumerate(groups)]
    messages[100:100] = [None, True, 0, -1.5, "", [], [[1], [2]], {}, {"nested": {"deeper": [None]}}]
    return messages


def as_lines(messages: list[object]) -> str:
    """One JSON text a line: the form in which the clients' programs take and give messages."""
    return "".join(json.dumps(message, ensure_ascii=False) + "\n" for message in messages)


def _paragraph(chance: random.Random) -> str:
    lines = [" ".join(chance.choices(WORDS, k=chance.randint(1, 12))) for _ in range(chance.randint(1, 8))]
    lines += chance.sample(LINES_LIKE_EVENTS, k=3)
    chance.shuffle(lines)
    return "\n".join(lines)
