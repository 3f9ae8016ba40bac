"""The server on a Ray cluster: `serve run ray_serve:deployment`.

Each replica is a whole server with its own queue, so that segments are still joined into batches.
Ray starts further replicas while requests wait. All replicas share the database of keys.
"""

import os

from ray import serve

from nllb.serving.app import make_app
from nllb.serving.settings import ServerSettings

settings = ServerSettings(
    models=("facebook/nllb-200-distilled-600M",),
    keys=os.environ.get("NLLB_KEYS", ""),
    require_key="NLLB_KEYS" in os.environ,
)


@serve.deployment(
    ray_actor_options={"num_cpus": 4},
    max_ongoing_requests=256,
    autoscaling_config={"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 32},
)
@serve.ingress(lambda: make_app(settings))
class Translation:
    """One replica."""


deployment = Translation.bind()
