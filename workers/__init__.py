"""The hands: one process holds one model, and is the only one that writes to it.

Between two matrix products the threads of OpenMP spin by default, each waiting for the others.
Where anything else runs on the same cores (the API, Postgres, a second worker) they spin while the
one they wait for is not running, and a step takes many times as long. Asleep they cost nearly
nothing. It has to be said before torch is loaded, hence here; what the operator has set stays.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
