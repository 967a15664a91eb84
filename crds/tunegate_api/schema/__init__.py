"""From pydantic's types to the CustomResourceDefinitions, and checks of JSON schemas."""
