"""Ask a judge model for scores: of the review sample, of outputs of golden cases, and of safety cases.

:mod:`instructions` writes the requests, :mod:`row_request` sends one, and :mod:`answer` parses an answer.
:mod:`calibration` reads the rows that people scored, with which a judge is tested; :mod:`compliance` has the
probes of the judge of a safety set. :mod:`review` and :mod:`gates` are the entry points.
"""
