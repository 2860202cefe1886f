"""The shop's frontend: a page of what the backend has.

PORT (8080) is where it listens, BACKEND the backend's URL, VERSION what the page says of itself. `/report` is slow,
because the backend has to work for it: what a busy shop looks like.
"""

import html
import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BACKEND = os.environ.get("BACKEND", "http://backend.local:8080")
VERSION = os.environ.get("VERSION", "1")
PAGE = """<!doctype html><html lang="en"><title>The shop</title>
<style>body{{font:16px/1.5 system-ui;max-width:32rem;margin:3rem auto}}td{{padding:.2rem 1rem .2rem 0}}
small{{color:#666}}</style>
<h1>The shop</h1><table>{rows}</table><small>version {version}; stock from a backend in {zone}</small></html>
"""


def asked(path: str) -> str:
    """What whatever backend the name leads to says."""
    with urllib.request.urlopen(f"{BACKEND}{path}", timeout=10) as answer:
        return answer.read().decode()


def page() -> str:
    """The page, with what is in stock now."""
    stock = json.loads(asked("/products"))
    rows = "".join(f"<tr><td>{html.escape(p['name'])}<td>{p['price']} EUR</tr>" for p in stock["products"])
    return PAGE.format(rows=rows, version=html.escape(VERSION), zone=html.escape(stock["zone"]))


class Frontend(BaseHTTPRequestHandler):
    """GET /, /report, /health."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer; 502 when the backend does not."""
        if self.path == "/health":
            return self._answer(200, "healthy\n")
        try:
            return self._answer(200, asked("/report") if self.path == "/report" else page())
        except OSError as error:
            return self._answer(502, f"the backend does not answer: {html.escape(str(error))}\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form: str, *values: object) -> None:
        """One line a request."""
        print(form % values, flush=True)


if __name__ == "__main__":
    print(f"the frontend, version {VERSION}, asks {BACKEND}", flush=True)
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Frontend).serve_forever()
