"""The default VPC: security groups, and what else of EC2's API tells of the tasks' network."""
