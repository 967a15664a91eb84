"""Build the CustomResourceDefinitions from the pydantic types."""
