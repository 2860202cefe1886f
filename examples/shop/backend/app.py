"""The shop's backend: what there is to buy, as JSON. `/report` takes a moment of processor time.

PORT (8080) is where it listens. It says which zone it runs in, as the task metadata endpoint tells it.
"""

import json
import os
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRODUCTS = [
    {"name": "rope, 20 m", "price": 19},
    {"name": "anchor, 12 kg", "price": 89},
    {"name": "lantern", "price": 35},
]


def zone() -> str:
    """The availability zone of this task."""
    endpoint = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if not endpoint:
        return "nowhere"
    with urllib.request.urlopen(f"{endpoint}/task", timeout=5) as answer:
        return json.load(answer)["AvailabilityZone"]


def report(milliseconds: float) -> str:
    """Adds up numbers for so long."""
    end, total = time.perf_counter() + milliseconds / 1000, 0
    while time.perf_counter() < end:
        total += sum(range(1000))
    return str(total)


class Backend(BaseHTTPRequestHandler):
    """GET /products, /report, /health."""

    protocol_version = "HTTP/1.1"
    zone = ""

    def do_GET(self) -> None:
        """Answer, always as JSON."""
        path = self.path.partition("?")[0]
        routes = {
            "/products": lambda: {"zone": self.zone, "products": PRODUCTS},
            "/report": lambda: {"zone": self.zone, "total": report(300)},
            "/health": lambda: {"healthy": True},
        }
        found = routes.get(path)
        body = json.dumps(found() if found else {"error": f"there is no {path}"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form: str, *values: object) -> None:
        """One line a request, to standard output: the awslogs driver takes it from there."""
        print(form % values, flush=True)


if __name__ == "__main__":
    Backend.zone = zone()
    print(f"the backend listens in {Backend.zone}", flush=True)
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Backend).serve_forever()
