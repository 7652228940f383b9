"""Files as the containers see them, told from a machine that may not see them itself."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from schema.config import Config
from schema.errors import ConfigError

_ROOT = Path(__file__).resolve().parent.parent


def as_in_image(config: Config) -> Config:
    """The configuration with the schema folder's path inside the image.

    Raises:
      ConfigError: the folder is not part of the project, so the image does not hold it, or it
        lacks a schema.
    """
    folder = config.schema_dir
    image = PurePosixPath(config.kubeflow.project_dir)
    if "://" in folder or PurePosixPath(folder).is_relative_to(image):
        return config
    here = Path(folder).resolve()
    if not here.is_relative_to(_ROOT):
        raise ConfigError(
            f"schema_dir: {folder} lies outside of {_ROOT}, which is what the image holds; "
            f"move it there, or give a URL or a path below kubeflow.project_dir ({image})"
        )
    for table in ("items", "events", "users"):
        if getattr(config, table) is not None and not (here / f"{table}.pbtxt").is_file():
            raise ConfigError(f"schema_dir: {folder} has no {table}.pbtxt; add the reviewed schema")
    return config.model_copy(update={"schema_dir": str(image / here.relative_to(_ROOT).as_posix())})


def check_places(config: Config) -> None:
    """Looks at the paths of the shop's files, which the compiling machine need not reach.

    Raises:
      ConfigError: a relative path, which means nothing in a container.
    """
    paths = {
        f"{name}.path": section.path
        for name in ("items", "events", "users", "exposures")
        if (section := getattr(config, name)) is not None
    }
    if config.search.judgements is not None:
        paths["search.judgements.path"] = config.search.judgements.path
    if config.data.root.startswith("package:"):
        return
    for key, path in paths.items():
        full = config.data.resolve(path)
        if "://" not in full and not PurePosixPath(full).is_absolute():
            raise ConfigError(
                f"{key}: {full} is a path on this machine, which the containers do not see; set data.root to "
                "a URL, to package:<python package>/<folder> or to an absolute path mounted in the containers"
            )
