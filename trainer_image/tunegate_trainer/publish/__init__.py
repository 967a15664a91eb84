"""Publishing a version: its evidence, its history and its target."""
