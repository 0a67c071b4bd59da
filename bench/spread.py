"""Numbers for people: medians with their spread, percentiles, three significant digits."""

import statistics


def plain(value: float) -> str:
    """About three significant digits, never an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def spread(values: list[float], unit: str = "") -> str:
    """`median unit (lowest–highest)`, the median alone when there is one value, a dash when there is none."""
    if not values:
        return "–"
    middle = plain(statistics.median(values)) + (f" {unit}" if unit else "")
    return middle if len(values) == 1 else f"{middle} ({plain(min(values))}–{plain(max(values))})"


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that at least `percent` of a hundred do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]
