"""Data sets with known faults, built from text that was not written for this purpose.

``corpus`` gathers the text, ``clean`` builds data sets without a fault, and the other modules add one kind of
fault each and return which lines have it.
"""
