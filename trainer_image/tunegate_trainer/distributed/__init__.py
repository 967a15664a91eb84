"""Distributed training: start the ranks of a pod, connect them, and exchange data between them."""
