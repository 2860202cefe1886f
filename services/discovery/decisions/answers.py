"""What is answered to a question, in wire form, made once and given out again and again.

A question that was asked before costs one look into a table: its octets, without the id, are the key. Each answer is
kept in several forms, rotated or drawn, so that clients spread over the instances.
"""

from __future__ import annotations

import random

from services.discovery.decisions import wire
from services.discovery.decisions.zones import Node, Records, Zone, Zones

MOST = 8
FORMS = 16
SHARED_FORMS = 200
"""Of which a group with half a percent of the traffic has one."""
KEPT = 4096
CHAIN = 8
_TCP = 65535


class Answers:
    """Answers out of the zones. `forget` when they have changed."""

    def __init__(self, zones: Zones, chance: random.Random) -> None:
        self._zones = zones
        self._chance = chance
        self._udp: dict[bytes, list[bytes]] = {}
        self._turn = 0

    def forget(self) -> None:
        """The zones have changed."""
        self._udp.clear()

    def udp(self, data: bytes) -> bytes | wire.Query | None:
        """The answer; a Query when others must be asked; None for what deserves no answer."""
        forms = self._udp.get(data[2:])
        if forms is not None:
            self._turn += 1
            return data[:2] + forms[self._turn % len(forms)]
        found = self._answer(data, None)
        if not isinstance(found, list):
            return found
        if len(self._udp) >= KEPT:
            self._udp.clear()
        self._udp[data[2:]] = [form[2:] for form in found]
        return found[0]

    def tcp(self, data: bytes) -> bytes | wire.Query | None:
        """As `udp`, and never truncated."""
        found = self._answer(data, _TCP)
        return self._chance.choice(found) if isinstance(found, list) else found

    def _answer(self, data: bytes, limit: int | None) -> list[bytes] | bytes | wire.Query | None:
        query = wire.read(data)
        if isinstance(query, wire.Refusal):
            return query.answer
        if query.edns_version > 0:
            return wire.reply(query, wire.BADVERS, authoritative=False)
        place = self._zones.zone_of(query.name)
        if place is None:
            return query
        if query.cls != wire.IN or query.type in (wire.AXFR, 251):
            return wire.reply(query, wire.REFUSED, authoritative=False)
        limit = query.limit if limit is None else limit
        answers = self._own(query, *place)
        return [a if len(a) <= limit else wire.reply(query, wire.NOERROR, truncated=True) for a in answers]

    def _own(self, query: wire.Query, offset: int, zone: Zone) -> list[bytes]:
        """The forms of an answer about a name of ours."""
        apex = offset == 0
        if apex and query.type == wire.SOA:
            return [wire.reply(query, 0, [wire.record(wire.pointer(0), wire.SOA, zone.ttl, zone.soa)])]
        if apex and query.type == wire.NS:
            data = b"\x02ns" + wire.pointer(0)
            return [wire.reply(query, 0, [wire.record(wire.pointer(0), wire.NS, zone.ttl, data)])]
        node = self._zones.node(query.name)
        negative = [wire.record(wire.pointer(offset), wire.SOA, zone.ttl, zone.soa)]
        if node is None:
            return [wire.reply(query, wire.NXDOMAIN, authority=negative)]
        forms = self._records(wire.pointer(0), node, query.type)
        if not forms:
            return [wire.reply(query, wire.NOERROR, authority=negative)]
        return [wire.reply(query, wire.NOERROR, form) for form in forms]

    def _records(self, owner: bytes, node: Node, kind: int, depth: int = 0) -> list[list[bytes]]:
        """The forms that the answer section may have; none when the name has nothing of this type."""
        if kind == wire.ANY:
            kind = next(iter(node), kind)  # one of its sets is enough (RFC 8482)
        own = node.get(kind)
        if own is not None:
            return [[wire.record(owner, kind, own.ttl, d) for d in chosen] for chosen in self._choices(own)]
        alias = node.get(wire.CNAME)
        if alias is None:
            return []
        forms = []
        for (target,) in self._choices(alias._replace(single=True)):
            head = wire.record(owner, wire.CNAME, alias.ttl, target)
            followed = self._zones.node(target) if depth < CHAIN else None
            tails = self._records(target, followed, kind, depth + 1) if followed else []
            forms += [[head, *tail] for tail in tails or [[]]]
        return forms[: FORMS * 2]

    def _choices(self, records: Records) -> list[tuple[bytes, ...]]:
        """Which records, in which order: one each (WEIGHTED), all in every rotation, or eight drawn of many."""
        if records.shares:
            return self._shared(records)
        data = list(records.data)
        if records.single:
            self._chance.shuffle(data)
            return [(d,) for d in data[: FORMS * 2]]
        if len(data) <= MOST:
            self._chance.shuffle(data)
            return [tuple(data[n:] + data[:n]) for n in range(len(data))]
        return [tuple(self._chance.sample(data, MOST)) for _ in range(FORMS)]

    def _shared(self, records: Records) -> list[tuple[bytes, ...]]:
        """As `_choices`, for traffic that is shared: as many of the forms are of a group as it is to have of the
        traffic, at least one, in an order that is drawn."""
        whole = sum(weight for weight, _ in records.shares)
        forms = []
        for weight, data in records.shares:
            own = self._choices(records._replace(data=data, shares=()))
            count = max(1, round(SHARED_FORMS * weight / whole))
            forms += [own[n % len(own)] for n in range(count)]
        self._chance.shuffle(forms)
        return forms
