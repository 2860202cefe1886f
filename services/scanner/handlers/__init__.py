"""What happens to scans, gates and advisories; one write each."""
