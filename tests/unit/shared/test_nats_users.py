"""Users that identity signs: read back as nats-server reads them."""

import base64
import binascii
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from contracts.grants import node_permissions
from services.shared.nats_users import Issuer, Login, read_login
from services.shared.views import matches


def part(data: bytes) -> bytes:
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


def verified(token: bytes, issuer: str) -> dict:
    """The claims, if the key that `issuer` names has signed them."""
    raw = base64.b32decode(issuer + "=" * (-len(issuer) % 8))
    assert binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") == raw[-2:]
    body, _, signature = token.rpartition(b".")
    Ed25519PublicKey.from_public_bytes(raw[1:-2]).verify(part(signature), body)
    return json.loads(part(body.split(b".")[1]))


def question(**options) -> bytes:
    nats = {"server_id": {"id": "NSERVER"}, "user_nkey": "UCONNECTION", "connect_opts": options, "type": "x"}
    parts = ({"typ": "JWT"}, {"nats": nats, "iss": "NSERVER"})
    return b".".join([*(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts), b"c2ln"])


def test_a_login_is_read_and_what_is_none_is_a_value_error():
    login = read_login(question(**{"user": "mi-1", "pass": "s", "lang": "python3"}))
    assert (login.connect_opts.user, login.connect_opts.password) == ("mi-1", "s")
    for wrong in (b"", b"a.b", b"a.!!.c", b"a.e30.c"):
        with pytest.raises(ValueError):
            read_login(wrong)


def test_an_admission_is_signed_for_this_server_and_connection_with_the_node_s_permissions():
    issuer, login = Issuer("secret"), read_login(question(user="mi-1"))
    answer = verified(issuer.admit(login, node_permissions("mi-1", "1", "eu-west-1"), 5.0), issuer.public)
    assert (answer["aud"], answer["sub"], answer["iss"]) == ("NSERVER", "UCONNECTION", issuer.public)
    user = verified(answer["nats"]["jwt"].encode(), issuer.public)
    assert (user["sub"], user["aud"], user["name"]) == ("UCONNECTION", "$G", "mi-1")
    hears = ["_INBOX.mi-1.>", "exec.open.mi-1", "exec.attach.mi-1.*", "exec.in.mi-1.*"]
    assert user["nats"]["sub"] == {"allow": hears}
    assert user["nats"]["resp"] == {"max": 1, "ttl": 60_000_000_000}
    assert "exec.out.mi-1.*" in user["nats"]["pub"]["allow"]
    assert "state.agent.node.mi-1" in user["nats"]["pub"]["allow"]


def test_a_refusal_has_no_user_in_it():
    issuer = Issuer("secret")
    login = Login(server_id=read_login(question()).server_id, user_nkey="U")
    assert verified(issuer.refuse(login, "no", 5.0), issuer.public)["nats"].keys() == {"error", "type", "version"}


def test_another_secret_is_another_issuer():
    one, other = Issuer("secret"), Issuer("other")
    assert one.public == Issuer("secret").public != other.public
    with pytest.raises(InvalidSignature):
        verified(one.refuse(read_login(question()), "no", 5.0), other.public)


def test_a_node_may_say_nothing_of_another_node_or_account():
    allowed = node_permissions("mi-1", "1", "eu-west-1")["publish"]["allow"]
    others = (
        "state.agent.node.mi-2",
        "state.agent.task_status.1.eu-west-1.main.mi-2.t",
        "state.agent.task_status.2.eu-west-1.main.mi-1.t",
        "heartbeat.agent.mi-2",
        "metrics.agent.mi-2",
        "logs.2.eu-west-1.g.s",
        "rpc.identity.issue_session",
        "node.mi-2.rpc.identity.issue_session",
        "node.mi-1.rpc.identity.register_node",
        "$JS.API.CONSUMER.CREATE.STATE_SCHEDULER.v.state.scheduler.task.>",
        "$JS.API.CONSUMER.CREATE.STATE_SCHEDULER.v.state.scheduler.task.*.*.*.mi-2.*",
        "$JS.API.CONSUMER.CREATE.STATE_IDENTITY.v.state.identity.access_key.>",
        "$JS.API.CONSUMER.DELETE.STATE_SCHEDULER.v",
        "$JS.API.DIRECT.GET.STATE_SCHEDULER.state.scheduler.task_definition.2.eu-west-1.web.1",
        "exec.open.mi-1",
        "_INBOX.agent.x",
    )
    assert [subject for subject in others if any(matches(pattern, subject) for pattern in allowed)] == []
