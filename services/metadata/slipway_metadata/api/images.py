"""The images of a repository: /api/v1/repositories/<name>/-/images."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from pydantic import BaseModel

from slipway_common.oci.names import parse_reference
from slipway_common.web.routes import Route
from slipway_metadata.api.models import ImageDetail, ImagePage, ImageQuery
from slipway_metadata.domain.stored import Cursor
from slipway_metadata.store import ImageStore

IMAGES: Final = web.AppKey("images", ImageStore)


async def list_images(request: web.Request) -> web.Response:
    """Answer one page of the repository's images. Raises InvalidInput for a cursor that is none."""
    query = ImageQuery.model_validate(dict(request.query))
    after = Cursor.start() if query.last is None else Cursor.decode(query.last)
    images, following = await request.app[IMAGES].list_images(_repository_id(request), limit=query.n, after=after)
    return _respond(ImagePage.of(images, following))


async def get_image(request: web.Request) -> web.Response:
    """Answer one image with all that is known of it. Raises NotFound; InvalidInput for a malformed reference."""
    images, repository_id = request.app[IMAGES], _repository_id(request)
    image = await images.get_image(repository_id, parse_reference(request.match_info["reference"]))
    children = await images.load_children(repository_id, image.digest) if image.children else {}
    return _respond(ImageDetail.of(image, children))


def _repository_id(request: web.Request) -> int:
    # From the verified token, never from the path: the gateway has decided which repository the name means.
    repository_id: int = request["claims"].repository_id
    return repository_id


def _respond(body: BaseModel) -> web.Response:
    return web.Response(text=body.model_dump_json(), content_type="application/json")


ROUTES: Final = (
    Route(
        "GET",
        "/api/v1/repositories/{name}/-/images",
        "repository:pull",
        "List the images of a repository, newest push first",
        list_images,
        service="metadata",
        query=ImageQuery,
        response=ImagePage,
    ),
    Route(
        "GET",
        "/api/v1/repositories/{name}/-/images/{reference}",
        "repository:pull",
        "Show one image by tag, digest or ImageId",
        get_image,
        service="metadata",
        response=ImageDetail,
    ),
)
