"""The shipped configurations, and the resolution of names and paths of configurations."""

from pathlib import Path

from nllb.errors import ConfigError, did_you_mean


def configs_dir() -> Path:
    """Return the folder of the shipped configurations (in the wheel, or in a checkout)."""
    packaged = Path(__file__).parents[1] / "_configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


def find_config(name_or_path: str | Path, kind: str | None = None) -> Path:
    """Resolve a path, or the name of a shipped configuration (`tiny`, `lid/tiny`).

    Args:
        name_or_path: a path or a name.
        kind: search only the shipped configurations in this folder of `configs/`.

    Raises:
        ConfigError: there is no such file, or the name is ambiguous; it lists the shipped names.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    root = configs_dir()
    shipped = sorted(root.glob(f"{kind or '*'}/*.yaml"))
    name = str(name_or_path).removesuffix(".yaml")
    found = [p for p in shipped if name in {p.stem, f"{p.parent.name}/{p.stem}"}]
    if len(found) == 1:
        return found[0]
    names = [p.stem if kind else f"{p.parent.name}/{p.stem}" for p in shipped]
    if found:
        listed = ", ".join(f"{p.parent.name}/{p.stem}" for p in found)
        raise ConfigError(
            f"{name!r} is the name of {len(found)} configurations: {listed}; choose one of these"
        )
    near = did_you_mean(name, names)
    listed = "" if near else f"; the shipped names are {', '.join(names) or 'none'}"
    raise ConfigError(
        f"no configuration {str(name_or_path)!r}: it is neither a file nor a shipped name"
        f"{near}{listed}"
    )


def config_kind(name_or_path: str | Path) -> str:
    """Return the kind of run that a configuration file describes, its `kind` key."""
    from .yaml_tree import YamlTree

    path = find_config(name_or_path)
    kind = YamlTree.read(path).data().get("kind")
    if not isinstance(kind, str):
        raise ConfigError(f"{path}: the key `kind:`, which names the kind of run, is missing")
    return kind
