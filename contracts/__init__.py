"""What services agree on: records, events, commands, subjects, and the AWS APIs. Imports nothing of services."""
