"""What holds for every test."""

import os
import signal

if "TESTBED" not in os.environ:  # Python is slow in the test VM, and hypothesis large
    from hypothesis import HealthCheck, settings

    pytest_plugins = ["testbed_outside"]

    # The machines are shared and at times ten times slower: an example's time says nothing.
    settings.register_profile("qorch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    # scripts/check names this one: a tenth of the examples shows at once what is broken.
    settings.register_profile("quick", settings.get_profile("qorch"), max_examples=10)
    settings.load_profile("qorch")


def pytest_configure():
    """Let children feel Ctrl-C: a shell starts its background jobs with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
