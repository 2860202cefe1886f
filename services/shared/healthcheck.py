"""`python -m services.shared.healthcheck`: exit code 0 when the service of this container is ready, else 1 and why.

Standard library only: it runs every few seconds beside each service, and must cost next to nothing. Asks
http://127.0.0.1:$ROADSTEAD_PORT/readyz, or the URL that is given.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 3.0


def why_not_ready(url: str) -> str | None:
    """What is wrong with the service whose /readyz is at this URL; None when it is ready."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/readyz")
        response = connection.getresponse()
        body = response.read(2048).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error or type(error).__name__}"
    finally:
        connection.close()
    return None if response.status == 200 else f"{url}: {response.status} {body}"


def main(arguments: list[str]) -> int:
    """The exit code."""
    url = arguments[0] if arguments else f"http://127.0.0.1:{os.environ.get('ROADSTEAD_PORT', '8080')}/readyz"
    wrong = why_not_ready(url)
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
