"""Ask a judge model for the scores of rows: those that people scored, and the review sample.

:mod:`review` is the entry point. :mod:`calibration` reads the rows that people scored, :mod:`instructions`
writes the requests, :mod:`scoring` sends them with :mod:`tunegate_trainer.graders.server`, :mod:`answer` parses an
answer, and :mod:`journal` keeps the answers on the volume.
"""
