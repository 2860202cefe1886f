"""What the registry decides, as pure functions: names, manifests, tokens, ranges and pages."""
