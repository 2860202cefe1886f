"""`make demo`: the whole story on this machine, each step with what happens and how long it took.

A shop of two services is pushed, scanned, kept from running while it has a critical finding, deployed, found by name,
served over HTTPS, killed and replaced, moved out of a lost zone, scaled out by load and back, and deployed again by a
push alone; one trace shows the way of that push through every service. Real containers, real clients, no Docker daemon.
Everything lies under build/demo and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from examples.shop.deployment import NAME, Shop, address, processes_of  # noqa: E402
from services.testing.platform import CLI  # noqa: E402
from tests.builders.platform import Roadstead, until  # noqa: E402

DATA = ROOT / "build" / "demo"
BEGAN = time.monotonic()
LOST = "us-east-1c"
Say = Callable[[str], None]

HURRY = {
    "ROADSTEAD_APP_RUNNER_GATEWAY_SCALE_IN_S": "4",
    "ROADSTEAD_AUTOSCALER_SCALE_IN_WINDOW_S": "10",
    "ROADSTEAD_AGENT_USAGE_S": "5",
    "ROADSTEAD_SCHEDULER_NODE_SILENCE_S": "6",
}
"""Scaling in waits a minute and more, so that it does not flutter, and a silent node is waited for: not in a demo."""


@contextmanager
def step(text: str) -> Iterator[Say]:
    """One step of the demo: its line before, what it found and its time after."""
    bold, normal = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}▸ {text}{normal}", flush=True)
    started = time.monotonic()
    yield lambda line: print(f"    {line}", flush=True)
    print(f"    {time.monotonic() - started:.1f} s", flush=True)


@contextmanager
def node(platform: Roadstead) -> Iterator[subprocess.Popen[str]]:
    """The third zone, in a process of its own, so that it can be lost."""
    command = [*CLI, "node", "--zone", LOST, "--data", str(platform.data)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if "is a node" not in (process.stdout.readline() if process.stdout else ""):
            raise SystemExit(f"demo: the node of {LOST} did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


def scanned(shop: Shop, say: Say) -> None:
    """Findings of both images, and the gate at work."""
    for name in ("backend", "frontend"):
        found = shop.findings(name, "1.0")
        counts = found["findingSeverityCounts"]
        say(f"{name}:1.0  " + (", ".join(f"{n} {severity}" for severity, n in counts.items()) or "no findings"))
        for finding in found["findings"][:2]:
            facts = {a["key"]: a["value"] for a in finding.get("attributes", ())}
            package = f"{facts.get('package_name', '')} {facts.get('package_version', '')}"
            say(f"    {finding['name']}  {finding['severity']}  {package}")
    shop.platform.command("gate", "set", "--severity", "CRITICAL")
    say("the gate is set: images with critical findings do not run")


def killed(shop: Shop, say: Say) -> None:
    """kill -9 of a task's processes; another one takes its place."""
    victim, before = shop.running()[0], {t["taskArn"] for t in shop.running()}
    began = time.monotonic()
    for pid in processes_of(victim):
        os.kill(pid, signal.SIGKILL)
    new = until(lambda: [t for t in shop.running() if t["taskArn"] not in before])
    after_ms = (time.monotonic() - began) * 1000
    after_ms = (time.monotonic() - began) * 1000
    say(f"{victim['taskArn'][-8:]} was killed; {new[0]['taskArn'][-8:]} runs {after_ms:.0f} ms later")
    until(lambda: shop.names() == sorted(address(t) for t in shop.running()) and len(shop.running()) == 3)
    say(f"{NAME} is {', '.join(shop.names())}")


def zones(shop: Shop) -> list[str]:
    """The zones of the backend's running tasks."""
    return [task["availabilityZone"] for task in shop.running()]


def zone_lost(shop: Shop, process: subprocess.Popen[str], say: Say) -> None:
    """The third zone without power: its node and all that ran on it."""
    gone = [task for task in shop.running() if task["availabilityZone"] == LOST]
    process.kill()
    for pid in (pid for task in gone for pid in processes_of(task)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    say(f"{LOST} is gone, with {len(gone)} of 3 backends")
    began = time.monotonic()
    moved = until(lambda: (now := zones(shop)) and len(now) == 3 and LOST not in now and now, 60)
    say(f"three backends again after {time.monotonic() - began:.1f} s, in {', '.join(moved)}")
    say(f"the shop: {shop.version()}")


@contextmanager
def load(shop: Shop, path: str, clients: int) -> Iterator[list[str]]:
    """Clients that ask again and again; what was answered, "" for a request that failed."""
    done, answers = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(shop.get(path))
            except (OSError, http.client.HTTPException):
                answers.append("")

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def scaled(shop: Shop, say: Say) -> None:
    """Six clients with a slow question each: four instances; nobody: one. The backend, by its processor time."""
    scaling = shop.platform.client("application-autoscaling")
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": "service/shop/backend",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=2, MaxCapacity=5)
    scaling.put_scaling_policy(
        **target,
        PolicyName="processor",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 30.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            "ScaleOutCooldown": 2,
            "ScaleInCooldown": 2,
        },
    )
    began = time.monotonic()
    with load(shop, "/report", 8) as answers:
        until(lambda: shop.instances() >= 3, 60, every=0.1)
        say(f"frontend: {shop.instances()} instances after {time.monotonic() - began:.1f} s (at most 2 requests each)")
        until(lambda: len(shop.running()) > 3, 60, every=0.1)
        say(
            f"backend: {len(shop.running())} tasks after {time.monotonic() - began:.1f} s (30 % of its processor share)"
        )
    say(f"{len(answers)} requests, {answers.count('')} failed")
    began = time.monotonic()
    until(lambda: shop.instances() == 1 and len(shop.running()) == 2, 60, every=0.1)
    say(f"the load is gone: 1 instance, 2 tasks after {time.monotonic() - began:.1f} s")
    activity = scaling.describe_scaling_activities(**target)["ScalingActivities"][-1]
    say(f"why: {activity['Cause']}")


def deployed_by_push(shop: Shop, say: Say) -> None:
    """A push is all it takes; nobody who asks meanwhile notices."""
    began = time.monotonic()
    with load(shop, "/", 2) as answers:
        shop.release("1.2")
        until(lambda: "version 1.2" in shop.version(), 60)
        took = time.monotonic() - began
        until(lambda: shop.status() == "RUNNING", 60)
    say(f"served {took:.1f} s after the push began: {shop.version()}")
    say(f"{len(answers)} requests meanwhile, {answers.count('')} failed")


def run(platform: Roadstead) -> None:
    """The whole story."""
    with step("Start the platform: every service, NATS, two zones; a third joins as a process of its own") as say:
        platform.up("--zones", "2", "--https-port", "0")
        say(f"AWS APIs http://127.0.0.1:{platform.port}, registry {platform.registry}")
        platform.command("advisories", "import", str(ROOT / "examples" / "shop" / "advisories"))
    with node(platform) as third:
        tell(Shop(platform), third)
    with step("Stop: no process, no network, no mount is left") as say:
        for line in platform.command("down", "--tasks").splitlines():
            say(line)


def tell(shop: Shop, third: subprocess.Popen[str]) -> None:
    """What happens to the shop."""
    with step("Push its two images with a real client (skopeo)") as say:
        for name in ("backend", "frontend"):
            say(shop.push(name, "1.0"))
    with step("They are scanned, layer by layer, as they come in") as say:
        scanned(shop, say)
    with step("The backend: an ECS service of three tasks over three zones, found by name") as say:
        shop.deploy_backend(3)
        for task in shop.running():
            say(f"{task['taskArn'][-8:]}  {task['availabilityZone']}  {address(task)}")
        say(f"{NAME} is {', '.join(shop.names())}")
    with step("The frontend's version 1.0 is kept from running; 1.1 has no such finding") as say:
        say(shop.refusal("frontend", "1.0"))
        shop.release("1.1")
        say(f"pushed {shop.push('frontend', '1.1')}")
    with step("The frontend: an App Runner service behind HTTPS") as say:
        shop.deploy_frontend("1.1")
        say(f"curl --cacert $(roadstead ca) {shop.url}")
        say(f"the shop: {shop.version()}")
    with step("A task is killed (kill -9)") as say:
        killed(shop, say)
    with step("A zone is lost") as say:
        zone_lost(shop, third, say)
    with step("Load comes, and goes") as say:
        scaled(shop, say)
    with step("Version 1.2 is pushed, while clients keep asking") as say:
        deployed_by_push(shop, say)
    with step("One trace, from that push to the first answered request") as say:
        for line in shop.platform.command("trace", shop.push_trace()).splitlines():
            say(line)


def main() -> None:
    """Run the story; whatever happens, leave nothing behind."""
    if os.geteuid() != 0:
        sys.exit("The demo starts real containers, which takes root: sudo make demo")
    os.environ.update(HURRY)
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
