"""The data channel's messages, byte for byte, and what is made sure of over a way that loses some."""

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared import data_channel as channel
from services.shared.data_channel import BadMessage, Message, Receiver, Sender, decode, encode
from tests.builders import data_channel as independent

ID = uuid.UUID("01234567-89ab-cdef-fedc-ba9876543210")
GOLDEN = bytes.fromhex(
    "00000074"
    "696e7075745f73747265616d5f64617461202020202020202020202020202020"
    "00000001"
    "0000018bcfe56800"
    "0000000000000007"
    "0000000000000000"
    "fedcba98765432100123456789abcdef"
    "e9fe7e88e89d532379960402db8f9458194dae772aa5fda5a12806c22215f0ff"
    "00000001"
    "00000003"
    "6c730a"
)
LS = Message(type="input_stream_data", payload=b"ls\n", payload_type=1, sequence=7, id=ID, created_ms=1_700_000_000_000)


def test_a_message_has_these_bytes():
    assert encode(LS) == GOLDEN


def test_these_bytes_are_the_message():
    assert decode(GOLDEN) == LS


texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32)
messages = st.builds(
    Message,
    type=texts,
    payload=st.binary(max_size=300),
    payload_type=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**63 - 1),
    flags=st.integers(0, 2**64 - 1),
    id=st.uuids(),
    created_ms=st.integers(0, 2**64 - 1),
    schema_version=st.integers(0, 2**32 - 1),
)


@given(messages)
def test_what_is_encoded_comes_back(message):
    assert decode(encode(message)) == message


@given(messages, st.data())
def test_a_message_that_is_cut_off_is_refused(message, data):
    whole = encode(message)
    with pytest.raises(BadMessage):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        decode(data)
    except BadMessage:
        pass


def test_a_changed_payload_is_refused():
    with pytest.raises(BadMessage):
        decode(GOLDEN[:-1] + b"\r")


def test_another_program_reads_what_is_written_here():
    read = independent.parse(encode(LS))
    assert (read["type"], read["id"], read["sequence"], read["payload"]) == (LS.type, str(ID), 7, b"ls\n")


def test_an_acknowledgement_names_what_came():
    read = decode(channel.acknowledgement(LS, 5.0))
    assert (read.type, read.flags, read.created_ms) == ("acknowledge", 3, 5000)
    assert read.payload == (
        b'{"AcknowledgedMessageType":"input_stream_data","AcknowledgedMessageId":"' + str(ID).encode() + b'",'
        b'"AcknowledgedMessageSequenceNumber":7,"IsSequentialMessage":true}'
    )


def test_what_nobody_acknowledged_is_sent_again():
    sender = Sender(channel.OUTPUT)
    first, second = sender.send(1, b"a", 0.0), sender.send(1, b"b", 1.0)
    sender.acknowledged(decode(channel.acknowledgement(decode(first), 1.0)))
    assert sender.pending == 1
    assert sender.overdue(1.0 + channel.RESEND_S / 2) == []
    assert sender.overdue(1.0 + channel.RESEND_S) == [second]
    assert sender.overdue(1.0 + channel.RESEND_S) == []


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_each_message_arrives_once_and_in_order_whatever_is_lost(seed, count):
    chance = random.Random(seed)
    sender, receiver, got, now = Sender(channel.OUTPUT), Receiver(), [], 0.0
    way = [sender.send(1, str(number).encode(), now) for number in range(count)]
    while sender.pending:
        chance.shuffle(way)
        for data in way:
            if chance.random() < 0.3:
                continue
            message = decode(data)
            ready, acknowledge = receiver.take(message)
            got += [int(each.payload) for each in ready]
            if acknowledge and chance.random() > 0.3:
                sender.acknowledged(decode(channel.acknowledgement(message, now)))
        now += channel.RESEND_S
        way = sender.overdue(now)
    assert got == list(range(count))
