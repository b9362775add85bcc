"""The console's table of decisions: searched in the store, a page at a time, and left alone once it is shown.

What is decided after the table was shown is counted beside it, and shown when that is asked for.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from processing.errors import BadInput
from processing.store.interface import Decision
from processing.store.lookup import Page
from serving.api import replies
from serving.api.lookup import Listing, Lookup, said_once
from serving.api.problems import field_problems
from serving.console.pages import rendered

SHOWN = 50  # decisions on the page
COUNTED = 1_000  # decisions that are counted at most, where a filter is set
NEW = 99  # decisions that are counted at most since the page was shown
PAGES = 5  # of the store that are read for one of ours


def install(pages: APIRouter, lookup: Lookup) -> None:
    """Add the parts to the console's routes."""

    @pages.get("/console/stream")
    def stream(request: Request) -> Response:
        asked, newer = _asked(request, lookup), request.query_params.get("to") == "newer"
        page = _page(lookup, asked, SHOWN, newer=newer)
        if newer and not page.more:  # nothing beyond: it is the newest ones that are shown
            asked = asked.model_copy(update={"cursor": None})
            page = _page(lookup, asked, SHOWN)
        filters = _filters(request.query_params, lookup)
        return rendered(
            request,
            "stream.html",
            decisions=[replies.past(made, lookup.contract) for made in page.decisions],
            filtered=bool(filters),
            query=urlencode(filters),
            live=asked.cursor is None,
            newer=lookup.cursor(asked, page.first) or asked.cursor or "",
            older=lookup.cursor(asked, page.last) if page.more or newer else None,
            reached=page.reached,
            more=page.more,
            **_counted(lookup, asked, page, bool(filters)),
        )

    @pages.get("/console/fresh")
    def fresh(request: Request) -> Response:
        asked = _asked(request, lookup)
        page = _page(lookup, asked, NEW, newer=True)
        if not page.decisions and not page.more:
            return Response(status_code=204)
        query = urlencode(_filters(request.query_params, lookup))
        return rendered(request, "fresh.html", count=len(page.decisions), more=page.more, query=query)


def asked_for(request: Request, lookup: Lookup) -> dict[str, Any]:
    """What a page shows of its search, right or wrong: the form's values, and the query of the table."""
    given = request.query_params
    filters = _filters(given, lookup)
    walk = {name: given[name] for name in ("cursor", "to") if given.get(name)}
    return {
        "values": {name: filters.get(name, "") for name in lookup.fields()},
        "entities": list(zip(lookup.names, (one.name for one in lookup.contract.entities), strict=True)),
        "filtered": bool(filters),
        "query": urlencode(filters | walk),
    }


def _filters(given: Mapping[str, str], lookup: Lookup) -> dict[str, str]:
    return {name: value for name, value in lookup.given(given).items() if name != "cursor"}


def _asked(request: Request, lookup: Lookup) -> Listing:
    said_once(request.query_params)
    try:
        return lookup.asked(request.query_params)
    except ValidationError as error:
        first = field_problems(error.errors(include_url=False))[0]
        raise BadInput(f"{first.field}: {first.message}") from None


def _page(lookup: Lookup, asked: Listing, limit: int, *, newer: bool = False, after: str | None = None) -> Page:
    """A page of so many decisions, of several of the store where few are like that."""
    pages = [lookup.page(asked, limit=limit, after=after, newer=newer)]
    while (left := limit - sum(len(page.decisions) for page in pages)) and pages[-1].more and len(pages) < PAGES:
        after = pages[-1].first if newer else pages[-1].last
        pages.append(lookup.page(asked, limit=left, after=after, newer=newer))
    inorder = pages[::-1] if newer else pages
    found: list[Decision] = [made for page in inorder for made in page.decisions]
    read = [page for page in inorder if page.first is not None] or pages[:1]
    return Page(found, read[0].first, read[-1].last, pages[-1].more, read[-1].reached)


def _counted(lookup: Lookup, asked: Listing, page: Page, filtered: bool) -> dict[str, Any]:
    """How many decisions there are like that, and whether these are all; None where nobody counted."""
    if not filtered or asked.cursor is not None:
        return {"count": None, "whole": False}
    count = len(page.decisions)
    if page.more and count:
        rest = _page(lookup, asked, COUNTED - count, after=page.last)
        return {"count": count + len(rest.decisions), "whole": not rest.more}
    return {"count": count, "whole": not page.more}
