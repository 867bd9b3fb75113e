"""Errors of the registry protocol: one table from what went wrong to code, status and words (distribution-spec: Error Codes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from aiohttp import web

from slipway_common import errors
from slipway_common.database.pool import CONNECTION_ERRORS
from slipway_common.oci.digests import InvalidDigest
from slipway_common.oci.manifests import InvalidManifest
from slipway_common.oci.names import InvalidName, InvalidTag
from slipway_common.storage.port import ObjectTooLarge
from slipway_gateway.api.transfer import BodyCutOff, BodyTooLarge
from slipway_gateway.deletions import BlobUnknown, ManifestInUse, ManifestUnknown
from slipway_gateway.pushes import ContentUnknown, RepositoryGone
from slipway_gateway.repositories import NotCreatedByPush
from slipway_gateway.store.blobs import BlobInUse
from slipway_gateway.uploads import CutOff, OutOfOrder, UploadUnknown

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Row:
    code: str
    status: int
    message: str


class NameUnknown(errors.NotFound):
    """No such repository, told to someone who could read it if it existed."""


class PathUnknown(errors.NotFound):
    """Not a path of the protocol."""


class SizeInvalid(errors.InvalidInput):
    """Lengths that contradict each other."""


class ManifestTooLarge(errors.InvalidInput):
    """Over 4 MiB."""


class RangeNotSatisfiable(errors.InvalidInput):
    """The range lies outside the blob."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the blob is {size_bytes} bytes long", size_bytes=size_bytes)
        self.size_bytes = size_bytes


class PaginationInvalid(errors.InvalidInput):
    """`n` is not a number of entries."""


class MethodNotAllowed(errors.InvalidInput):
    """The path does not take this method."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__("this path does not take that method")
        self.allowed = allowed


# The first class that matches counts.
TABLE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Row], ...] = (
    (InvalidName, Row("NAME_INVALID", 400, "invalid repository name")),
    (InvalidTag, Row("MANIFEST_INVALID", 400, "invalid tag")),
    (InvalidDigest, Row("DIGEST_INVALID", 400, "the digest is not valid")),
    (InvalidManifest, Row("MANIFEST_INVALID", 400, "the manifest is not valid")),
    (ContentUnknown, Row("MANIFEST_BLOB_UNKNOWN", 400, "the manifest names content that is not in this repository")),
    (ManifestTooLarge, Row("SIZE_INVALID", 413, "manifests may be up to 4 MiB")),
    ((BodyTooLarge, ObjectTooLarge), Row("SIZE_INVALID", 413, "too large")),
    (OutOfOrder, Row("BLOB_UPLOAD_INVALID", 416, "the bytes do not continue the upload")),
    (RangeNotSatisfiable, Row("UNSUPPORTED", 416, "the range lies outside the blob")),
    (SizeInvalid, Row("SIZE_INVALID", 400, "the lengths contradict each other")),
    ((CutOff, BodyCutOff), Row("SIZE_INVALID", 400, "the request body ended early")),
    (PaginationInvalid, Row("PAGINATION_NUMBER_INVALID", 400, "n is not a number of entries")),
    (UploadUnknown, Row("BLOB_UPLOAD_UNKNOWN", 404, "no such upload")),
    (BlobUnknown, Row("BLOB_UNKNOWN", 404, "no such blob in this repository")),
    (ManifestUnknown, Row("MANIFEST_UNKNOWN", 404, "no such manifest in this repository")),
    ((NameUnknown, NotCreatedByPush, RepositoryGone), Row("NAME_UNKNOWN", 404, "no such repository")),
    (PathUnknown, Row("UNSUPPORTED", 404, "not a path of the registry protocol")),
    ((BlobInUse, ManifestInUse), Row("DENIED", 405, "in use")),
    (MethodNotAllowed, Row("UNSUPPORTED", 405, "this path does not take that method")),
    (errors.Unauthenticated, Row("UNAUTHORIZED", 401, "authentication required")),
    (errors.Denied, Row("DENIED", 403, "requested access to the resource is denied")),
    (errors.NotFound, Row("NAME_UNKNOWN", 404, "not found")),
    (errors.Conflict, Row("DENIED", 409, "not possible now")),
    (errors.TooMany, Row("TOOMANYREQUESTS", 429, "too many requests")),
    (errors.InvalidInput, Row("UNSUPPORTED", 400, "the request is not valid")),
    ((errors.Unavailable, *CONNECTION_ERRORS), Row("UNAVAILABLE", 503, "a part of the registry is away; try again")),
)
_UNFORESEEN = Row("UNKNOWN", 500, "something went wrong")


def row_of(exc: BaseException) -> Row:
    for kinds, row in TABLE:
        if isinstance(exc, kinds):
            return row
    return _UNFORESEEN


def render_error(exc: BaseException, *, request_id: str) -> web.Response:
    """The OCI envelope for any error; what nobody foresaw is logged with its trace and told to nobody."""
    row = row_of(exc)
    message = row.message
    detail: Any = None
    if isinstance(exc, errors.SlipwayError) and row is not _UNFORESEEN:
        message = exc.message or row.message
        detail = _detail(exc)
    if row.status == 503:
        _log.warning(
            "part_unavailable", request_id=request_id, error=f"{type(exc).__name__}: {exc}", cause=repr(exc.__cause__)
        )
        message, detail = row.message, None
    elif row is _UNFORESEEN:
        _log.error("request_failed", request_id=request_id, exc_info=exc)
        detail = {"request_id": request_id}
    response = error_response(row.status, row.code, message, detail)
    if row.status in (429, 503):
        response.headers["Retry-After"] = str(getattr(exc, "retry_after_s", 2))
    if isinstance(exc, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(exc.allowed)
    return response


def _detail(exc: errors.SlipwayError) -> Any:
    if isinstance(exc, ContentUnknown):
        return [{"digest": digest} for digest in exc.missing[:100]]
    return {key: value for key, value in exc.facts.items() if isinstance(value, str | int | list)} or None


def error_response(status: int, code: str, message: str, detail: Any = None) -> web.Response:
    """One error in the specification's envelope."""
    entry: dict[str, Any] = {"code": code, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return web.Response(
        status=status, body=orjson.dumps({"errors": [entry]}), content_type="application/json", charset="utf-8"
    )
