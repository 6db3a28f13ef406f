"""What pyproject.toml cannot say: the small sample files go along in the wheel."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class WithSamples(build_py):
    """Copies data_samples/ into the package, where `stvgkit.datasets.data_samples` finds it.

    An editable install needs no copy: the folder lies beside the package.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            here = Path(__file__).resolve().parent
            to = Path(self.build_lib) / "stvgkit" / "data_samples"
            copytree(here / "data_samples", to, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithSamples})
