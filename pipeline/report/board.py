"""`shelfwise board`: TensorBoard on the training curves of a folder's runs.

python -m pipeline.report.board --run runs/complete_journey --port 6006
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from pipeline.record import RunRecord
from schema.errors import UserError

FOLDER = "tensorboard"  # in a run's folder: <start>/<trainer>/{training,held_out}/


def publish(record: RunRecord, run_dir: Path, stamp: str) -> None:
    """Copies the trainers' event files into the run's folder, where the artifacts' ids say nothing.

    Args:
      record: the run.
      run_dir: its folder.
      stamp: when it started, see `history.stamp`.
    """
    for node in record.nodes.values():
        artifact = node.first("model_run")
        for path in artifact.path.glob("*/*.tfevents.*") if artifact else []:
            target = run_dir / FOLDER / stamp / node.id / path.parent.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.name)


def command(run_dir: Path, more: list[str]) -> list[str]:
    """What starts TensorBoard on a run's folder.

    Args:
      run_dir: folder of a pipeline's runs.
      more: arguments of TensorBoard.

    Raises:
      UserError: there is no curve, or TensorBoard is not installed.
    """
    folder = run_dir / FOLDER
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no training curves; give the folder of a run that trained a model, e.g. "
            "runs/complete_journey"
        )
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "TensorBoard is not installed: TensorFlow brings it no longer; run "
            f"`{sys.executable} -m pip install tensorboard`, or start one of your own on {folder}"
        )
    return [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), *more]


def main(argv: list[str] | None = None, *, prog: str = "python -m pipeline.report.board") -> int:
    """The command, called `prog` in its help; becomes TensorBoard, or returns the exit status 1."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Starts TensorBoard on the training curves of a folder's runs.",
        epilog="Other arguments, such as --port, are TensorBoard's.",
    )
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="folder of the runs, e.g. runs/complete_journey"
    )
    args, more = parser.parse_known_args(argv)
    try:
        arguments = command(Path(args.run), more)
        os.execv(arguments[0], arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
