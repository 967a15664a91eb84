"""The types that are the API, and everything operator and trainer must agree on. No I/O."""

__version__ = "0.1.0"
GROUP = "tunegate.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
