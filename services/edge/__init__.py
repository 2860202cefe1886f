"""The edge: one endpoint for every AWS API."""
