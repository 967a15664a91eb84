"""What a controller of any kind needs to run Jobs of its own."""
