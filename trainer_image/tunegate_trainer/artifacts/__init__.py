"""The files that would be published, and the verdict on them."""
