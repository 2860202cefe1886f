"""The DNS on sockets, and the records of discovery and of others."""
