"""The records of the autoscaler and of others, and what it asks of other services."""
