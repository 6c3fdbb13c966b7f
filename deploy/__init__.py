"""Programs for running the hub in containers; part of the image, imported by nothing."""
