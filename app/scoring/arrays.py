"""Arrays that a stranger sent, read without believing what their headers say."""

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from estimators.arrays.validation import check_features, check_labels, check_probabilities
from estimators.catalog import Evidence
from estimators.score import InvalidEvidence

NAMES = ("features", "labels", "source_probabilities", "reference_features", "targets")
MEMBERS = len(NAMES)
NUMBERS = "fiub"
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
WIDEST = 1_000_000
TALLEST = 10_000_000
LONGEST_LABEL = 4 * 200
# What the two formats' readers raise on files that are damaged or made to look like one.
UNSOUND = (
    zipfile.BadZipFile, zlib.error, struct.error, SafetensorError, EOFError, OSError, SyntaxError, TypeError,
    OverflowError, UnicodeDecodeError, RecursionError, NotImplementedError,
)  # fmt: skip


class Refused(ValueError):
    """The file cannot be taken; the message says why."""


def read_arrays(path: Path, *, limit_bytes: int) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a safetensors or npz file, by name. No pickle is read, and no header is believed.

    Raises:
        Refused: it is neither, a header lies, or the arrays have other names, types or sizes than metrics take.
    """
    with path.open("rb") as file:
        start = file.read(4)
    try:
        arrays = _npz(path, limit_bytes) if start == b"PK\x03\x04" else _safetensors(path, limit_bytes)
    except UNSOUND as error:
        raise Refused(f"the file is not a sound safetensors or npz file: {error}") from error
    if not arrays:
        raise Refused(f"the file holds no arrays; name them {', '.join(NAMES)}")
    return arrays


def _npz(path: Path, limit_bytes: int) -> dict[str, np.ndarray[Any, Any]]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise Refused(f"the npz holds {len(members)} arrays; it may hold {', '.join(NAMES)}")
        if sum(member.file_size for member in members) > limit_bytes:
            raise Refused(f"the arrays expand to more than {limit_bytes / 1e6:g} MB")
        arrays = {}
        for member in members:
            name = _known(member.filename.removesuffix(".npy"))
            if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise Refused(f"{name} is encrypted or compressed in an unusual way")
            with archive.open(member) as file:
                arrays[name] = _npy(file, name, member.file_size)
    return arrays


def _npy(file: IO[bytes], name: str, size: int) -> np.ndarray[Any, Any]:
    try:
        version = np.lib.format.read_magic(file)
        if version not in NPY_HEADERS:
            raise Refused(f"{name} is of npy version {version[0]}.{version[1]}; save it with numpy.savez")
        shape, fortran, dtype = NPY_HEADERS[version](file)
    except ValueError as error:
        raise Refused(f"{name} is not a sound npy array: {error}") from error
    _check_kind(name, shape, dtype)
    expected = math.prod(shape) * dtype.itemsize
    # The size that the archive states bounds what can follow; an array is only made when the two agree.
    if not size - 16_384 <= expected <= size:
        raise Refused(f"the header of {name} speaks of {expected} bytes, which is not what follows")
    content = file.read(expected)
    if len(content) != expected or file.read(1):
        raise Refused(f"the header of {name} speaks of {expected} bytes, which is not what follows")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _safetensors(path: Path, limit_bytes: int) -> dict[str, np.ndarray[Any, Any]]:
    if path.stat().st_size > limit_bytes:
        raise Refused(f"the arrays are more than {limit_bytes / 1e6:g} MB")
    arrays = {}
    # The library checks that the offsets cover the file exactly and fit the shapes.
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        if len(names) > MEMBERS:
            raise Refused(f"the file holds {len(names)} arrays; it may hold {', '.join(NAMES)}")
        for name in names:
            _known(name)
            piece = file.get_slice(name)
            if piece.get_dtype() not in {"F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "BOOL"}:
                raise Refused(f"{name} is of type {piece.get_dtype()}; convert it to float32, float64 or integers")
            array = file.get_tensor(name)
            _check_kind(name, array.shape, array.dtype)
            arrays[name] = array
    return arrays


def _known(name: str) -> str:
    if name not in NAMES:
        raise Refused(f"there is no use for an array {name[:100]!r}; name them {', '.join(NAMES)}")
    return name


def _check_kind(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in NUMBERS and not (name == "labels" and dtype.kind == "U" and dtype.itemsize <= LONGEST_LABEL):
        kinds = "numbers or strings of at most 200 characters" if name == "labels" else "real numbers"
        raise Refused(f"{name} is of type {dtype}; it must hold {kinds}")
    if dtype.itemsize == 0:
        raise Refused(f"{name} holds strings without a character ({dtype}); each sample needs a label")
    if not shape:
        raise Refused(f"{name} is a single value; it must hold one for each sample")
    if len(shape) > 2 or any(not 0 <= length <= limit for length, limit in zip(shape, (TALLEST, WIDEST), strict=False)):
        raise Refused(f"{name} has shape {shape}; at most {TALLEST} rows of {WIDEST} columns are taken")


def make_evidence(arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[Evidence, int]:
    """Evidence of sound arrays, and its number of samples.

    Raises:
        InvalidEvidence: NaN, wrong dimensions, or lengths that differ; the message names array and row.
    """
    if "labels" not in arrays and "targets" not in arrays:
        raise InvalidEvidence("there are no labels; send an array `labels`, or `targets` for regression")
    checked: dict[str, Any] = dict(arrays)
    for name in ("features", "reference_features"):
        if name in arrays:
            checked[name] = check_features(arrays[name], name=name)
    if "source_probabilities" in arrays:
        checked["source_probabilities"] = check_probabilities(arrays["source_probabilities"])
    if "labels" in arrays:
        check_labels(arrays["labels"])
    lengths = {name: len(array) for name, array in checked.items() if name != "reference_features"}
    if len(set(lengths.values())) > 1:
        raise InvalidEvidence(f"the arrays differ in length: {', '.join(f'{n} {v}' for n, v in lengths.items())}")
    return Evidence(**checked), next(iter(lengths.values()))
