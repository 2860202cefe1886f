"""How events are sent to webhooks, and which webhooks there can be."""

import base64
import json

import pytest

from services.events.decisions import deliveries
from services.events.decisions.deliveries import Rules
from services.events.decisions.requests import BadWebhook, NewWebhook, read

RULES = Rules(first_s=1.0, limit_s=60.0, give_up_s=3600.0)


def test_a_delivery_is_signed_as_standard_webhooks_says():
    # The example of the specification's own libraries.
    secret = deliveries.read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert deliveries.headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330.9) == {
        "content-type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(("status", "taken"), [(200, True), (204, True), (302, False), (404, False), (None, False)])
def test_only_an_answer_of_success_takes_an_event(status, taken):
    assert deliveries.delivered(status) is taken


def test_waits_double_up_to_the_limit_and_end_when_the_event_is_too_old():
    waits = [deliveries.wait(RULES, attempt, 5.0) for attempt in range(1, 9)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert deliveries.wait(RULES, 2000, 3599.0) == 60.0
    assert deliveries.wait(RULES, 1, 3600.0) is None


def test_a_secret_is_read_as_it_was_written():
    assert deliveries.read_secret(deliveries.write_secret(b"k" * 32)) == b"k" * 32


@pytest.mark.parametrize("text", ["whsec_", "whsec_!!", deliveries.write_secret(b"short"), "plain"])
def test_what_is_no_secret_is_refused(text):
    with pytest.raises(ValueError, match="secret must be 24 to 64 bytes"):
        deliveries.read_secret(text)


def test_a_webhook_needs_a_name_and_a_url():
    body = json.dumps({"name": "mine", "url": "https://example.com/hook?a=1"}).encode()
    assert read(body) == NewWebhook(name="mine", url="https://example.com/hook?a=1")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"name": ""}, "name must be"),
        ({"name": "a/b"}, "name must be"),
        ({"url": "ftp://example.com"}, "url must be"),
        ({"url": "http://"}, "url must be"),
        ({"url": "http://[::1"}, "url must be"),
        ({"url": "http://a:99999"}, "url must be"),
        ({"url": "http://a/" + "x" * 2048}, "url must be"),
        ({"account": "1"}, "account must be"),
        ({"region": "a.b"}, "region must be"),
        ({"secret": base64.b64encode(b"x").decode()}, "secret must be"),
        ({"pattern": {"source": "aws.ecs"}}, "source: must be an object or an array"),
        ({"pattern": []}, "Expected `object`"),
        ({"urls": []}, "unknown field"),
    ],
)
def test_what_is_no_webhook_names_the_member(members, why):
    body = json.dumps({"name": "mine", "url": "http://a", **members}).encode()
    with pytest.raises(BadWebhook, match=why):
        read(body)


def test_a_body_that_is_no_json_is_refused():
    with pytest.raises(BadWebhook):
        read(b"{")
