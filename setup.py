"""Puts the base models into the package: `saved_models/bases/NAME/` of the repository becomes `textgen/bases/NAME/`.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BASES = Path("saved_models", "bases")


class BuildWithBases(build_py):
    """Copies the packages, and then the files of the bases; their checkpoints and logs stay behind."""

    def run(self) -> None:
        """Builds; an editable installation reads the bases where they are."""
        built = Path(self.build_lib, "textgen")
        if not self.editable_mode and built.exists() and not built.samefile("textgen"):  # not the source itself
            shutil.rmtree(built)  # of an earlier build, which may have files that are no longer in the source
        super().run()
        if not self.editable_mode:
            for source, target in self._bases():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Lists the files that are built."""
        outputs: list[str] = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, *(target for _, target in self._bases())]

    def _bases(self) -> list[tuple[str, str]]:
        """Each file of the bases, and where it goes."""
        files = [path for path in sorted(BASES.glob("*/*")) if path.is_file()]
        return [(str(path), str(Path(self.build_lib, "textgen", path.relative_to(BASES.parent)))) for path in files]


setup(cmdclass={"build_py": BuildWithBases})
