"""What changes services: the writes that the API, events and controllers share."""
