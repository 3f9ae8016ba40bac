"""The languages that a model adds to the language table, read before the model is opened."""

from pathlib import Path

from .formats.settings import added_languages


def languages_of_model(name: str, *, download: bool = False) -> list[str]:
    """Return the codes of the languages in the files of a model directory or hub model.

    Args:
        name: a directory, or the name of a model, which may be missing.
        download: download a hub model that is not in the cache.

    Raises:
        CheckpointError: the settings of the model are damaged, or the download failed.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return added_languages(path)
    if path.exists() or name.count("/") != 1:
        return []
    from .hub import fetch, find_cached, is_hub_name

    if not is_hub_name(name):
        return []
    found = fetch(name) if download else find_cached(name)
    return [] if found is None else added_languages(found)
