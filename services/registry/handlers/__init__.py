"""What the registry does: repositories, images, layers and pull tokens, whichever API asks for it."""
