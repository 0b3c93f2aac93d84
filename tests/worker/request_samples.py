"""Requests, well-formed and not, with the statuses that the worker must answer them with.

Each is judged against gunicorn's own gevent worker with its strict parser. Where the two differ on purpose, the row
says what gunicorn answers, and why the worker does not follow.
"""

from __future__ import annotations

from dataclasses import dataclass

HOST = b"Host: example.org\r\n"


@dataclass(frozen=True)
class Sample:
    """What a client sends before it stops sending; the statuses of all answers until the connection ends."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    by_gunicorn: tuple[int, ...] | None = None
    why_not_so: str = ""


def get(target: bytes = b"/a", fields: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + HOST + fields + b"\r\n"


def post(fields: bytes, rest: bytes = b"") -> bytes:
    return b"POST /a HTTP/1.1\r\n" + HOST + fields + b"\r\n" + rest


CHUNKED = b"Transfer-Encoding: chunked\r\n"
NEXT = get(b"/next")

WELL_FORMED = (
    Sample("plain", get(), (200,)),
    Sample("query", get(b"/a?offset=-1&x=%20?y"), (200,)),
    Sample("empty query", get(b"/a?"), (200,)),
    Sample("encoded path", get(b"/a%20b%2Fc%C3%BC"), (200,)),
    Sample("half an escape", get(b"/a%2"), (200,)),
    Sample("every character of a target", get(b"/!$&'()*+,;=:@-._~[]|\\^`{}\"<>"), (200,)),
    Sample("two slashes", get(b"//a/b"), (200,)),
    Sample("colon in the first segment", get(b"/http://x/"), (200,)),
    Sample("fragment", get(b"/a?b#c"), (200,)),
    Sample("absolute target", get(b"http://other.example/a?b"), (200,)),
    Sample("asterisk for OPTIONS", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", (200,)),
    Sample("HEAD", b"HEAD /a HTTP/1.1\r\n" + HOST + b"\r\n", (200,)),
    Sample("DELETE", b"DELETE /a HTTP/1.1\r\n" + HOST + b"\r\n", (200,)),
    Sample("a method of one's own", b"PURGE-ALL /a HTTP/1.1\r\n" + HOST + b"\r\n", (200,)),
    Sample("HTTP/1.0", get(version=b"HTTP/1.0"), (200,)),
    Sample("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", (200,)),
    Sample("HTTP/1.0 keep-alive", get(b"/a", b"Connection: keep-alive\r\n", b"HTTP/1.0") + NEXT, (200, 200)),
    Sample("port in Host", b"GET / HTTP/1.1\r\nHost: example.org:8080\r\n\r\n", (200,)),
    Sample("IPv6 Host", b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", (200,)),
    Sample("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", (200,)),
    Sample("empty line before", b"\r\n" + get(), (200,)),
    Sample("empty value", get(b"/", b"X-Empty:\r\n"), (200,)),
    Sample("space round a value", get(b"/", b"X-Space: \t a \t b\t \r\n"), (200,)),
    Sample("Latin-1 value", get(b"/", b"X-Text: \xe4\xff\x80\r\n"), (200,)),
    Sample("repeated field", get(b"/", b"X-A: 1\r\nX-A: 2\r\nx-a: 3\r\n"), (200,)),
    Sample("underscore in a name", get(b"/", b"X_A: 1\r\nX-A: 2\r\n"), (200,)),
    Sample("names of the environ", get(b"/", b"Path-Info: /x\r\nScript-Name: /y\r\nProxy: z\r\n"), (200,)),
    Sample("scheme of a proxy", get(b"/", b"X-Forwarded-Proto: https\r\n"), (200,)),
    Sample("body", post(b"Content-Length: 3\r\n", b"abc"), (200,)),
    Sample("empty body", post(b"Content-Length: 0\r\n"), (200,)),
    Sample("zeros before a length", post(b"Content-Length: 0003\r\n", b"abc"), (200,)),
    Sample("body of GET", get(b"/", b"Content-Length: 3\r\n") + b"abc" + NEXT, (200, 200)),
    Sample("chunks", post(CHUNKED, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") + NEXT, (200, 200)),
    Sample("chunk extensions", post(CHUNKED, b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n') + NEXT, (200, 200)),
    Sample("trailers", post(CHUNKED, b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") + NEXT, (200, 200)),
    Sample("Expect", post(b"Content-Length: 3\r\nExpect: 100-continue\r\n", b"abc"), (200,), (100, 200),
           "the body has come already"),
    Sample("Expect in capitals", post(b"Content-Length: 3\r\nExpect: 100-CONTINUE\r\n", b"abc"), (200,),
           (100, 200), "the body has come already"),
    Sample("Expect without a body", get(b"/", b"Expect: 100-continue\r\n"), (200,), (100, 200),
           "there is nothing to wait for"),
    Sample("Upgrade that nobody wants", get(b"/", b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + NEXT, (200, 200)),
    Sample("Upgrade without Connection", get(b"/", b"Upgrade: websocket\r\n") + NEXT, (200, 200)),
    Sample("close", get(b"/", b"Connection: close\r\n") + NEXT, (200,)),
    Sample("Close in capitals", get(b"/", b"Connection: CLOSE\r\n") + NEXT, (200,)),
    Sample("keep-alive", get(b"/", b"Connection: Keep-Alive\r\n") + NEXT, (200, 200)),
    Sample("list in Connection", get(b"/", b"Connection: keep-alive, x\r\n") + NEXT, (200, 200)),
    Sample("close in a list", get(b"/", b"Connection: x, Close\r\n") + NEXT,
           (200,), (200, 200), "RFC 9110 section 7.6.1"),
    Sample("close in a second header", get(b"/", b"Connection: keep-alive\r\nConnection: close\r\n") + NEXT,
           (200,), (200, 200), "RFC 9110 section 7.6.1"),
    Sample("HTTP/1.0 keep-alive in a list", get(b"/a", b"Connection: x, keep-alive\r\n", b"HTTP/1.0") + NEXT,
           (200, 200), (200,), "RFC 9110 section 7.6.1"),
    Sample("three at once", get(b"/1") + get(b"/2") + get(b"/3"), (200, 200, 200)),
    Sample("all kinds at once", post(b"Content-Length: 3\r\n", b"abc") + post(CHUNKED, b"1\r\nx\r\n0\r\n\r\n") + NEXT,
           (200, 200, 200)),
    Sample("empty lines between", get() + b"\r\n" + NEXT, (200, 200)),
    Sample("long head", get(b"/" + b"a" * 4000, b"X-Long: " + b"b" * 8000 + b"\r\n"), (200,)),
)  # fmt: skip

MALFORMED = (
    Sample("nothing", b"", ()),
    Sample("half a request line", b"GET / HT", ()),
    Sample("half a head", b"GET / HTTP/1.1\r\nHost: x\r\n", ()),
    Sample("garbage", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", (400,)),
    Sample("no version", b"GET /\r\n" + HOST + b"\r\n", (400,)),
    Sample("two spaces before the target", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Sample("two spaces before the version", b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Sample("space behind the version", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", (400,)),
    Sample("tab for space", b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Sample("space in the target", get(b"/a b"), (400,)),
    Sample("other bytes in the target", get(b"/\xc3\xbc"), (400,)),
    Sample("DEL in the target", get(b"/\x7f"), (400,)),
    Sample("NUL in the target", get(b"/\x00"), (400,)),
    Sample("no slash", get(b"a"), (400,)),
    Sample("asterisk for GET", get(b"*"), (400,)),
    Sample("authority for GET", get(b"example.org:80"), (400,)),
    Sample("broken authority", get(b"http://[a/b"), (400,)),
    Sample("bracket behind two slashes", get(b"//[a/b"), (200,)),
    Sample("HTTP/2.0", get(version=b"HTTP/2.0"), (400,)),
    Sample("HTTP/1.2", get(version=b"HTTP/1.2"), (200,)),
    Sample("HTTP/1.10", get(version=b"HTTP/1.10"), (400,)),
    Sample("http/1.1 in small letters", get(version=b"http/1.1"), (400,)),
    Sample("method in small letters", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Sample("method of two letters", b"GO / HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Sample("method that is no token", b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n", (400,)),
    Sample("two empty lines before", b"\r\n\r\n" + get(), (400,)),
    Sample("bare LF before", b"\n" + get(), (400,)),
    Sample("bare LF in the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", (400,)),
    Sample("bare LF everywhere", get().replace(b"\r\n", b"\n"), (400,)),
    Sample("bare LF behind a field", b"GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n", (400,)),
    Sample("bare LF at the end", b"GET / HTTP/1.1\r\nHost: x\r\n\n", (400,)),
    Sample("bare CR in a value", get(b"/", b"X-A: b\rX-C: d\r\n"), (400,)),
    Sample("NUL in a value", get(b"/", b"X-A: b\x00\r\n"), (400,)),
    Sample("DEL in a value", get(b"/", b"X-A: b\x7f\r\n"), (400,)),
    Sample("folded value", get(b"/", b"X-A: b\r\n c\r\n"), (400,)),
    Sample("folded first field", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", (400,)),
    Sample("no colon", get(b"/", b"X-A\r\n"), (400,)),
    Sample("no name", get(b"/", b": a\r\n"), (400,)),
    Sample("space before the colon", get(b"/", b"X-A : b\r\n"), (400,)),
    Sample("space in a name", get(b"/", b"X A: b\r\n"), (400,)),
    Sample("other bytes in a name", get(b"/", b"X-\xc3\xbc: b\r\n"), (400,)),
    Sample("two Hosts", get(b"/", b"Host: other.example\r\n"), (400,)),
    Sample("the same Host twice", get(b"/", HOST), (400,)),
    Sample("two content types", get(b"/", b"Content-Type: a/b\r\nContent-Type: c/d\r\n"), (400,)),
    Sample("no Host", b"GET / HTTP/1.1\r\n\r\n", (400,), (200,), "RFC 9112 section 3.2"),
    Sample("list in Host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", (400,), (200,), "RFC 9112 section 3.2"),
    Sample("path in Host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", (400,), (200,), "RFC 9112 section 3.2"),
    Sample("user in Host", b"GET / HTTP/1.0\r\nHost: a@b\r\n\r\n", (400,), (200,), "RFC 9112 section 3.2"),
    Sample("two lengths", post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), (400,)),
    Sample("two lengths that differ", post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"), (400,)),
    Sample("list of lengths", post(b"Content-Length: 3, 3\r\n", b"abc"), (400,)),
    Sample("signed length", post(b"Content-Length: +3\r\n", b"abc"), (400,)),
    Sample("negative length", post(b"Content-Length: -3\r\n", b"abc"), (400,)),
    Sample("hexadecimal length", post(b"Content-Length: 0x3\r\n", b"abc"), (400,)),
    Sample("length with underscore", post(b"Content-Length: 1_0\r\n", b"0123456789"), (400,)),
    Sample("superscript length", post(b"Content-Length: \xb3\r\n", b"abc"), (400,)),
    Sample("empty length", post(b"Content-Length:\r\n", b"abc"), (400,)),
    Sample("length of 5000 digits", post(b"Content-Length: " + b"9" * 5000 + b"\r\n", b"abc"), (400,)),
    Sample("length before chunks", post(b"Content-Length: 3\r\n" + CHUNKED, b"0\r\n\r\n") + NEXT, (400,)),
    Sample("chunks before length", post(CHUNKED + b"Content-Length: 3\r\n", b"0\r\n\r\n") + NEXT, (400,)),
    Sample("chunked twice", post(CHUNKED + CHUNKED, b"0\r\n\r\n"), (400,)),
    Sample("chunked twice in a list", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), (400,)),
    Sample("chunked is not last", post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), (400,)),
    Sample("gzip in chunks", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), (501,), (200,),
           "nobody undoes the coding"),
    Sample("gzip and chunked in two headers", post(b"Transfer-Encoding: gzip\r\n" + CHUNKED, b"0\r\n\r\n"),
           (501,), (200,), "nobody undoes the coding"),
    Sample("unknown coding", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), (501,)),
    Sample("identity with length", post(b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n", b"abc"), (400,)),
    Sample("space before the colon of a coding", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), (400,)),
    Sample("vertical tab before a coding", post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), (400,)),
    Sample("chunks in HTTP/1.0", get(b"/", CHUNKED, b"HTTP/1.0") + b"0\r\n\r\n", (400,)),
    Sample("chunk size with prefix", post(CHUNKED, b"0x3\r\nabc\r\n0\r\n\r\n") + NEXT, (400,)),
    Sample("negative chunk size", post(CHUNKED, b"-3\r\nabc\r\n0\r\n\r\n") + NEXT, (400,)),
    Sample("empty chunk size", post(CHUNKED, b"\r\nabc\r\n0\r\n\r\n") + NEXT, (400,)),
    Sample("chunk longer than its size", post(CHUNKED, b"3\r\nabcde\r\n0\r\n\r\n") + NEXT, (400,)),
    Sample("bad chunk extension", post(CHUNKED, b"3;a=\x00\r\nabc\r\n0\r\n\r\n") + NEXT, (400,)),
    Sample("bare LF behind a chunk size", post(CHUNKED, b"3\nabc\r\n0\r\n\r\n") + NEXT, (400,)),
    Sample("Content-Length among the trailers", post(CHUNKED, b"0\r\nContent-Length: 3\r\n\r\n") + NEXT, (400,)),
    Sample("other expectation", post(b"Content-Length: 3\r\nExpect: magic\r\n", b"abc"), (417,)),
    Sample("request line too long", get(b"/" + b"a" * 4100), (414,)),
    Sample("field too long", get(b"/", b"X-A: " + b"b" * 8200 + b"\r\n"), (431,)),
    Sample("too many fields", get(b"/", b"X-A: b\r\n" * 101), (431,)),
    Sample("contradicting schemes", get(b"/", b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"), (400,)),
    Sample("body cut off", post(b"Content-Length: 10\r\n", b"abc"), (), (200,),
           "the application would take it for whole"),
    Sample("chunk cut off", post(CHUNKED, b"5\r\nabc"), ()),
    Sample("last chunk missing", post(CHUNKED, b"3\r\nabc\r\n"), ()),
    Sample("good before bad", get() + get(b"a") + NEXT, (200, 400)),
    Sample("smuggled behind a GET", get(b"/", b"Content-Length: 43\r\nTransfer-Encoding: chunked\r\n")
           + b"0\r\n\r\n" + NEXT, (400,)),
)  # fmt: skip

SAMPLES = (*WELL_FORMED, *MALFORMED)
