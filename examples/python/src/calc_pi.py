import random


def calc_pi(samples):
    """Throws darts one at a time: all of it is Python."""
    hits = 0
    for _ in range(samples):
        x = random.uniform(-1, 1)
        y = random.uniform(-1, 1)
        if x * x + y * y < 1:
            hits += 1
    return 4 * hits


def calc_pi_numpy(samples, portion=50_000):
    """Throws as many darts at once as fit the cache: what Python calls does the work, in C."""
    import numpy

    rng = numpy.random.default_rng()
    hits = 0
    for thrown in range(0, samples, portion):
        x, y = rng.uniform(-1, 1, (2, min(portion, samples - thrown)))
        hits += int(numpy.count_nonzero(x * x + y * y < 1))
    return 4 * hits
