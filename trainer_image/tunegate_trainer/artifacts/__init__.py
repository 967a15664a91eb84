"""Build and load the artifact, and store the gate's verdict on it.

The artifact is the exact files that would be published.
"""
