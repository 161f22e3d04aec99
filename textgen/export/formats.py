"""The formats that `textgen export` writes: what each needs, and the function that writes it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from textgen.errors import ConfigError, TextgenError
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.schema import check, json_object
from textgen.storage.file_reading import read_file
from textgen.storage.files import check_writable, json_bytes, write_own_file, writing
from textgen.storage.folders import check_new_folder, new_folder, refuse_nameless
from textgen.storage.manifests import MANIFEST
from textgen.storage.names import is_from_desktop
from textgen.storage.temporary import temporary_folder
from textgen.versions import require

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder

Write = Callable[..., str]  # a ModelFolder, a path, and an Attribution if the format keeps it
MARK = "textgen-export.json"  # in each folder that an export wrote: such a folder may be replaced by the next one
MARK_BYTES = 1 << 16
PATTERN = re.compile(r"\[.+\]" if os.name == "nt" else r"\\|\[.+\]", re.DOTALL)
"""What TensorFlow reads as a pattern in the path of a SavedModel that it loads; the path itself does not match it."""


@dataclass(frozen=True)
class Format:
    """A format that a model is written in.

    The function that writes it takes a `ModelFolder` and the path. It compares what it writes with the model (see
    `textgen.export.verification`) before anything is left at the path, writes all or nothing (see
    `textgen.storage.files.write_file`, `textgen.storage.new_files.new_file` and `export_folder`), and returns what was
    written, in a sentence or two. It raises `TextgenError` for a model that the format cannot express.

    Attributes:
        name: Value of `--format`.
        help: What is written, in a few words, for `--help`.
        write: Place of the function, "module:function"; imported when it is needed.
        suffix: Suffix of files in this format, with the dot; empty if it tells nothing, as that of a folder.
        variant_of: Name of the format whose suffix its files may have as well.
        modules: Modules that must be importable.
        extra: Extra of the textgen package that brings them, such as "onnx".
        folder: Whether a folder is written, not a file: that of a SavedModel.
        converted: Whether the file is made from a SavedModel in the folder for temporary files.
        keeps_attribution: Whether the function takes an `Attribution` besides.
    """

    name: str
    help: str
    write: str
    suffix: str = ""
    variant_of: str = ""
    modules: tuple[str, ...] = ()
    extra: str = ""
    folder: bool = False
    converted: bool = False
    keeps_attribution: bool = True


FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format(
            name="pytorch",
            help="a safetensors file with the state dict of PyTorch layers",
            write="textgen.export.pytorch:export_pytorch",
            suffix=".safetensors",
            keeps_attribution=False,
        ),
        Format(
            name="html",
            help="one page that writes in a browser, without a server",
            write="textgen.export.html:export_html",
            suffix=".html",
        ),
        Format(
            name="onnx",
            help="one step of the network for ONNX Runtime and others, and the tokenizer beside it",
            write="textgen.export.onnx:export_onnx",
            suffix=".onnx",
            modules=("onnx", "onnxruntime"),
            extra="onnx",
        ),
        Format(
            name="keras",
            help="a .keras file of layers that Keras has",
            write="textgen.export.keras:export_keras",
            suffix=".keras",
        ),
        Format(
            name="savedmodel",
            help="a folder in TensorFlow's SavedModel format",
            write="textgen.export.savedmodel:export_savedmodel",
            folder=True,
        ),
        Format(
            name="litert",
            help="a .tflite file for LiteRT, float32",
            write="textgen.export.litert:export_litert",
            suffix=".tflite",
            converted=True,
            modules=("ai_edge_litert",),
            extra="litert",
        ),
        Format(
            name="litert-int8",
            help="the same with int8 weights, if they lose little",
            write="textgen.export.litert:export_litert_int8",
            variant_of="litert",
            converted=True,
            modules=("ai_edge_litert",),
            extra="litert",
        ),
    )
}


def format_for(path: Path, name: str | None = None) -> Format:
    """Returns the format of an export.

    Args:
        path: Path to write to.
        name: Name of the format. By default the format is that of the suffix of `path`.

    Raises:
        ConfigError: No format was named, and the suffix is not that of a format; or it is that of another format.
    """
    by_suffix = _format_by_suffix(path)
    if name is not None:
        format_ = FORMATS[name]
        if by_suffix and by_suffix.name not in (name, format_.variant_of):
            another = f"a name that ends in {format_.suffix}" if format_.suffix else "another name"
            raise ConfigError(
                f"The name {path} is that of a file in the format {by_suffix.name}, not {name}. Choose {another}, or "
                "leave format_name out."
            )
        return format_
    if by_suffix:
        return by_suffix
    suffixes = ", ".join(f"{format_.suffix} ({format_.name})" for format_ in FORMATS.values() if format_.suffix)
    raise ConfigError(
        f"The name {path} does not tell which format to write. Set format_name, or name a file with one of the "
        f"suffixes {suffixes}."
    )


def exported_format(path: Path) -> Format | None:
    """Returns the format of an existing export, by the suffix of the file or the mark in the folder.

    Args:
        path: Path of the file or folder.

    Returns:
        The format; None if the path does not tell one.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        return FORMATS[json_object(read_file(path / MARK, MARK_BYTES))["format"]]
    return _format_by_suffix(path)


def _format_by_suffix(path: Path) -> Format | None:
    return next((format_ for format_ in FORMATS.values() if format_.suffix == path.suffix.lower() != ""), None)


def check_export(format_: Format, path: Path) -> None:
    """Checks, before long work, that the format can be written at a path.

    Args:
        format_: The format.
        path: The path. An existing file is replaced, an existing folder only if it is empty, or an export of textgen
            to which nobody has added a file.

    Raises:
        SavedModelError: The path lies in the folder of a model.
        TextgenError: A library is not installed; nothing can be written at the path; another file or folder is there;
            or TensorFlow cannot take the path, or that of the folder for temporary files.
    """
    from textgen.saved_model.creation import refuse_in_model

    require(f"The format {format_.name}", format_.modules, format_.extra)
    if format_.folder:
        place = _place(path)
        _check_for_tensorflow(place, "Choose another name or folder.")
        check_new_folder(place)
    else:
        refuse_nameless(path)
        check_writable(path)
    refuse_in_model(path)
    if format_.folder and os.path.lexists(place):
        _check_replaceable(path)
    if format_.folder or format_.converted:
        with temporary_folder() as temporary:  # those of savedmodel hold files to attach, whose paths are no patterns
            _check_for_tensorflow(temporary.parent, "Set TMPDIR to another folder.", is_loaded=format_.converted)


def _check_for_tensorflow(path: Path, advice: str, *, is_loaded: bool = True) -> None:
    """Raises `TextgenError` for a path that TensorFlow cannot take.

    The whole path counts, since a program that loads the folder may name it so.

    Args:
        path: The path.
        advice: What the user can do.
        is_loaded: Whether TensorFlow loads a SavedModel from it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise TextgenError(f"Cannot write {path}: TensorFlow takes only paths in UTF-8. {advice}") from None
    if is_loaded and any(map(PATTERN.search, (str(path), os.path.abspath(path)))):
        raise TextgenError(f"Cannot write {path}: TensorFlow reads [ ] and \\ in a path as a pattern. {advice}")


def _place(path: Path) -> Path:
    """Where a folder is written: a link to one stays, as one to a file does."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def export_model(format_: Format, model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes a model in a format.

    Args:
        format_: The format, for which `check_export` passed.
        model: The model.
        path: Path of the file or folder.
        attribution: Licence and note, for a format that keeps them.

    Returns:
        What was written, in a sentence or two.

    Raises:
        TextgenError: The format cannot express the model, what was written differs from the model, or it cannot be
            written. Nothing is left, and what was at the path is untouched.
    """
    module, _, function = format_.write.partition(":")
    write: Write = getattr(import_module(module), function)
    return write(model, path, attribution) if format_.keeps_attribution else write(model, path)


@contextmanager
def export_folder(path: Path, name: str) -> Iterator[Path]:
    """Creates the folder of an export atomically, with a mark by which the next export knows it.

    Args:
        path: Path of the folder, which is replaced if it exists; see `check_export`. Links are followed.
        name: Name of the format, for the mark.

    Yields:
        Path of the temporary folder to write to.

    Raises:
        TextgenError: The folder cannot be written.
    """
    place = _place(path)
    with new_folder(place) as temporary:
        yield temporary
        files = [*_files_in(temporary), MANIFEST, MARK]
        write_own_file(temporary / MARK, json_bytes({"format": name, "files": sorted(files)}))
        if os.path.lexists(place):
            _check_replaceable(path)  # again, since somebody may have put a file there while this was written


def _check_replaceable(path: Path) -> None:
    """Raises `TextgenError` unless nothing is lost with a folder: it holds what an export wrote, or nothing."""
    is_folder = path.is_dir()
    with writing(path):
        found = _files_in(path) if is_folder else []
    if is_folder and not found:
        return
    try:
        mark = json_object(read_file(path / MARK, MARK_BYTES))
        check(mark, {"files": [str]})
    except (OSError, ValueError):
        message = f"{path} exists and is not a folder that textgen export wrote: choose another name."
        raise TextgenError(message) from None
    if others := sorted(set(found).difference(mark["files"])):
        raise TextgenError(
            f"{path} would be replaced, and textgen export did not write {', '.join(map(repr, others[:3]))} in it. "
            "Move these files, or choose another name."
        )


def _files_in(folder: Path) -> list[str]:
    """The files and links below a folder, by their paths in it, without those of desktops."""

    def refuse(error: OSError) -> None:
        raise error

    found = list[str]()
    for place, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        paths = [Path(place, name) for name in [*names, *links]]
        found += [path.relative_to(folder).as_posix() for path in paths if not is_from_desktop(path)]
    return sorted(found)
