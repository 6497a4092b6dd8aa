"""Rows of a Parquet file, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from paddock.errors import DataError

ROWS = 64  # at once
MAX_GROUP = 2**33  # bytes of one row group, unpacked
THRIFT = 2**26  # bytes or entries in the file's own description


def rows(path: Path, text_field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row from 1, record), whatever the columns are. Raises DataError for what is corrupt, truncated or oversized."""
    limits = {"thrift_string_size_limit": THRIFT, "thrift_container_size_limit": THRIFT, "pre_buffer": False}
    try:
        with parquet.ParquetFile(path, **limits) as file:
            known = text_field in file.schema_arrow.names
        repeated = [text_field] if known else None  # a text repeated a million times is held once
        with parquet.ParquetFile(path, read_dictionary=repeated, **limits) as file:
            about = file.metadata
            for group in range(about.num_row_groups):
                if about.row_group(group).total_byte_size > MAX_GROUP:
                    raise DataError(f"{path}: row group {group} unpacks to more than {MAX_GROUP >> 30} GiB")
            number = 0
            for batch in file.iter_batches(batch_size=ROWS, use_threads=False):
                columns = list(zip(batch.schema.names, batch.columns, strict=True))
                for row in range(batch.num_rows):  # one by one: a long text is not copied for each of its rows at once
                    number += 1
                    yield number, {name: column[row].as_py() for name, column in columns}
            if number != about.num_rows:
                raise DataError(f"{path} says it has {about.num_rows} rows, and has {number}")
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        why = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise DataError(f"{path} cannot be read as Parquet: {why}", fix="copy or download it again") from None
