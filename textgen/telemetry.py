"""Keeps libraries from reporting to their makers: textgen sends nothing.

A library reads the environment when it is imported, so whatever imports one of these first turns its reports off.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import cast

ONNX_RUNTIME = "ORT_DISABLE_TELEMETRY"  # else its import sends events and keeps a device id in the home folder
HUGGING_FACE = "HF_HUB_DISABLE_TELEMETRY"  # else requests name the versions of other libraries of this machine


def turn_off(variable: str) -> None:
    """Turns off the reports of a library, in this process and its children, unless the user has decided about them.

    Has no effect once the library is imported.

    Args:
        variable: The environment variable of the library.
    """
    if not os.environ.get(variable):
        os.environ[variable] = "1"


def load_onnxruntime() -> ModuleType:
    """Imports ONNX Runtime with its telemetry turned off. The modules of textgen get it only here.

    Raises:
        ImportError: It is not installed, see `textgen.model.onnx_model.require_onnx`.
    """
    turn_off(ONNX_RUNTIME)
    import onnxruntime

    return cast(ModuleType, onnxruntime)
