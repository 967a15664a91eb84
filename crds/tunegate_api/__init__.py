"""The API types, and everything that the operator and the trainer share. No I/O, except for the command that
writes the CustomResourceDefinitions."""

__version__ = "0.1.0"
GROUP = "tunegate.dev"
VERSION = "v1alpha2"
API_VERSION = f"{GROUP}/{VERSION}"
