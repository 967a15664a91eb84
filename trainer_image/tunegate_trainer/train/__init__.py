"""The train role: one stage, from its starting weights to its last checkpoint, evaluated on the way."""
