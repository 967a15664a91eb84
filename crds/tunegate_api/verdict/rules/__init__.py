"""The rules, one a file. Each is an implementation of :class:`tunegate_api.verdict.core.Rule`."""
