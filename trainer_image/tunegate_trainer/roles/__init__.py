"""The roles of a pod, one module each."""
