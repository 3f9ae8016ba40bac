"""The language detector of a run: a fastText model, or the detector that ships with the package."""

from functools import lru_cache
from pathlib import Path

from nllb.config.fingerprints import file_fingerprint
from nllb.languages.detection import Detector


@lru_cache(maxsize=2)
def load_detector(model: Path | None) -> Detector:
    """Load the detector once per process."""
    import lid

    detector: Detector = lid.Detector.load(model)
    return detector


def detector_key(model: Path | None) -> str:
    """Return a hash of the model, for the keys of scores that it computes."""
    if model is not None:
        return file_fingerprint(model)
    import lid

    shipped = sorted(path for path in (Path(lid.__file__).parent / "_models").rglob("*"))
    return " ".join(file_fingerprint(path) for path in shipped if path.is_file())
