"""Fast back-ends of the PRF. Each gives exactly the bits of :mod:`watermarks.prf`."""
