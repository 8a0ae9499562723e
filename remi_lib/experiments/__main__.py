"""python -m remi_lib.experiments COMMAND, where the command is

check --profile cpu          all parameter files, against the notebooks and the rules
run 01_drift --profile cpu   build/cpu/01_drift.ipynb and the artifacts it publishes
pages --profile cpu          build/cpu/*.ipynb -> figures/cpu/html
refresh                      executed cpu notebooks -> notebooks/
clean                        metadata of notebooks/ only; 1 if a file changed
data                         CIFAR-10, CIFAR-100 and MNIST -> data/, verified by checksum

Here the machinery of any replication is handed what this paper's needs: rules and device.
"""

from __future__ import annotations

import argparse
import sys

from remi_lib.experiments.rules import RULES, device_of
from remi_lib.paths import data_dir, project_root
from remi_lib.replication import notebooks
from remi_lib.replication.parameters import ParameterError, check

COMMANDS = ("check", "run", "pages", "refresh", "clean", "data")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; 2 for parameters at fault, 1 for any other error."""
    parser = argparse.ArgumentParser(
        prog="python -m remi_lib.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("name", nargs="?", help="a notebook, e.g. 01_drift")
    parser.add_argument("--profile", default="cpu", help="a folder of params/ (default: cpu)")
    options = parser.parse_args(arguments)
    try:
        return _do(options.command, options.name, options.profile)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        what = options.name or options.command
        print(f"error: {what}: {notebooks.last_line(error)}", file=sys.stderr)
        return 1


def _do(command: str, name: str | None, profile: str) -> int:
    if command == "data":
        return data()
    if command == "pages":
        from remi_lib.replication import pages

        print(pages.render(profile) / pages.INDEX)
        return 0
    if command == "refresh":
        notebooks.refresh(profile)
        return 0
    if command == "clean":
        return int(bool(notebooks.clean()))
    root = project_root()
    files = sorted((root / "params" / profile).glob("*.yaml"))
    if not files:
        raise ParameterError(f"params/{profile}: no such profile")
    for each in [name] if name else [file.stem for file in files]:
        check(*notebooks.sources(root, each, profile), RULES)
        if command == "run":
            notebooks.run(each, profile, RULES, device_of)
    return 0


def data() -> int:
    """Fetch the image archives that are missing, and verify all; 1 if one cannot be had."""
    from remi_lib._torchvision import datasets
    from remi_lib.images import load_images

    failed = 0
    for kind in (datasets.CIFAR10, datasets.CIFAR100, datasets.MNIST):
        name = kind.__name__.lower()
        try:
            kind(str(data_dir()), download=True)
            images = load_images(name)
            print(f"{name}: {len(images.train_y)} + {len(images.test_y)} images, verified")
        except (OSError, RuntimeError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
