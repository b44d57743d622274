"""Random numbers of the tests. conftest.py sets them back before each test; pytest imports that file a second time."""

import numpy as np

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state
