"""Readers of documents in every format that data comes in. Start with `reader.py`."""

from paddock.data.reading.options import FileReport, Options, Report
from paddock.data.reading.reader import documents, read_documents

__all__ = ["FileReport", "Options", "Report", "documents", "read_documents"]
