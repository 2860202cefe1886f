"""What the gateway needs from outside: records, HAProxy, certificates, checks."""
