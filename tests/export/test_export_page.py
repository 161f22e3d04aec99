"""The programs of textgen/export/README.md, run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import model_of

from textgen.export import formats
from textgen.export.formats import FORMATS, export_model
from textgen.export.verification import model_logits
from textgen.tokenizer.tokenizer import Tokenizer

PAGE = Path(formats.__file__).with_name("README.md").read_text(encoding="utf-8")
PROGRAMS = dict(
    zip(("keras", "savedmodel", "litert"), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=False)
)
IMPORTS = {
    "keras": "import json, zipfile, keras",
    "savedmodel": "import json, tensorflow as tf",
    "litert": "import json, zipfile\nfrom ai_edge_litert.interpreter import Interpreter",
}


def test_every_format_is_in_the_table() -> None:
    assert set(FORMATS) <= set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # of Keras
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer)
    export_model(FORMATS[name], model, tmp_path / f"novel{FORMATS[name].suffix}")
    forbid = "import sys\nsys.modules['textgen'] = None\nimport numpy as np"
    code = f"{forbid}\n{IMPORTS[name]}\n{PROGRAMS[name]}np.save('logits.npy', np.ravel(logits))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    expected = model_logits(model, np.array(tokenizer.opening(), np.int32))[-1]
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)
