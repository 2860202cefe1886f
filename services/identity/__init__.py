"""Identity: accounts' access keys and tasks' sessions. Who a caller is, for every door of the platform."""
