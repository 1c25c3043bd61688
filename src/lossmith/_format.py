"""Text forms of values that several commands print."""

__all__ = ["format_duration"]


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, rounded to seconds.

    Example:
        >>> format_duration(3725), format_duration(65), format_duration(5)
        ('1 h 2 min', '1 min 5 s', '5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
