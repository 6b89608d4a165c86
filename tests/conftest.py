"""Settings of the whole suite."""

from hypothesis import settings

# kernels are compiled at their first call: no deadline would be kept on a fresh machine
settings.register_profile("countermark", deadline=None)
settings.load_profile("countermark")
