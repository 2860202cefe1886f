"""Cloud Map: namespaces, services, instances, and the names they have in the DNS."""
