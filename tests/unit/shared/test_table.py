"""The table behind a view: newest wins, deletes are remembered, prefixes are indexed."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contracts.kinds import Kind
from services.shared.views import Entry, Table


class Thing(msgspec.Struct):
    account: str
    name: str


THING = Kind("maker", "thing", Thing, ("account", "name"))


def entry(account: str, name: str, sequence: int) -> Entry:
    return Entry(Thing(account, name), sequence, None)


def test_an_older_message_changes_nothing():
    table = Table(THING)
    table.apply(("1", "a"), entry("1", "a", 5), 5)
    assert table.apply(("1", "a"), None, 4) is None
    assert table.record("1", "a") == Thing("1", "a")


def test_a_write_that_is_older_than_the_delete_does_not_bring_it_back():
    table = Table(THING)
    table.apply(("1", "a"), entry("1", "a", 5), 5)
    table.apply(("1", "a"), None, 7)
    assert table.apply(("1", "a"), entry("1", "a", 6), 6) is None
    assert (table.record("1", "a"), table.sequence(("1", "a"))) == (None, 7)


def test_a_change_tells_old_and_new():
    table = Table(THING)
    first, second = entry("1", "a", 1), entry("1", "a", 2)
    created = table.apply(("1", "a"), first, 1)
    changed = table.apply(("1", "a"), second, 2)
    removed = table.apply(("1", "a"), None, 3)
    assert [(c.old, c.new) for c in (created, changed, removed)] == [(None, first), (first, second), (second, None)]


messages = st.lists(st.tuples(st.sampled_from("12"), st.sampled_from("abc"), st.booleans()), max_size=30)


@given(messages, st.randoms())
def test_whatever_the_order_of_arrival_the_newest_of_each_key_stands(sent, random):
    numbered = [(i + 1, account, name, deleted) for i, (account, name, deleted) in enumerate(sent)]
    expected = {(a, n): not d for _, a, n, d in numbered}
    random.shuffle(numbered)
    table = Table(THING)
    for sequence, account, name, deleted in numbered:
        table.apply((account, name), None if deleted else entry(account, name, sequence), sequence)
    present = {key for key, there in expected.items() if there}
    assert set(table.all_keys()) == present
    for account in "12":
        assert {r.name for r in table.records(account)} == {n for a, n in present if a == account}
