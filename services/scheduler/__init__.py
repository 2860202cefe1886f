"""ECS: clusters, task definitions, tasks, services. Read README.md first."""
