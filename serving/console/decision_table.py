"""The console's table of decisions: searched in the store, page by page, and unchanged once it is shown.

Decisions made after that are counted above the table and shown on request.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from processing.errors import BadInput
from processing.store.decisions import Decision
from processing.store.lookup import DecisionPage
from serving.api.context import Context
from serving.api.decision_search import DecisionQuery, DecisionSearch, check_no_duplicates
from serving.api.problems import field_errors
from serving.api.responses import listed_decision
from serving.console.pages import page_router, render

PAGE_SIZE = 50
MAX_COUNTED = 1_000  # matching decisions, if a filter is set
MAX_NEW = 99  # new decisions counted since the table was shown
MAX_STORE_PAGES = 5  # pages of the store read for one page of the table

router = page_router()


@router.get("/console/stream")
def decision_table(request: Request, context: Context) -> Response:
    """A page of the table."""
    search = context.search
    query, newer = _query(request, search), request.query_params.get("to") == "newer"
    page = _read_page(search, query, PAGE_SIZE, newer=newer)
    if newer and not page.more:  # nothing is newer, so show the newest
        query = query.model_copy(update={"cursor": None})
        page = _read_page(search, query, PAGE_SIZE)
    filters = _filters(request.query_params, search)
    return render(
        request,
        "stream.html",
        decisions=[listed_decision(decision, context.contract) for decision in page.decisions],
        filtered=bool(filters),
        query=urlencode(filters),
        newest=query.cursor is None,
        newer=search.cursor(query, page.first) or query.cursor or "",
        older=search.cursor(query, page.last) if page.more or newer else None,
        reached=page.reached,
        more=page.more,
        page_size=PAGE_SIZE,
        **_count(search, query, page, filtered=bool(filters)),
    )


@router.get("/console/fresh")
def new_decisions(request: Request, context: Context) -> Response:
    """How many decisions were made since the table was shown; 204 if there are none."""
    search = context.search
    page = _read_page(search, _query(request, search), MAX_NEW, newer=True)
    if not page.decisions and not page.more:
        return Response(status_code=204)
    query = urlencode(_filters(request.query_params, search))
    return render(request, "fresh.html", count=len(page.decisions), more=page.more, query=query)


def filter_values(request: Request, search: DecisionSearch) -> dict[str, Any]:
    """What the overview shows of a search, valid or not: the values of its form, and the query of its table."""
    parameters = request.query_params
    filters = _filters(parameters, search)
    position = {name: parameters[name] for name in ("cursor", "to") if parameters.get(name)}
    return {
        "values": {name: filters.get(name, "") for name in search.fields()},
        "entities": list(zip(search.entity_parameters, search.contract.key_names, strict=True)),
        "filtered": bool(filters),
        "query": urlencode(filters | position),
    }


def _filters(parameters: Mapping[str, str], search: DecisionSearch) -> dict[str, str]:
    return {name: value for name, value in search.filled_fields(parameters).items() if name != "cursor"}


def _query(request: Request, search: DecisionSearch) -> DecisionQuery:
    check_no_duplicates(request.query_params)
    try:
        return search.query_from_form(request.query_params)
    except ValidationError as error:
        first = field_errors(error.errors(include_url=False))[0]
        raise BadInput(f"{first.field}: {first.message}") from None


def _read_page(
    search: DecisionSearch, query: DecisionQuery, limit: int, *, newer: bool = False, after: str | None = None
) -> DecisionPage:
    """A page of up to `limit` decisions, joined from several pages of the store where few decisions match."""
    pages = [search.page(query, limit=limit, after=after, newer=newer)]
    while (
        (missing := limit - sum(len(page.decisions) for page in pages))
        and pages[-1].more
        and len(pages) < MAX_STORE_PAGES
    ):
        after = pages[-1].first if newer else pages[-1].last
        pages.append(search.page(query, limit=missing, after=after, newer=newer))
    in_order = pages[::-1] if newer else pages
    decisions: list[Decision] = [decision for page in in_order for decision in page.decisions]
    nonempty = [page for page in in_order if page.first is not None] or pages[:1]
    return DecisionPage(decisions, nonempty[0].first, nonempty[-1].last, pages[-1].more, nonempty[-1].reached)


def _count(search: DecisionSearch, query: DecisionQuery, page: DecisionPage, *, filtered: bool) -> dict[str, Any]:
    """How many decisions match, and whether that is all of them; None where they are not counted."""
    if not filtered or query.cursor is not None:
        return {"count": None, "complete": False}
    count = len(page.decisions)
    if page.more and count:
        rest = _read_page(search, query, MAX_COUNTED - count, after=page.last)
        return {"count": count + len(rest.decisions), "complete": not rest.more}
    return {"count": count, "complete": not page.more}
