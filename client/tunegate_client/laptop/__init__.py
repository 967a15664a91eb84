"""A cluster on a laptop: objects are files in a folder, pods are processes."""
