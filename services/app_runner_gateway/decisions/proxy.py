"""HAProxy's configuration as text, and what its runtime socket answers, read.

https://docs.haproxy.org/2.6/configuration.html, https://docs.haproxy.org/2.6/management.html#9.3
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

RETRIES = 5
MAP, SOCKET, CERTIFICATE = "hosts.map", "proxy.sock", "leaf.pem"
_DRAIN, _MAINTENANCE = 0x08, 0x01
_OVERLOAD = (
    '  http-after-response set-status 429 reason "Too Many Requests" '
    "if { status 503 } !{ bc_src -m found } { nbsrv gt 0 }"
)
"""Who waited too long was not yet given to an instance although there is one. Without instances, or when they can't be
reached, it stays 503; and so does what an instance answers itself."""


_EXPRESS = (
    "  retry-on conn-failure empty-response",
    "  http-request disable-l7-retry if !METH_GET",
    "  http-request set-header X-Forwarded-Port %[dst_port]",
)
"""What a task that was killed has not answered is asked of another one, if asking twice does no harm (GET and HEAD)."""

OWN, EXPRESS, WEIGHTED, TEST = "b", "x", "w", "t"
"""The kinds of backends: of App Runner's services, of Express services, of Express services with weights, of the test
traffic to a deployment on its way."""
_BALANCE = {
    OWN: (_OVERLOAD, "  balance leastconn"),
    EXPRESS: (*_EXPRESS, "  balance leastconn"),
    WEIGHTED: (*_EXPRESS, "  balance roundrobin"),
    TEST: (*_EXPRESS, "  balance leastconn"),
}
MOST_WEIGHT = 256
MOST_TASKS = 1000
"""How many tasks a service behind it may have: as many as an Application Load Balancer has targets in a group.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""
_TEST = "/TEST/"
"""In capitals, as no host is that is looked up."""


class Server(msgspec.Struct, frozen=True):
    """An instance in the proxy. `most`: requests at once; state: ready | drain. `weight` (0 to 256) counts in backends
    with weights alone."""

    address: str
    port: int
    most: int
    state: str = "ready"
    weight: int = 1


class Seen(msgspec.Struct, frozen=True):
    """Counters of a server, or of a backend as a whole (`server` is empty then). `asked`: requests since it came."""

    backend: str
    server: str
    in_flight: int
    queued: int
    asked: int
    ok: int
    client_errors: int
    server_errors: int
    latency_ms: float


class Frame(msgspec.Struct, frozen=True):
    """What stands fast from start to start. Backends are made in advance, `backends` of them, so that a new service is
    a line in a map and not another configuration; each has `slots` for instances, or as many as `deep` says of it, that
    once needed more. There are none for Express services until there is such a service."""

    host: str
    port: int
    threads: int
    connections: int
    queue_s: float
    backends: int = 8
    slots: int = 64
    express: int = 0
    weighted: int = 0
    deep: dict[str, int] = {}
    tested: int = 0
    headers: tuple[str, ...] = ()
    """Those that test traffic is known by, in small letters."""

    def depth(self, backend: str) -> int:
        """How many slots a backend has."""
        return max(self.slots, self.deep.get(backend, 0))

    def deepened(self, backend: str) -> Frame:
        """With twice as many slots for a backend."""
        return msgspec.structs.replace(self, deep={**self.deep, backend: 2 * self.depth(backend)})

    def count(self, kind: str) -> int:
        """How many backends there are of a kind."""
        return {OWN: self.backends, EXPRESS: self.express, WEIGHTED: self.weighted, TEST: self.tested}[kind]

    def grown(self, kind: str) -> Frame:
        """With twice as many backends of a kind; at first 8 for Express services, 4 with weights, 2 for tests."""
        if kind == OWN:
            return msgspec.structs.replace(self, backends=2 * self.backends)
        if kind == TEST:
            return msgspec.structs.replace(self, tested=2 * self.tested or 2)
        if not self.express:
            return msgspec.structs.replace(self, express=8, weighted=4)
        return msgspec.structs.replace(self, express=self.express * 2, weighted=self.weighted * 2)

    def widened(self, other: Frame) -> Frame:
        """With as many backends of each kind, and slots for each, as the other has, if those are more."""
        return msgspec.structs.replace(
            self,
            backends=max(self.backends, other.backends),
            express=max(self.express, other.express),
            weighted=max(self.weighted, other.weighted),
            deep={b: max(self.deep.get(b, 0), other.deep.get(b, 0)) for b in sorted({*self.deep, *other.deep})},
            tested=max(self.tested, other.tested),
            headers=tuple(sorted({*self.headers, *other.headers})),
        )


Slots = dict[str, dict[int, Server]]
"""Instances by backend and by the number of their slot."""


def render(frame: Frame, slots: Mapping[str, Mapping[int, Server]]) -> str:
    """The whole configuration; paths are relative to the directory that HAProxy runs in."""
    lines = [
        "global",
        f"  stats socket unix@{SOCKET} mode 600 level admin expose-fd listeners",
        f"  nbthread {frame.threads}",
        f"  maxconn {frame.connections}",
        "  hard-stop-after 60s",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2",
        "  tune.ssl.default-dh-param 2048",
        "defaults",
        "  mode http",
        "  timeout connect 1s",
        "  timeout client 120s",
        "  timeout http-request 30s",
        "  timeout http-keep-alive 60s",
        "  timeout server 120s",
        "  timeout tunnel 1h",
        f"  timeout queue {int(frame.queue_s * 1000)}ms",
        f"  retries {RETRIES}",
        "  option redispatch 1",
        "  option forwardfor",
        '  http-error status 503 content-type text/plain string "The service has no instance that is free.\\n" '
        "hdr Retry-After 1",
        "frontend https",
        f"  bind {frame.host}:{frame.port} ssl crt {CERTIFICATE} alpn h2,http/1.1",
        "  http-request set-header X-Forwarded-Proto https",
        *_test_rules(frame.headers),
        f"  use_backend %[req.hdr(host),host_only,lower,map({MAP},nobody)]",
        "backend nobody",
        '  http-request return status 404 content-type text/plain string "No service answers to this name.\\n"',
    ]
    for kind, balance in _BALANCE.items():
        for number in range(frame.count(kind)):
            name = f"{kind}{number}"
            taken = slots.get(name, {})
            lines += [f"backend {name}", *balance]
            lines += [f"  server s{n} {_line(taken.get(n))}" for n in range(frame.depth(name))]
    return "\n".join(lines) + "\n"


def _test_rules(headers: Sequence[str]) -> list[str]:
    """A request with such a header, of a value that the host's line in the map names, goes to the test backend."""
    lines = []
    for number, header in enumerate(headers):
        at = f"{_TEST}{header}/%[req.fhdr({header})]/%[req.hdr(host),host_only,lower]"
        lines.append(f'  http-request set-var-fmt(txn.test{number}) "{at}"')
        found = f"var(txn.test{number}),map({MAP})"
        lines.append(f"  use_backend %[{found}] if {{ {found} -m found }}")
    return lines


def test_line(header: str, value: str, host: str) -> str:
    """The line of the map that leads requests to a host with this header (in small letters) to a backend."""
    return f"{_TEST}{header}/{value}/{host}"


def _line(server: Server | None) -> str:
    """A slot, taken or free."""
    if server is None:
        return "127.0.0.1:9 maxconn 1 disabled"
    weight = f" weight {server.weight}" if server.weight != 1 else ""
    return f"{server.address}:{server.port} maxconn {server.most}{weight}"


def read_map(text: str) -> dict[str, str]:
    """`show map`: host to backend."""
    found = (row.split(" ", 2) for row in text.splitlines() if row.strip())
    return {row[1]: row[2] for row in found if len(row) == 3}


def read_servers(text: str) -> Iterator[tuple[str, str, Server]]:
    """`show servers state`: backend, name, and the server but for `most`, which it does not say (0)."""
    for row in text.splitlines():
        fields = row.split(" ")
        if len(fields) < 19 or row.startswith("#"):
            continue
        admin = int(fields[6])
        state = "maint" if admin & _MAINTENANCE else "drain" if admin & _DRAIN else "ready"
        yield fields[1], fields[3], Server(fields[4], int(fields[18]), 0, state, int(fields[7]))


def read_stats(text: str, only: Collection[str] = ()) -> list[Seen]:
    """`show stat`, once or several times: backends, and those servers, or just those in `only`."""
    at: dict[str, int] = {}
    found = []
    for row in text.splitlines():
        if row.startswith("# "):
            at = at or {name: number for number, name in enumerate(row[2:].split(","))}
        elif row[:1] in _BALANCE and at:
            fields = row.split(",")
            if not only or fields[at["svname"]] in only:
                found.append(_seen(fields, at))
    return found


def _seen(fields: list[str], at: Mapping[str, int]) -> Seen:
    def number(name: str) -> int:
        return int(fields[at[name]] or 0)

    server = fields[at["svname"]]
    return Seen(
        fields[at["pxname"]],
        "" if server == "BACKEND" else server,
        number("scur"),
        number("qcur"),
        number("stot"),
        number("hrsp_2xx"),
        number("hrsp_4xx"),
        number("hrsp_5xx"),
        float(number("ttime")),
    )


def free(kind: str, backends: int, taken: Iterable[str]) -> str | None:
    """A backend of a kind that no service has."""
    used = set(taken)
    return next((f"{kind}{n}" for n in range(backends) if f"{kind}{n}" not in used), None)


def less(seen: Seen, before: Seen | None) -> Seen:
    """What was counted since then."""
    if before is None:
        return seen
    return msgspec.structs.replace(
        seen,
        asked=seen.asked - before.asked,
        ok=seen.ok - before.ok,
        client_errors=seen.client_errors - before.client_errors,
        server_errors=seen.server_errors - before.server_errors,
    )
