"""Any data set of tensorflow-datasets, by name, without TensorFlow.

The files must be in the format ``array_record``, which has random access. Images stay
encoded until a record is asked for and are decoded by Pillow.
"""

import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from jaxssl.config import fields
from jaxssl.config.checks import nearest
from jaxssl.data import fingerprint, images
from jaxssl.data.listing import LeftOut
from jaxssl.data.paths import show
from jaxssl.data.source import NO_LABEL, Source, check_label, image_spec
from jaxssl.errors import BadRecord, UserError
from jaxssl.text import printable
from jaxssl.types import Record

FORMAT = "array_record"
LABELS = ("label", "labels", "attributes")
"""Features that are the label unless another one is named, in this order."""


class TfdsSource:
    """One split on disk; records are decoded when asked for.

    Attributes:
      name: see ``Source``.
      class_names: of the classes, or of the attributes if the label is a vector.
      spec: ``image`` and ``label``.
      left_out: files of records that no split names.
    """

    def __init__(
        self,
        builder: Any,
        records: Any,
        *,
        split: str,
        image_key: str,
        label_key: str | None,
        load_size: int | None,
    ):
        """Wrap the records of a prepared builder; see ``load``."""
        features = builder.info.features
        self._records = records
        self._image_key = image_key
        self._label_key = label_key
        self._load_size = load_size
        self.class_names = _class_names(features, label_key)
        label = features[label_key] if label_key else None
        self._multi_hot = isinstance(label, tfds.features.Sequence)
        vector = self._multi_hot or isinstance(label, tfds.features.FeaturesDict)
        self.name = f"tfds:{builder.info.full_name}/{split}"
        shape = _image_shape(features[image_key], load_size, self.name)
        self.spec = image_spec(shape, (len(self.class_names),) if vector else ())
        self._options = f"{image_key} {label_key} {load_size}"
        self._files = sorted(
            {str(path) for path in builder.info.splits[split].filepaths}
        )
        self._folder = Path(builder.data_path)
        self.left_out = _left_out(builder)

    @property
    def fingerprint(self) -> str:
        """Return a hash of the files, the names of classes and the options."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        paths = [os.path.relpath(path, self._folder) for path in self._files]
        content = fingerprint.hash_files(self._folder, paths)
        options = self.name, str(len(self)), self._options
        return fingerprint.of_content(content, *options, *self.class_names)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Decode one record; see ``Source``."""
        del rng
        record = self._record(index)
        image = images.decode(record[self._image_key], load_size=self._load_size)
        shape = self.spec["image"].shape
        if image.shape != shape:
            raise BadRecord(f"image of shape {image.shape}, not {shape}")
        return {"image": image, "label": self._label(record, index)}

    def label(self, index: int) -> np.ndarray:
        """Return the label without decoding the image.

        Raises:
          BadRecord: the record cannot be read.
        """
        return self._label(self._record(index), index)

    def raw(self, index: int) -> bytes:
        """Return the encoded image.

        Raises:
          BadRecord: the record cannot be read.
        """
        return self._record(index)[self._image_key]

    def record_name(self, index: int) -> str:
        """Return the position in the split."""
        return f"{self.name}[{index}]"

    def _record(self, index: int) -> dict[str, Any]:
        try:
            record = self._records[index]
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise BadRecord(f"damaged array_record: {reason}") from None
        if not isinstance(record[self._image_key], bytes):
            raise BadRecord("damaged array_record: no image in it")
        if len(record[self._image_key]) > images.MAX_BYTES:
            raise BadRecord(f"image above {images.MAX_BYTES} bytes")
        return record

    def _label(self, record: dict[str, Any], index: int) -> np.ndarray:
        if self._label_key is None:
            return np.array(NO_LABEL, np.int32)
        value = record[self._label_key]
        if isinstance(value, dict):
            return np.array([value[name] for name in self.class_names], np.int32)
        if self._multi_hot:
            hot, classes = np.zeros(len(self.class_names), np.int32), np.asarray(value)
            if len(classes) and not 0 <= classes.min() <= classes.max() < len(hot):
                raise UserError(
                    f"{self.record_name(index)} has the classes {classes.tolist()}; "
                    f"allowed: 0 to {len(hot) - 1}."
                )
            hot[classes.astype(int)] = 1
            return hot
        check_label(self, index, np.asarray(value))
        return np.asarray(value, np.int32)


def load(
    name: str,
    *,
    split: str,
    data_dir: str | None = None,
    load_size: fields.Pixels | None = None,
    image_key: str = "image",
    label_key: str | None = None,
) -> Source:
    """Open one split of a prepared TFDS data set.

    Args:
      name: as TFDS has it, ``stl10`` or ``voc/2007``.
      split: as TFDS has it, ``train`` or ``train[:10%]``.
      data_dir: the TFDS folder, which holds ``<name>/<version>``; by default
        ``$JAXSSL_DATA``, then what TFDS uses (``~/tensorflow_datasets``).
      load_size: pixels of the shorter side after scaling; the central square is kept;
        may be None where all images have one size.
      image_key: name of the image feature.
      label_key: name of the label feature: a class, a list of classes (becomes a vector
        of 0 and 1) or a dict of booleans (becomes a vector, names sorted). By default
        ``label``, ``labels`` or ``attributes``, whichever there is, else -1.

    Returns:
      The split.

    Raises:
      UserError: an unknown name, split or key, or files that are missing or in another
        format, with what to run or where to put them.
    """
    builder = open_builder(name, data_dir)
    prepare = f"jaxssl data prepare tfds:{name}" + (
        f" --data_dir={data_dir}" if data_dir else ""
    )
    if not builder.info.splits:
        raise UserError(
            f"tfds:{name} is not in {builder.data_path}. Run: {prepare}; or copy a "
            f"folder that TFDS has prepared with file_format={FORMAT!r} to that folder."
        )
    features = builder.info.features
    label_key = label_key or next((k for k in LABELS if k in features), None)
    for key in (image_key, label_key):
        if key is not None and key not in features:
            raise UserError(
                f"tfds:{name} has no feature {key!r}; it has: "
                f"{', '.join(sorted(features))}."
            )
    formats = {format_.value for format_ in builder.info.available_file_formats()}
    if FORMAT not in formats:
        raise UserError(
            f"{builder.data_path} is not in the format {FORMAT}; remove it and run: "
            f"{prepare}"
        )
    decoders = {image_key: tfds.decode.SkipDecoding()}
    try:
        records = builder.as_data_source(split, decoders=decoders, file_format=FORMAT)
    except ValueError as error:
        raise UserError(
            f"tfds:{name} has no split {split!r}; allowed: "
            f"{', '.join(builder.info.splits)} ({str(error).splitlines()[0]})."
        ) from None
    _check_counts(builder, split, prepare)
    return TfdsSource(
        builder,
        records,
        split=split,
        image_key=image_key,
        label_key=label_key,
        load_size=load_size,
    )


def open_builder(name: str, data_dir: str | None) -> Any:
    """Return the TFDS builder of a data set, prepared or not.

    Args:
      name: see ``load``.
      data_dir: see ``load``.

    Raises:
      UserError: TFDS knows no such data set and there is none in the folder.
    """
    root = data_dir or os.environ.get("JAXSSL_DATA")
    if not re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.]+)?", name) or ".." in name:
        raise UserError(
            f"tfds:{name} is no name; allowed: name, name/config, name:1.2."
        )
    if data_dir and not Path(data_dir).is_dir():
        raise UserError(f"data_dir {show(data_dir)} is no folder.")
    try:
        return tfds.builder(name, data_dir=root, file_format=None)
    except tfds.core.DatasetNotFoundError:
        known = nearest(name, tfds.list_builders(with_community_datasets=False))
        raise UserError(
            f"tensorflow-datasets knows no {name!r} and {root or 'its folder'} holds "
            f"none.{known}"
        ) from None
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(
            f"tfds:{name} cannot be opened: {str(error).splitlines()[0]}."
        ) from None


def download(name: str, data_dir: str | None) -> str:
    """Let TFDS download a data set and store it as array_record.

    Args:
      name: see ``load``.
      data_dir: see ``load``.

    Returns:
      The folder it is in.

    Raises:
      UserError: no network, a missing package or a manual download, in TFDS' own words.
    """
    builder = open_builder(name, data_dir)
    if builder.info.splits:
        return str(builder.data_path)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder = tfds.builder(name, data_dir=builder.data_dir_root, file_format=FORMAT)
        builder.download_and_prepare(download_config=config)
    except ModuleNotFoundError as error:
        raise UserError(
            f"TFDS needs the package {error.name} to prepare {name}, not to read it. "
            f"Run: pip install {error.name}; or prepare it elsewhere with "
            f"file_format={FORMAT!r} and copy it to {builder.data_path}."
        ) from None
    except (OSError, AssertionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"TFDS cannot prepare {name}: {reason}") from None
    return str(builder.data_path)


def _check_counts(builder: Any, split: str, prepare: str) -> None:
    """Raise unless the files hold as many records as the info says.

    A file that is missing or damaged seems to hold none; it is left to reading, which
    names each record.
    """
    splits = builder.info.splits
    used = {str(path) for path in splits[split].filepaths}
    for name in splits:
        lengths = splits[name].shard_lengths
        for path, claimed in zip(splits[name].filepaths, lengths, strict=True):
            if str(path) not in used:
                continue
            count = ArrayRecordReader(str(path)).num_records()
            if count not in (0, claimed):
                raise UserError(
                    f"{show(str(path))} holds {count} records, but dataset_info.json "
                    f"beside it says {claimed}. Bring the right one back, or remove "
                    f"the folder and run: {prepare}"
                )


def _left_out(builder: Any) -> tuple[LeftOut, ...]:
    """Return the files of records that belong to no split."""
    splits = builder.info.splits
    known = {path.name for name in splits for path in splits[name].filepaths}
    files = sorted(Path(builder.data_path).glob(f"*{FORMAT}*"))
    reason = "file of records that no split names"
    return tuple((file.name, reason) for file in files if file.name not in known)


def _class_names(features: Any, label_key: str | None) -> tuple[str, ...]:
    if label_key is None:
        return ()
    feature = features[label_key]
    if isinstance(feature, tfds.features.FeaturesDict):
        return tuple(sorted(feature))
    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    if isinstance(feature, tfds.features.ClassLabel):
        return tuple(map(printable, feature.names))
    raise UserError(
        f"The feature {label_key!r} is {type(feature).__name__}; a label is a class, a "
        "list of classes or a dict of booleans."
    )


def _image_shape(
    feature: Any, load_size: int | None, name: str
) -> tuple[int, int, int]:
    if load_size is not None:
        if not load_size >= 1:
            raise UserError(f"load_size is {load_size}; it must be above 0.")
        return load_size, load_size, 3
    h, w = feature.shape[:2]
    if h is None or w is None:
        raise UserError(f"{name} has images of many sizes; set load_size.")
    return h, w, 3
