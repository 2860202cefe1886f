"""Application Auto Scaling: the desired count of ECS services under load, and on schedule."""
