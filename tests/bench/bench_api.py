"""DescribeClusters and RegisterTaskDefinition, requests a second over 8 connections, against moto and ministack."""

from __future__ import annotations

from tests.bench.figures import Figure, at_least, median
from tests.bench.load import load
from tests.bench.platforms import peer
from tests.builders.platform import Endpoint, roadstead

PREFIX = "AmazonEC2ContainerServiceV20141113."
ROUNDS = 3
DEFINITION = {
    "family": "shop",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [
        {
            "name": "web",
            "image": "shop:1",
            "essential": True,
            "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
            "environment": [{"name": f"VARIABLE_{i}", "value": "x" * 20} for i in range(8)],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {"awslogs-group": "shop", "awslogs-region": "us-east-1"},
            },
        }
    ],
}


def measure(endpoint: Endpoint) -> tuple[float, float]:
    """(DescribeClusters, RegisterTaskDefinition) a second, medians of three rounds."""
    endpoint.client("ecs").create_cluster(clusterName="main")
    describe = endpoint.signed(PREFIX + "DescribeClusters", {"clusters": ["main"]})
    register = endpoint.signed(PREFIX + "RegisterTaskDefinition", DEFINITION)
    load(endpoint.port, describe, seconds=1)
    described = median([load(endpoint.port, describe, seconds=3) for _ in range(ROUNDS)])
    registered = median([load(endpoint.port, register, seconds=2) for _ in range(ROUNDS)])
    return described, registered


def run() -> list[Figure]:
    """Ours and the peers' in one run."""
    with roadstead() as ours:
        own = measure(ours)
    peers = {}
    for name in ("ministack", "moto"):
        with peer(name) as endpoint:
            peers[name] = measure(endpoint)
    figures = []
    for i, operation in enumerate(("DescribeClusters", "RegisterTaskDefinition")):
        for name, times in (("ministack", 3), ("moto", 10)):
            figures.append(at_least(f"{operation}, vs {name}", own[i], "/s", name, peers[name][i], times))
    return figures
