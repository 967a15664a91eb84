"""Rows, chats and pairs as text and tokens, and their log-probabilities under a model."""
