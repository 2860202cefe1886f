"""`make demo`: the main job from nothing, each step with its time.

A real image is pushed by skopeo, runs as real containers through the real AWS APIs (boto3), and is kept running: a
container is killed and replaced, a new version rolled out while requests are answered, and the platform itself is
killed and comes back to its running tasks. Everything lies under build/demo and is gone afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.builders.images import File, busybox_image  # noqa: E402
from tests.builders.platform import FARGATE, Roadstead, skopeo_push, until  # noqa: E402

DATA = ROOT / "build" / "demo"
BEGAN = time.monotonic()


@contextmanager
def step(text: str) -> Iterator[Callable[[str], None]]:
    """One step of the demo: its line before, what it found and its time after."""
    print(f"\n\033[1m▸ {text}\033[0m" if sys.stdout.isatty() else f"\n> {text}", flush=True)
    started = time.monotonic()
    yield lambda line: print(f"    {line}", flush=True)
    print(f"    {time.monotonic() - started:.2f} s", flush=True)


def push(platform: Roadstead, version: str) -> str:
    """Build version `version` of the shop and push it with skopeo; the image's URI."""
    page = f"<h1>the shop, version {version}</h1>\n"
    start = "#!/bin/sh\necho shop starts, version $VERSION\nexec httpd -f -v -p 8080 -h /www\n"
    files = {"/www/index.html": File(page), "/start": File(start, mode=0o755)}
    image = busybox_image(files, command=["/start"], environment={"VERSION": version})
    return skopeo_push(platform, image, "shop", version)


def register(platform: Roadstead, uri: str) -> str:
    """A task definition for this image; its ARN."""
    definition = {
        "family": "shop",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [
            {
                "name": "web",
                "image": uri,
                "essential": True,
                "portMappings": [{"containerPort": 8080}],
                "stopTimeout": 2,
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {
                        "awslogs-group": "/demo/shop",
                        "awslogs-region": "us-east-1",
                        "awslogs-stream-prefix": "shop",
                        "awslogs-create-group": "true",
                    },
                },
            }
        ],
    }
    answer = platform.client("ecs").register_task_definition(**definition)
    return answer["taskDefinition"]["taskDefinitionArn"]


def running(platform: Roadstead) -> list[dict[str, Any]]:
    """The running tasks of the service."""
    ecs = platform.client("ecs")
    arns = ecs.list_tasks(cluster="demo", serviceName="shop")["taskArns"]
    found = ecs.describe_tasks(cluster="demo", tasks=arns)["tasks"] if arns else []
    return [task for task in found if task["lastStatus"] == "RUNNING"]


def address(task: dict[str, Any]) -> str:
    """The task's own IP."""
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    return details["privateIPv4Address"]


def fetch(ip: str) -> str:
    """The page that a task serves."""
    with urllib.request.urlopen(f"http://{ip}:8080/", timeout=2) as answer:
        return answer.read().decode().strip()


def answer(ip: str) -> str:
    """The page, waited for: RUNNING is the container, its server listens a moment later."""

    def asked() -> str:
        try:
            return fetch(ip)
        except OSError:
            return ""

    return until(asked, 10)


def process_of(ip: str) -> int:
    """The process that serves at this address: the one whose network has it."""
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and b"httpd" in (entry / "cmdline").read_bytes()
                and (f" {ip}\n" in (entry / "net" / "fib_trie").read_text())
            ):
                return int(entry.name)
        except OSError:
            continue
    raise SystemExit(f"demo: no process has the address {ip}")


def show(say: Callable[[str], None], tasks: list[dict[str, Any]]) -> None:
    """A line a task."""
    for task in sorted(tasks, key=lambda t: t["availabilityZone"]):
        say(f"{task['taskArn'][-8:]}  {task['availabilityZone']}  {address(task):<14} {answer(address(task))}")


def replaced(platform: Roadstead, say: Callable[[str], None]) -> None:
    """Kill a container and see another in its place."""
    before = {task["taskArn"] for task in running(platform)}
    victim = running(platform)[0]
    killed = time.monotonic()
    os.kill(process_of(address(victim)), signal.SIGKILL)
    new = until(lambda: [t for t in running(platform) if t["taskArn"] not in before])
    after_ms = (time.monotonic() - killed) * 1000
    say(f"{victim['taskArn'][-8:]} was killed; {new[0]['taskArn'][-8:]} runs {after_ms:.0f} ms later")
    until(lambda: len(running(platform)) == 3)


def rolled_out(platform: Roadstead, say: Callable[[str], None]) -> None:
    """A new version, while a client keeps asking."""
    done, answers = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(fetch(address(running(platform)[0])))
            except OSError:
                answers.append("")

    asking = threading.Thread(target=ask)
    asking.start()
    definition = register(platform, push(platform, "2"))
    ecs = platform.client("ecs")
    ecs.update_service(cluster="demo", service="shop", taskDefinition=definition)
    waiter = ecs.get_waiter("services_stable")
    waiter.wait(cluster="demo", services=["shop"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    done.set()
    asking.join()
    say(f"{len(answers)} requests meanwhile, {answers.count('')} unanswered")


def survived(platform: Roadstead, say: Callable[[str], None]) -> None:
    """kill -9 of the platform: its tasks go on, and it comes back to them."""
    before = {task["taskArn"]: address(task) for task in running(platform)}
    platform.kill()
    say(f"the platform was killed; the tasks answer: {sorted({answer(ip) for ip in before.values()})[0]}")
    platform.up()
    after = {task["taskArn"] for task in until(lambda: len(running(platform)) == 3 and running(platform))}
    say(f"up again: {len(after & set(before))} of {len(before)} tasks adopted")


def tell_story(platform: Roadstead) -> None:
    """What the platform recorded of all this."""
    with step("What it recorded") as say:
        for event in reversed(
            platform.client("ecs").describe_services(cluster="demo", services=["shop"])["services"][0]["events"][:6]
        ):
            say(f"event  {event['message']}")
        logs = platform.client("logs")
        stream = logs.describe_log_streams(logGroupName="/demo/shop")["logStreams"][0]["logStreamName"]
        for line in logs.get_log_events(logGroupName="/demo/shop", logStreamName=stream, startFromHead=True)["events"][
            :2
        ]:
            say(f"log    {line['message']}")
    with step("One trace: from RunTask to a running container, through every service") as say:
        trace = traced(platform)
        for line in platform.command("trace", trace, check=False).splitlines():
            say(line)


def traced(platform: Roadstead) -> str:
    """Run a task under a trace id of our own; the id."""
    trace = os.urandom(16).hex()
    ecs = platform.client("ecs")

    def carry(request: Any, **_: Any) -> None:
        request.headers["traceparent"] = f"00-{trace}-{os.urandom(8).hex()}-01"

    ecs.meta.events.register("before-send.ecs.RunTask", carry)
    task = ecs.run_task(cluster="demo", taskDefinition="shop", **FARGATE)["tasks"][0]["taskArn"]
    status = lambda: ecs.describe_tasks(cluster="demo", tasks=[task])["tasks"][0]["lastStatus"]  # noqa: E731
    until(lambda: status() == "RUNNING")
    until(lambda: "container" in platform.command("trace", trace, check=False))
    ecs.stop_task(cluster="demo", task=task)
    return trace


def run(platform: Roadstead) -> None:
    """The whole story."""
    with step("Start the platform: every service, NATS, three zones; no Docker daemon") as say:
        platform.up()
        say(f"AWS APIs http://127.0.0.1:{platform.port}, registry localhost:{platform.info['registry_port']}")
    with step("Push a real image with a real client (skopeo)") as say:
        platform.client("ecr").create_repository(repositoryName="shop")
        uri = push(platform, "1")
        say(uri)
    with step("Run it: an ECS service of three tasks, spread over the zones (boto3)") as say:
        ecs = platform.client("ecs")
        ecs.create_cluster(clusterName="demo")
        ecs.create_service(
            cluster="demo",
            serviceName="shop",
            taskDefinition=register(platform, uri),
            desiredCount=3,
            **FARGATE,
        )
        until(lambda: len(running(platform)) == 3)
        show(say, running(platform))
    with step("Kill a container (kill -9)") as say:
        replaced(platform, say)
    with step("Roll out version 2 while a client keeps asking") as say:
        rolled_out(platform, say)
        show(say, running(platform))
    with step("Kill the platform (kill -9) and start it again") as say:
        survived(platform, say)
        show(say, running(platform))
    tell_story(platform)
    with step("Stop: no process, no network, no mount is left") as say:
        for line in platform.command("down", "--tasks").splitlines():
            say(line)


def main() -> None:
    """Run the story; whatever happens, leave nothing behind."""
    if os.geteuid() != 0:
        sys.exit("The demo starts real containers, which takes root: sudo make demo")
    platform = Roadstead(port=0, data=DATA)
    if DATA.exists():
        platform.command("down", "--tasks", check=False)
        shutil.rmtree(DATA)
    DATA.mkdir(parents=True)
    try:
        run(platform)
    finally:
        platform.command("down", "--tasks", check=False)
        shutil.rmtree(DATA, ignore_errors=True)
    print(f'\nDone in {time.monotonic() - BEGAN:.1f} s. Yours: make up, then eval "$(.venv/bin/roadstead env)"')


if __name__ == "__main__":
    main()
