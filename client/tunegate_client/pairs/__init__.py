"""Preference pairs from completions that people rank: files, rules, agreement, and the ranking session."""
