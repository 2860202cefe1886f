"""The agent: one per node. Runs tasks through a container runtime and reports what became of them."""
