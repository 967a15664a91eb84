"""Convert evaluation cases of other tools to golden cases. A case is carried over exactly, or reported."""
