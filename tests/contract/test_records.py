"""Records and commands against their golden samples."""

import json

import msgspec
import pytest

from tools.contract_documents import ROOT, shapes, stale


def test_schemas_and_samples_are_what_the_contracts_say():
    assert stale() == []


@pytest.mark.parametrize("name", sorted(shapes()))
def test_a_stored_sample_is_read_and_written_back_unchanged(name):
    text = (ROOT / "samples" / f"{name}.json").read_text()
    record = msgspec.json.decode(text, type=shapes()[name])
    assert json.loads(msgspec.json.encode(record)) == json.loads(text)


@pytest.mark.parametrize("name", sorted(n for n in shapes() if n.startswith("record.")))
def test_a_reader_bears_fields_that_it_does_not_know(name):
    text = (ROOT / "samples" / f"{name}.json").read_text()
    newer = json.loads(text) | {"a_field_of_tomorrow": 1}
    assert msgspec.json.decode(json.dumps(newer), type=shapes()[name]) == msgspec.json.decode(text, type=shapes()[name])
