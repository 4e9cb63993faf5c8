"""What holds for every test."""

from hypothesis import HealthCheck, settings

# The machines are shared and at times ten times slower: an example's time says nothing.
settings.register_profile("qorch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qorch")
