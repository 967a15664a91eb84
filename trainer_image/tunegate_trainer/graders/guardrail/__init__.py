"""Ask a guardrail whether answers are safe.

:mod:`guard` is the entry point. :mod:`protocols` has the requests and the output formats of each kind of
guardrail, and :mod:`probes` the answers with which a guardrail is probed.
"""
