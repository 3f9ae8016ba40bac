"""Raw corpora in, clean training shards out."""

from data_pipeline.config import DataConfig
from data_pipeline.pipeline import STAGES, run_stage
from data_pipeline.run import Run
from data_pipeline.shield import Shield
from data_pipeline.stages import Machine

__all__ = ["STAGES", "DataConfig", "Machine", "Run", "Shield", "run_stage"]
