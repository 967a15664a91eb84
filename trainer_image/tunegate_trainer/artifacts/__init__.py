"""The artifact, which is the files that would be published, and the gate's verdict on it."""
