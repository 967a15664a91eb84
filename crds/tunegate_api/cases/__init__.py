"""The formats of cases: golden and safety sets, their expectations, and probes."""
