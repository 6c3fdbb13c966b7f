"""Python's collector of cycles, set for processes that load much once and then make many short-lived objects."""

import gc


def collect_less_garbage() -> None:
    """Spare the collector of cycles what stays: modules, models and settings are there until the end.

    A batch makes thousands of objects at once, each of which Python's own thresholds take for a reason to look through
    all that is loaded; that was a tenth of a service's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
