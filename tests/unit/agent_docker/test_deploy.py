"""What a set-up of containers is told: secrets, users, readiness."""

from __future__ import annotations

import http.server
import runpy
import threading
from pathlib import Path

import pytest

from contracts.grants import OPERATOR, USERS
from deploy.programs import nats
from services.agent.runtimes.docker.joining import JOINS
from services.agent.runtimes.docker.runtime import NETWORK
from services.shared import healthcheck

ROOT = Path(__file__).parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
env = runpy.run_path(str(ROOT / "deploy" / "compose_env.py"))


def test_every_secret_that_compose_asks_for_is_made() -> None:
    made = env["parse"](env["complete"](COMPOSE, ""))
    users = {f"ROADSTEAD_PASSWORD_{user.upper()}" for user in (OPERATOR, *USERS)}
    assert set(made) == users | {"ROADSTEAD_ACCESS_KEY_ID", "ROADSTEAD_SECRET_ACCESS_KEY"}
    assert len(set(made.values())) == len(made)
    assert made["ROADSTEAD_ACCESS_KEY_ID"].startswith("AKIA")
    assert len(made["ROADSTEAD_ACCESS_KEY_ID"]) == 20


def test_the_gateway_of_compose_asks_to_be_on_the_network_that_agents_make() -> None:
    gateway = COMPOSE.partition("\n  app_runner_gateway:\n")[2].partition("\n\n")[0]
    assert f"\n      {JOINS}: {NETWORK}\n" in gateway


def test_what_is_there_is_kept() -> None:
    before = "# mine\nROADSTEAD_PASSWORD_EDGE=kept\nOTHER=1"
    after = env["complete"](COMPOSE, before)
    assert after.startswith(before + "\n")
    assert env["parse"](after)["ROADSTEAD_PASSWORD_EDGE"] == "kept"
    assert env["complete"](COMPOSE, after) == after


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    env["write"](tmp_path / ".env", "A=1\n")
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_the_exported_lines_point_a_client_at_the_platform() -> None:
    known = {"ROADSTEAD_ACCESS_KEY_ID": "AKIA1", "ROADSTEAD_SECRET_ACCESS_KEY": "s", "ROADSTEAD_PORT": "4567"}
    assert env["exports"](known, {"AWS_DEFAULT_REGION": "eu-west-1"}).splitlines() == [
        "export AWS_ENDPOINT_URL=http://127.0.0.1:4567",
        "export AWS_ACCESS_KEY_ID=AKIA1",
        "export AWS_SECRET_ACCESS_KEY=s",
        "export AWS_DEFAULT_REGION=eu-west-1",
    ]


def test_nats_refuses_to_start_without_a_password_for_each_user() -> None:
    given = {f"ROADSTEAD_PASSWORD_{user.upper()}": "x" for user in (OPERATOR, *USERS)}
    assert nats.passwords(given) == dict.fromkeys((OPERATOR, *USERS), "x")
    with pytest.raises(KeyError, match="ROADSTEAD_PASSWORD_EDGE"):
        nats.passwords({**given, "ROADSTEAD_PASSWORD_EDGE": ""})


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_service_is_healthy_when_it_says_so(status: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"why")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert healthcheck.main([f"http://127.0.0.1:{server.server_port}/readyz"]) == code
        thread.join()
    assert ("503 why" in capsys.readouterr().err) == (status == 503)


def test_a_service_that_is_not_there_is_not_healthy() -> None:
    assert healthcheck.main(["http://127.0.0.1:1/readyz"]) == 1
