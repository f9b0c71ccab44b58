"""A Zenodo on this machine: one record, files that may break off, be corrupt or be missing."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RECORD = "10408334"
ZENODO = "https://zenodo.org"


@dataclass
class Zenodo:
    """What it serves, and what it was asked for.

    `checksums` replace the true ones; of each name in `break_after`, no request sends more bytes than that. Without
    `ranges`, the server sends files from their beginning whatever is asked.
    """

    files: dict[str, bytes]
    url: str = ""
    checksums: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    break_after: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    record: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def record_json(self) -> str:
        """Return the record as Zenodo's REST interface describes it; links name Zenodo itself, as a mirror's do."""
        entries = [
            {
                "key": name,
                "size": len(content),
                "checksum": self.checksums.get(name, "md5:" + hashlib.md5(content).hexdigest()),
                "links": {"self": f"{ZENODO}/api/records/{RECORD}/files/{name}/content"},
            }
            for name, content in self.files.items()
        ]
        return self.record if self.record is not None else json.dumps({"id": int(RECORD), "files": entries})

    def ranges_of(self, name: str) -> list[str | None]:
        """Range header of every request for a file, in order."""
        return [asked_range for asked_name, asked_range in self.asked if asked_name == name]


@contextmanager
def serve(zenodo: Zenodo) -> Iterator[Zenodo]:
    """Serve until the end of the `with`; its address is in `url`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == f"/api/records/{RECORD}":
                self._send(zenodo.record_json().encode(), 200)
                return
            match = re.fullmatch(f"/api/records/{RECORD}/files/(.+)/content", self.path)
            if match is None or match[1] in zenodo.missing:
                self.send_error(404)
                return
            self._send_file(match[1])

        def _send_file(self, name: str) -> None:
            asked = self.headers.get("Range")
            zenodo.asked.append((name, asked))
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and zenodo.ranges else 0
            rest = zenodo.files[name][start:]
            self._send(rest, 206 if start else 200, zenodo.break_after.get(name))

        def _send(self, content: bytes, status: int, limit: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:limit])
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    zenodo.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield zenodo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
