"""A small HTTP service: `python3 service.py SETTINGS.json` answers GET / with the greeting that its settings hold."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers / and /health."""

    def do_GET(self) -> None:
        """Answer."""
        pages = {"/": settings["greeting"], "/health": "ok"}
        body = pages.get(self.path, "no such page").encode()
        self.send_response(200 if self.path in pages else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


with open(sys.argv[1]) as file:
    settings = json.load(file)
ThreadingHTTPServer(("127.0.0.1", settings["port"]), Handler).serve_forever()
