"""Ask a judge model for the scores of rows: those that people scored, and the review sample.

:mod:`review` is the entry point. :mod:`calibration` reads the rows that people scored, :mod:`instructions`
writes the requests, :mod:`server` sends one request, :mod:`answer` parses its answer, :mod:`scoring` does
this for many rows with retries, and :mod:`journal` keeps the answers on the volume.
"""
