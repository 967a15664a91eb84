"""Ask a model on an OpenAI-compatible server.

:mod:`chat_server` sends one request, :mod:`asking` sends many, with retries, limits and a deadline, and
:mod:`faults` has the kinds of failed requests.
"""
