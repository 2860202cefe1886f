"""What every service stands on: bus, state, leases, AWS protocol server, HTTP, telemetry, settings, clock, runner.

No word of a domain lives here: nothing of tasks, images or services.
"""
