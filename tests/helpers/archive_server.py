"""An archive on 127.0.0.1 that answers like ESA's and NASA's, and as badly as a test asks it to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LAST_MODIFIED = format_datetime(datetime(2026, 1, 2, tzinfo=UTC), usegmt=True)


@dataclass
class Reply:
    """What is about to be sent; a fault changes it."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None  # bytes after which the connection is cut
    hang_at: int | None = None  # bytes after which nothing more comes
    trickle: int = 0  # bytes at a time, a hundred times a second
    ranges: bool = True
    if_range: bool = True
    if_changed: bool = True
    declare_length: bool = True
    chunked: bool = False
    range_start_error: int = 0
    stream: Callable[[], Iterator[bytes]] | None = None  # instead of a body


Fault = Callable[[Reply], None]


class BadArchive:
    """Files by observation, faults to come by what stands in the URL, and the requests so far."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.replies: dict[str, Reply] = {}  # whole answers, by a piece of the URL
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.url = ""
        self._faults: list[tuple[str, list[Fault]]] = []
        self._lock = threading.Lock()

    def misbehave(self, where: str, *faults: Fault) -> None:
        """Spoil the next answers to URLs that hold a piece of text, one fault each."""
        self._faults.append((where, list(faults)))

    def behave(self) -> None:
        """Spoil no more answers."""
        self._faults.clear()

    def count(self, where: str) -> int:
        """Count the requests whose URL holds a piece of text."""
        return sum(where in path for path, _ in self.asked)

    def reply(self, path: str, headers: dict[str, str]) -> Reply:
        """Find the answer, spoilt where it is to be."""
        with self._lock:
            self.asked.append((path, headers))
            reply = self._answer(path)
            for where, faults in self._faults:
                if where in path and faults:
                    faults.pop(0)(reply)
                    break
        return reply

    def _answer(self, path: str) -> Reply:
        for where, reply in self.replies.items():
            if where in path:
                return Reply(**vars(reply) | {"headers": dict(reply.headers)})
        parts = urlsplit(path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path.endswith("/data-action-aio"):
            return self._servlet(asked)
        if parts.path.endswith("/tap/sync"):
            return self._tables(asked["QUERY"])
        return self._tree(parts.path)

    def _servlet(self, asked: dict[str, str]) -> Reply:
        start = f"P{asked['obsno']}{asked.get('instname', '')}"
        held = self.files.get(asked["obsno"], {})
        names = [name for name in held if name.startswith(start) and asked["name"] in name]
        if not names:
            return Reply(headers={"Content-Type": "text/plain"})
        if len(names) == 1:
            return file_reply(names[0], held[names[0]])
        content = make_tar({f"{asked['obsno']}/pps/{name}": held[name] for name in names})
        disposition = 'attachment; filename="GUEST0123456789.tar"'
        return Reply(content, headers={"Content-Disposition": disposition}, ranges=False)

    def _tables(self, query: str) -> Reply:
        obsid = re.search(r"'(\d+)'", query)[1]
        known = obsid in self.files and (obsid not in self.private or "v_public_observations" not in query)
        return Reply(("observation_id\n" + f'"{obsid}"\n' * known).encode(), headers={"Content-Type": "text/csv"})

    def _tree(self, path: str) -> Reply:
        match = re.fullmatch(r"/tree/(\d{10})/(?:(PPS)/(.*))?", path)
        if match is None or match[1] not in self.files:
            return Reply(b"no such page", 404)
        held = self.files[match[1]]
        if match[3]:
            return file_reply(match[3], held[match[3]]) if match[3] in held else Reply(b"no such file", 404)
        names = held if match[2] else ["ODF/", "PPS/"]
        rows = "".join(f'<a href="{name}">{name}</a> 2026-01-01 1.0M\n' for name in ["../", *names])
        return Reply(f"<html><title>Index</title><pre>{rows}</pre></html>".encode())


def file_reply(name: str, content: bytes) -> Reply:
    etag = f'"{hashlib.sha1(content).hexdigest()}"'
    headers = {"Content-Disposition": f'inline; filename="{name}"', "ETag": etag, "Last-Modified": LAST_MODIFIED}
    return Reply(content, headers=headers)


def make_tar(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in more:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def status(code: int, **headers: str) -> Fault:
    def spoil(reply: Reply) -> None:
        reply.body, reply.status, reply.stream = b"<html>sorry</html>", code, None
        reply.headers = {key.replace("_", "-"): value for key, value in headers.items()}

    return spoil


def page(text: str) -> Fault:
    def spoil(reply: Reply) -> None:
        reply.body, reply.headers, reply.ranges = text.encode(), {"Content-Type": "text/html"}, False

    return spoil


def changed(**attributes: object) -> Fault:
    """Set attributes of the reply: ``cut_at``, ``hang_at``, ``trickle``, ``ranges``..."""

    def spoil(reply: Reply) -> None:
        for name, value in attributes.items():
            setattr(reply, name, value)

    return spoil


def declared(length: int) -> Fault:
    """Promise another length than is sent."""

    def spoil(reply: Reply) -> None:
        reply.headers["Content-Length"] = str(length)

    return spoil


def edited(edit: Callable[[bytes], bytes]) -> Fault:
    """Send other bytes, with the length of those."""

    def spoil(reply: Reply) -> None:
        reply.body = edit(reply.body)

    return spoil


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        headers = dict(self.headers)
        reply = self.server.archive.reply(self.path, headers)
        start, body = 0, reply.body
        known = {headers.get("If-None-Match"), headers.get("If-Modified-Since")} - {None}
        if reply.if_changed and reply.status == 200 and known and known <= set(reply.headers.values()):
            reply.status, body = 304, b""
        if reply.ranges and reply.status == 200 and "Range" in headers:
            validators = (reply.headers.get("ETag"), reply.headers.get("Last-Modified"))
            start = int(re.fullmatch(r"bytes=(\d+)-", headers["Range"])[1])
            if reply.if_range and headers.get("If-Range", validators[0]) not in validators:
                start = 0
            elif start >= len(body):
                reply.status, start, body = 416, 0, b""
            else:
                first = start + reply.range_start_error
                reply.status, body = 206, body[first:]
                reply.headers["Content-Range"] = f"bytes {first}-{len(reply.body) - 1}/{len(reply.body)}"
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif reply.status == 304:
            pass
        elif reply.declare_length and "Content-Length" not in reply.headers and reply.stream is None:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        with contextlib.suppress(OSError):
            self._send(reply, body, start)

    def _send(self, reply: Reply, body: bytes, start: int) -> None:
        if reply.stream is not None:
            for piece in reply.stream():
                self.wfile.write(piece)
            return
        stops = [at - start for at in (reply.cut_at, reply.hang_at) if at is not None and at >= start]
        sent = body[: min(stops)] if stops else body
        step = reply.trickle or max(len(sent), 1)
        for piece in [sent[k : k + step] for k in range(0, len(sent), step)]:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if reply.chunked and piece else piece)
            if reply.trickle and self.server.archive.released.wait(0.01):
                break
        if reply.chunked and not stops:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        if reply.hang_at is not None:
            self.server.archive.released.wait(20)
        if stops or reply.trickle:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    archive: BadArchive
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that goes away is what the tests are about."""


@contextmanager
def serving(archive: BadArchive) -> Iterator[str]:
    """Run the archive; gives its address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.archive = archive
        archive.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield archive.url
        finally:
            archive.released.set()
            server.shutdown()
            thread.join()
