"""What users' own tests start: a platform of this machine, or one in a container. Users import `roadstead.testing`."""
