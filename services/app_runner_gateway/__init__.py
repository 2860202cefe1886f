"""App Runner: services from images behind an HTTPS URL, deployed, balanced and scaled by requests in flight."""
