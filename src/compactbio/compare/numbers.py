"""Figures as the field prints them: scores in percent with two decimals."""


def percent(score: float) -> str:
    """A score in [0, 1], or a share, as "83.42"."""
    return f"{100 * score:.2f}"


def signed(difference: float) -> str:
    """A difference in points of a percentage, "+0.31", with a true minus sign where it is below 0."""
    # Adding 0 makes a rounded -0 positive.
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def bounds(low: float, high: float) -> str:
    """An interval of scores, "[82.10, 84.55]"."""
    return f"[{percent(low)}, {percent(high)}]"


def signed_bounds(low: float, high: float) -> str:
    """An interval of differences, "[+0.40, +0.95]"."""
    return f"[{signed(low)}, {signed(high)}]"


def p_value(p: float) -> str:
    """A p-value, "0.012"; below a thousandth, "<0.001"."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
