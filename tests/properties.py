"""How much Hypothesis tries: the same examples in every build, or, for `make explore`, many more and other ones.

In a build nothing is left to chance, so that a red one can be repeated and a change that is not at fault stays green.
What nobody has thought of yet is looked for by `make explore`, which sets EXPLORE to the number of times as many
examples; Hypothesis then prints how to repeat what it found, and keeps it in .hypothesis.
"""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("EXPLORE", "0"))
DEFAULT_EXAMPLES = 100

settings.register_profile(
    "build",
    # A slow machine is no failure.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=DEFAULT_EXAMPLES,
    derandomize=True,
)
settings.register_profile(
    "explore",
    settings.get_profile("build"),
    max_examples=DEFAULT_EXAMPLES * (TIMES or 1),
    derandomize=False,
    print_blob=True,
)


def examples(count: int) -> int:
    """So many in a build, a multiple of it when exploring; for `@settings(max_examples=…)`."""
    return count * (TIMES or 1)
