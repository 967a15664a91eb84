"""Write durations for people."""

_MINUTE, _HOUR = 60, 3600


def duration_text(seconds: float) -> str:
    """Format a duration as ``2 h 05 min``, ``3 min 20 s`` or ``12 s``. A negative duration counts as 0."""
    whole = max(0, round(seconds))
    if whole >= _HOUR:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s" if whole >= _MINUTE else f"{whole} s"
