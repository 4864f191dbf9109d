"""`celery -A tests.load.cluster_worker worker`: a cluster's worker, its stages performed by `tests.load.performer`."""

from __future__ import annotations

from tests.load.worker import bench
from workers import celery as production

production.bench_for = bench
app = production.app
