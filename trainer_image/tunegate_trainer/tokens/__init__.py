"""Rows, chats and pairs as tokens, and how likely a model finds them."""
