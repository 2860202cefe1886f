"""Programs that only a set-up of containers needs: NATS with the platform's users, and the making of its streams."""
