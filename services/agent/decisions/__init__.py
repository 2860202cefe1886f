"""What the agent decides, without I/O: what a task definition means here, what to do with what is found, how a
task's state follows from its containers'."""
